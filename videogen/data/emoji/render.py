"""Composes scenes of the world `emoji` into clips, many at once, on any device.

Every object is a layer of colour times alpha, painted over what lies behind it (Porter and Duff,
"Compositing digital images", 1984, the operator "over"). A subject is sampled from the smallest level of its
artwork that is not below the wanted size, so that it is never reduced by more than `LEVEL_STEP` and does not
alias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.emoji.artwork import NUM_TICKS, SPRITE_SIZE, Artwork
from videogen.data.emoji.backdrops import paint_backdrop
from videogen.data.emoji.world import SIZES, EmojiObject, EmojiScene
from videogen.data.rendering import Rendering
from videogen.data.shapes.render import coverage
from videogen.data.shapes.world import ALPHA, ANGLE, COLOURS, RADIUS, SMALLEST_SCALE, X, Y

LEVEL_STEP = math.sqrt(2)
"""Between the sides of neighbouring levels: also the step between the sizes of the world."""


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
    layers = []
    for layer in range(num_layers):
        rows = [row for row, scene in enumerate(scenes) if layer < len(scene.objects)]
        painted = _paint_layer([scenes[row] for row in rows], layer, artwork, height, width, device)
        alpha = painted[:, 3]
        # In [-1, 1] a colour c in [0, 1] times alpha is 2 * c * alpha - alpha.
        if len(rows) == len(scenes):
            canvas.mul_(1 - alpha[:, None]).add_(painted[:, :3], alpha=2).sub_(alpha[:, None])
        else:
            behind = canvas[rows]
            canvas[rows] = behind.mul_(1 - alpha[:, None]).add_(painted[:, :3], alpha=2).sub_(alpha[:, None])
        layers.append((layer, rows, alpha))
    return Rendering(canvas, tuple(layers))


def level_sides(side: int) -> tuple[int, ...]:
    """The sides in pixels of the levels from which all subjects of a frame can be sampled, largest first."""
    largest = 2 * SIZES["large"] * side
    smallest = 2 * SIZES["small"] * SMALLEST_SCALE * side
    num_levels = math.ceil(math.log(largest / smallest, LEVEL_STEP)) + 1
    sides = (round(largest / LEVEL_STEP**level) for level in range(num_levels))
    return tuple(sorted({min(max(wanted, 1), SPRITE_SIZE) for wanted in sides}, reverse=True))


def level_of(wanted: np.ndarray, sides: tuple[int, ...]) -> np.ndarray:
    """Of levels with these sides, the smallest that is not below each of the wanted sides in pixels."""
    at_least = np.array(sides).reshape(-1, *[1] * wanted.ndim) >= wanted - 0.5
    return at_least.sum(0).clip(min=1) - 1


def _paint_layer(
    scenes: Sequence[EmojiScene],
    layer: int,
    artwork: Artwork,
    height: int,
    width: int,
    device: torch.device | str,
) -> Tensor:
    """The objects at one place of the order of scenes, all of which have one there.

    Returns:
        `(N, 4, F, H, W)` float32: red, green and blue in [0, 1] times alpha, and alpha.
    """
    num_frames = scenes[0].tracks.shape[1]
    painted = torch.zeros(len(scenes), 4, num_frames, height, width, device=device)
    subjects: list[tuple[int, EmojiObject]] = []
    for row, scene in enumerate(scenes):
        item = scene.objects[layer]
        if isinstance(item, EmojiObject):
            subjects.append((row, item))
        else:
            track = torch.from_numpy(scene.tracks[layer : layer + 1]).to(device)
            alpha = coverage(item.shape, track, height, width)
            colour = torch.tensor([*COLOURS[item.colour], 255], device=device) / 255
            torch.mul(colour[:, None, None, None], alpha, out=painted[row])
    if not subjects:
        return painted

    rows = np.array([row for row, _ in subjects])
    idxs = [item.subject_idx for _, item in subjects]
    tracks = np.stack([scenes[row].tracks[layer] for row in rows])
    frames = np.arange(num_frames)
    ticks = (np.array([scenes[row].ticks[layer] for row in rows])[:, None] + frames) % NUM_TICKS
    side = min(height, width)
    sides = level_sides(side)
    wanted = 2 * side * tracks[..., RADIUS]
    levels = level_of(wanted, sides)
    turned = np.broadcast_to((tracks[..., ANGLE] != 0).any(1, keepdims=True), wanted.shape)
    # Where the frame of every subject begins in `painted`, and its picture in the artwork.
    places = (rows[:, None] * 4 * num_frames + frames) * height * width
    sprites = np.array(idxs)[:, None] * NUM_TICKS + ticks

    for level, pixels in enumerate(artwork.levels(sides).pixels(idxs, device)):
        for is_turned in (False, True):
            chosen = (levels == level) & (turned == is_turned)
            if not chosen.any():
                continue
            # A sprite reaches half of one of its pixels beyond its side, and may be turned.
            reach = wanted[chosen].max() * (1 + 1 / sides[level]) * (math.sqrt(2) if is_turned else 1)
            sampled, index = sample_sprites(
                pixels.flatten(0, 1)[torch.from_numpy(sprites[chosen]).to(device)],
                torch.from_numpy(tracks[chosen]).to(device),
                min(math.ceil(reach) + 2, side),
                height,
                width,
            )
            planes = torch.arange(4, device=device)[:, None] * (num_frames * height * width)
            index = index[:, None] + planes + torch.from_numpy(places[chosen]).to(device)[:, None, None]
            painted.view(-1).scatter_(0, index.view(-1), sampled.view(-1))
    return painted


def sample_sprites(
    sprites: Tensor, tracks: Tensor, window: int, height: int, width: int
) -> tuple[Tensor, Tensor]:
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
