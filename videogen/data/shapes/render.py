"""Draws scenes of the world `shapes` as anti-aliased clips, many at once, on any device.

Each shape is a signed distance (negative inside); the coverage of a pixel is the distance to the outline,
clamped to one pixel. The distances follow the formulas collected by Inigo Quilez ("2D distance functions"),
written for batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from videogen.data.rendering import Rendering
from videogen.data.shapes.world import BACKGROUNDS, COLOURS, REACH_ROTATED, SHAPES, Background, Scene

SQUARE_HALF_SIDE = 0.82
TRIANGLE_CIRCUMRADIUS = 1.15
STAR_OUTER, STAR_INNER = 1.1, 0.5
RING_MIDDLE, RING_HALF_WIDTH = 0.78, 0.22
CROSS_HALF_WIDTH = 0.34


def render(
    scenes: Sequence[Scene], size: int | tuple[int, int] = 64, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw scenes of equal length.

    Args:
        scenes: What to draw; all with the same number of frames.
        size: Side of the frames in pixels, or `(height, width)`; lengths scale with the shorter side.
        device: Where to draw.

    Returns:
        `(B, 3, F, H, W)` float32 in [-1, 1].

    Raises:
        ValueError: If `scenes` is empty.
    """
    return draw(scenes, size, device).pixels


def draw(
    scenes: Sequence[Scene], size: int | tuple[int, int] = 64, device: torch.device | str = "cpu"
) -> Rendering:
    """`render`, with where every object is."""
    if not scenes:
        raise ValueError("`scenes` is empty: there is nothing to render")
    height, width = (size, size) if isinstance(size, int) else size
    num_frames = scenes[0].tracks.shape[1]
    canvas = torch.stack([_paint_background(scene.background, height, width, device) for scene in scenes])
    canvas = canvas[:, :, None].repeat(1, 1, num_frames, 1, 1)  # (B, 3, F, H, W)

    layers = []
    for layer in range(max(len(scene.objects) for scene in scenes)):
        for shape in SHAPES:
            rows = [
                row
                for row, scene in enumerate(scenes)
                if layer < len(scene.objects) and scene.objects[layer].shape == shape
            ]
            if not rows:
                continue
            tracks = torch.from_numpy(np.stack([scenes[row].tracks[layer] for row in rows])).to(device)
            alphas = coverage(shape, tracks, height, width)
            layers.append((layer, rows, alphas))
            for row, alpha in zip(rows, alphas, strict=True):
                rgb = torch.tensor(COLOURS[scenes[row].objects[layer].colour], device=device) / 127.5 - 1.0
                canvas[row].lerp_(rgb[:, None, None, None], alpha)
    return Rendering(canvas, tuple(layers))


def coverage(shape: str, tracks: Tensor, height: int, width: int) -> Tensor:
    """How much of each pixel a shape covers, times its alpha.

    Args:
        shape: One of `SHAPES`.
        tracks: `(N, F, 5)`: x, y, radius (fractions of the frame), angle (radians), alpha.
        height: Rows of the frame.
        width: Columns of the frame.

    Returns:
        `(N, F, H, W)` float32 in [0, 1].
    """
    side = min(height, width)
    x, y, radius, angle, alpha = tracks[..., None].unbind(2)  # each (N, F, 1)
    x, y, radius = x * width, y * height, radius * side
    # Distances are computed in a window around each centre only: most of a frame is background.
    window = min(side, math.ceil(2 * REACH_ROTATED * float(radius.max())) + 3)
    steps = torch.arange(window, device=tracks.device)
    columns = (x - window / 2).round().clamp(0, width - window).long() + steps  # (N, F, K)
    rows = (y - window / 2).round().clamp(0, height - window).long() + steps
    px = ((columns + 0.5 - x) / radius)[:, :, None, :]
    py = ((rows + 0.5 - y) / radius)[:, :, :, None]
    if bool((angle != 0).any()):
        cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
        px, py = cos * px + sin * py, cos * py - sin * px
    inside = (0.5 - _DISTANCES[shape](px, py) * radius[..., None]).clamp_(0, 1) * alpha[..., None]
    index = rows[:, :, :, None] * width + columns[:, :, None, :]
    frames = torch.zeros(*tracks.shape[:2], height * width, device=tracks.device)
    return frames.scatter_(2, index.flatten(2), inside.flatten(2)).unflatten(2, (height, width))


def _paint_background(background: Background, height: int, width: int, device: torch.device | str) -> Tensor:
    """`(3, H, W)` in [-1, 1]; a gradient darkens light colours and lightens dark ones."""
    rgb = torch.tensor(BACKGROUNDS[background.name], dtype=torch.float32)[:, None, None].expand(
        3, height, width
    )
    if background.gradient:
        ramp_y = torch.linspace(-0.5, 0.5, height)[:, None] * math.sin(background.angle)
        ramp_x = torch.linspace(-0.5, 0.5, width) * math.cos(background.angle)
        reach = 0.5 * (abs(math.sin(background.angle)) + abs(math.cos(background.angle)))
        ramp = (ramp_x + ramp_y + reach) / (2 * reach)  # 0 to 1 across the frame
        sign = -1.0 if sum(BACKGROUNDS[background.name]) > 3 * 127.5 else 1.0
        rgb = (rgb + sign * background.gradient * ramp).clamp(0, 255)
    return (rgb / 127.5 - 1.0).to(device)


def _length(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt_()  # several times faster than torch.hypot on a CPU


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return _length(x, y) - 1.0


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, SQUARE_HALF_SIDE, SQUARE_HALF_SIDE)


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    dx, dy = x.abs() - half_width, y.abs() - half_height
    return _length(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    """Equilateral, one corner up: the largest distance to its three sides (exact along the sides)."""
    inradius = TRIANGLE_CIRCUMRADIUS / 2
    slanted = x.abs() * (math.sqrt(3) / 2) - y * 0.5
    return torch.maximum(slanted, y) - inradius


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points, one up: folded into one half point, then the distance to that edge's line."""
    sector = 2 * math.pi / 5
    turn = torch.atan2(x, -y)  # 0 at the upper point
    folded = (turn - sector * torch.round(turn / sector)).abs()
    distance = _length(x, y)
    # The edge runs from the point (0, -outer) to the notch at half a sector.
    notch_x, notch_y = STAR_INNER * math.sin(sector / 2), STAR_INNER * math.cos(sector / 2)
    edge_x, edge_y = notch_x, notch_y - STAR_OUTER
    length = math.hypot(edge_x, edge_y)
    normal_x, normal_y = -edge_y / length, edge_x / length
    return distance * torch.sin(folded) * normal_x + (distance * torch.cos(folded) - STAR_OUTER) * normal_y


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (_length(x, y) - RING_MIDDLE).abs() - RING_HALF_WIDTH


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 1.0, CROSS_HALF_WIDTH), _box(x, y, CROSS_HALF_WIDTH, 1.0))


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}
