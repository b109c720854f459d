"""What lies behind the objects of the world `emoji`: one named colour, plain, shaded or with a texture."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.emoji.world import BACKDROP_COLOURS, Backdrop


def paint_backdrop(backdrop: Backdrop, height: int, width: int) -> Tensor:
    """`(3, H, W)` float32 in [-1, 1]; what is shaded is darker in light colours and lighter in dark ones."""
    rgb = torch.tensor(BACKDROP_COLOURS[backdrop.colour], dtype=torch.float32)[:, None, None]
    if backdrop.kind == "plain":
        return (rgb / 127.5 - 1.0).expand(3, height, width)
    sign = -1.0 if sum(BACKDROP_COLOURS[backdrop.colour]) > 3 * 127.5 else 1.0
    shaded = rgb + sign * backdrop.contrast * _shade(backdrop, height, width)
    return shaded.clamp_(0, 255).div_(127.5).sub_(1.0)


def _shade(backdrop: Backdrop, height: int, width: int) -> Tensor:
    """`(H, W)` in [0, 1]: how much of the contrast a pixel gets."""
    side = min(height, width)
    if backdrop.kind == "mottled":
        return _mottle(backdrop, height, width, side)
    rows = (torch.arange(height) + 0.5 - height / 2)[:, None] / side
    columns = (torch.arange(width) + 0.5 - width / 2) / side
    cos, sin = math.cos(backdrop.angle), math.sin(backdrop.angle)
    across, along = cos * columns + sin * rows, cos * rows - sin * columns
    if backdrop.kind == "gradient":
        return (across - across.min()) / (across.max() - across.min())
    pixel = 1 / (backdrop.period * side)  # in periods
    across, along = across / backdrop.period, along / backdrop.period
    if backdrop.kind == "striped":
        return _edge(0.25 - _to_centre(across), pixel)
    if backdrop.kind == "checkered":
        first, second = (_edge(0.25 - _to_centre(steps), pixel) for steps in (across, along))
        return first + second - 2 * first * second
    distance = (_to_centre(across) ** 2 + _to_centre(along) ** 2).sqrt()
    return _edge(0.28 - distance, pixel)


def _to_centre(steps: Tensor) -> Tensor:
    """Distance to the nearest whole number."""
    return (steps - steps.round()).abs()


def _edge(inside: Tensor, pixel: float) -> Tensor:
    """1 inside, 0 outside, and a ramp one pixel wide between."""
    return (inside / pixel + 0.5).clamp_(0, 1)


def _mottle(backdrop: Backdrop, height: int, width: int, side: int) -> Tensor:
    """Two octaves of smooth noise."""
    generator = torch.Generator().manual_seed(backdrop.seed)
    shade = torch.zeros(height, width)
    for octave in (1, 2):
        cells = [math.ceil(octave * length / (side * backdrop.period)) + 1 for length in (height, width)]
        noise = torch.rand(1, 1, *cells, generator=generator)
        shade += F.interpolate(noise, (height, width), mode="bicubic", align_corners=True)[0, 0] / octave
    return ((shade - shade.min()) / (shade.max() - shade.min()).clamp(min=1e-6)).clamp_(0, 1)
