"""Composes scenes of the world `emoji` into clips, many at once, on any device.

Every object is a layer of colour times alpha, painted over what lies behind it (Porter and Duff, "Compositing
digital images", 1984, the operator "over"). A subject is sampled from the level of its artwork that is the
smallest one not below the wanted size, so that it is never reduced by more than `LEVEL_STEP` and does not alias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.emoji.artwork import NUM_TICKS, SPRITE_SIZE, Artwork
from videogen.data.emoji.backdrops import paint_backdrop
from videogen.data.emoji.world import SIZES, EmojiObject, EmojiScene
from videogen.data.shapes.render import coverage
from videogen.data.shapes.world import ALPHA, ANGLE, COLOURS, RADIUS, SMALLEST_SCALE, ShapeObject, X, Y

LEVEL_STEP = math.sqrt(2)
"""Between the sides of neighbouring levels: also the step between the sizes of the world."""


@dataclass(frozen=True)
class Rendering:
    """Clips, and where every object is in them.

    Attributes:
        pixels: `(B, 3, F, H, W)` float32 in [-1, 1].
        coverage: `(B, L, F, H, W)` float32 in [0, 1]: how much of each pixel an object takes, whether or not
            something is in front of it; 0 where a scene has fewer than L objects.
    """

    pixels: Tensor
    coverage: Tensor

    def visible(self) -> Tensor:
        """`(B, L, F, H, W)` in [0, 1]: `coverage` without what later objects hide."""
        shown, free = [], torch.ones_like(self.coverage[:, 0])
        for layer in reversed(self.coverage.unbind(1)):
            shown.append(layer * free)
            free = free * (1 - layer)
        return torch.stack(shown[::-1], dim=1)


def render(
    scenes: Sequence[EmojiScene],
    artwork: Artwork,
    size: int | tuple[int, int] = 64,
    device: torch.device | str = "cpu",
) -> Rendering:
    """Draw scenes of equal length.

    Args:
        scenes: What to draw; all with the same number of frames.
        artwork: Where the subjects are.
        size: Side of the frames in pixels, or `(height, width)`; lengths scale with the shorter side.
        device: Where to draw.

    Raises:
        ValueError: If `scenes` is empty.
    """
    if not scenes:
        raise ValueError("`scenes` is empty: there is nothing to render")
    height, width = (size, size) if isinstance(size, int) else size
    num_frames = scenes[0].tracks.shape[1]
    num_layers = max(len(scene.objects) for scene in scenes)
    canvas = torch.stack([paint_backdrop(scene.backdrop, height, width) for scene in scenes]).to(device)
    canvas = canvas[:, :, None].repeat(1, 1, num_frames, 1, 1)  # (B, 3, F, H, W)
    covered = torch.zeros(len(scenes), num_layers, num_frames, height, width, device=device)

    for layer in range(num_layers):
        present = [row for row, scene in enumerate(scenes) if layer < len(scene.objects)]
        subjects = [row for row in present if isinstance(scenes[row].objects[layer], EmojiObject)]
        if subjects:
            painted = _draw_subjects([scenes[row] for row in subjects], layer, artwork, height, width, device)
            alpha = painted[:, 3]
            rows = torch.tensor(subjects, device=device)
            behind = canvas[rows] if len(subjects) < len(scenes) else canvas
            over = behind.mul_(1 - alpha[:, None]).add_(painted[:, :3], alpha=2).sub_(alpha[:, None])
            if over is not canvas:
                canvas[rows] = over
            covered[rows, layer] = alpha
        for row in present:
            item = scenes[row].objects[layer]
            if isinstance(item, ShapeObject):
                track = torch.from_numpy(scenes[row].tracks[layer : layer + 1]).to(device)
                alpha = coverage(item.shape, track, height, width)[0]
                rgb = torch.tensor(COLOURS[item.colour], device=device) / 127.5 - 1.0
                canvas[row].lerp_(rgb[:, None, None, None], alpha)
                covered[row, layer] = alpha
    return Rendering(canvas, covered)


def level_sides(side: int) -> tuple[int, ...]:
    """The sides in pixels of the levels from which all subjects of a frame can be sampled, largest first."""
    largest = 2 * SIZES["large"] * side
    smallest = 2 * SIZES["small"] * SMALLEST_SCALE * side
    num_levels = math.ceil(math.log(largest / smallest, LEVEL_STEP)) + 1
    sides = (round(largest / LEVEL_STEP**level) for level in range(num_levels))
    return tuple(sorted({min(max(wanted, 1), SPRITE_SIZE) for wanted in sides}, reverse=True))


def _draw_subjects(
    scenes: Sequence[EmojiScene],
    layer: int,
    artwork: Artwork,
    height: int,
    width: int,
    device: torch.device | str,
) -> Tensor:
    """One layer of scenes whose object in it is a subject.

    Returns:
        `(N, 4, F, H, W)` float32: red, green and blue in [0, 1] times alpha, and alpha.
    """
    side = min(height, width)
    sides = level_sides(side)
    objects = [scene.objects[layer] for scene in scenes]
    subject_idxs = [item.subject_idx for item in objects if isinstance(item, EmojiObject)]
    levels = artwork.levels(sides).pixels(subject_idxs, device)

    tracks = np.stack([scene.tracks[layer] for scene in scenes])
    num_clips, num_frames, _ = tracks.shape
    ticks = (np.array([scene.ticks[layer] for scene in scenes])[:, None] + np.arange(num_frames)) % NUM_TICKS
    sprites = np.array(subject_idxs)[:, None] * NUM_TICKS + ticks
    wanted = 2 * side * tracks[..., RADIUS]
    level_of = (np.array(sides)[:, None, None] >= wanted - 0.5).sum(0).clip(min=1) - 1
    turned = np.repeat((tracks[..., ANGLE] != 0).any(1), num_frames)

    columns = torch.from_numpy(tracks).flatten(0, 1).to(device)
    sprite_of = torch.from_numpy(sprites).flatten().to(device)
    out = torch.zeros(num_clips * num_frames, 4, height * width, device=device)
    for level, pixels in enumerate(levels):
        for is_turned in (False, True):
            chosen = np.nonzero((level_of.ravel() == level) & (turned == is_turned))[0]
            if not chosen.size:
                continue
            largest = wanted.ravel()[chosen].max() * (math.sqrt(2) if is_turned else 1)
            window = min(math.ceil(largest) + 2, side)
            rows = torch.from_numpy(chosen).to(device)
            sampled, index = _sample(
                pixels.flatten(0, 1)[sprite_of[rows]], columns[rows], window, height, width
            )
            out[rows] = out[rows].scatter_(2, index[:, None].expand(-1, 4, -1), sampled)
    return out.view(num_clips, num_frames, 4, height, width).transpose(1, 2)


def _sample(sprites: Tensor, tracks: Tensor, window: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Sample sprites in a window around their places.

    Args:
        sprites: `(N, 4, S, S)` uint8.
        tracks: `(N, 5)`.
        window: Side of the window in pixels.
        height: Rows of the frame.
        width: Columns of the frame.

    Returns:
        `(N, 4, window * window)` in [0, 1], and `(N, window * window)` where these pixels are in the frame.
    """
    side = min(height, width)
    x, y = tracks[:, X, None] * width, tracks[:, Y, None] * height  # (N, 1)
    radius = tracks[:, RADIUS, None] * side
    steps = torch.arange(window, device=tracks.device)
    columns = (x - window / 2).round().clamp(0, width - window).long() + steps  # (N, K)
    rows = (y - window / 2).round().clamp(0, height - window).long() + steps
    right = ((columns + 0.5 - x) / radius)[:, None, :].expand(-1, window, -1)
    down = ((rows + 0.5 - y) / radius)[:, :, None].expand(-1, -1, window)
    angle = tracks[:, ANGLE, None, None]
    if bool((angle != 0).any()):
        cos, sin = torch.cos(angle), torch.sin(angle)
        right, down = cos * right + sin * down, cos * down - sin * right
    grid = torch.stack([right, down], dim=-1)
    sampled = F.grid_sample(sprites.float(), grid, align_corners=False)
    sampled = sampled.mul_(tracks[:, ALPHA, None, None, None] / 255)
    return sampled.flatten(2), (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
