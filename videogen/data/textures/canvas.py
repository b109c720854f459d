"""Still pictures of textured dead leaves, large enough to cut many moving clips from.

Dead leaves (Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001) are shapes that fall on
each other with radii r of density r^-3: what remains visible has the occlusions, the edges at all scales and
the spectrum of photographs. Within a leaf lies noise with a power spectrum of f^(-2a), as surfaces have.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

CANVAS_SIZE = 384
"""Side of a canvas in pixels."""
RADII = (3.0, 160.0)
"""The smallest and the largest radius of a leaf, in pixels of a canvas."""

_NUM_LEAVES = 900
_TILE_SIZE, _NUM_TILES = 256, 48
_REC601 = np.array([[1.0, 0.0, 1.402], [1.0, -0.344, -0.714], [1.0, 1.772, 0.0]], np.float32)  # YCbCr to RGB


@lru_cache(maxsize=2)
def leaves_canvas(seed: int, canvas_idx: int) -> Tensor:
    """The canvas at a position of a stream: `(1, 3, CANVAS_SIZE, CANVAS_SIZE)`, mostly in [-1, 1]."""
    rng = np.random.default_rng([seed, canvas_idx])
    canvas = np.empty((CANVAS_SIZE, CANVAS_SIZE, 3), np.float32)
    colours = _colours(rng, _NUM_LEAVES)
    contrast = rng.uniform(0.2, 1.5)
    canvas[:] = _surface(rng, colours[0], contrast, CANVAS_SIZE, CANVAS_SIZE)
    smallest, largest = RADII[0] * math.exp(rng.uniform(0, 1.5)), RADII[1]
    share = rng.random(_NUM_LEAVES)
    radii = (smallest**-2 - share * (smallest**-2 - largest**-2)) ** -0.5  # density r^-3
    for radius, colour in zip(radii, colours, strict=True):
        y, x = rng.uniform(0, CANVAS_SIZE, 2)
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        bottom, right = (min(CANVAS_SIZE, int(place + radius) + 1) for place in (y, x))
        down = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - y) / radius
        across = (np.arange(left, right, dtype=np.float32) + 0.5 - x) / radius
        inside = leaf_distance(rng, across, down) < 0
        surface = _surface(rng, colour, contrast, bottom - top, right - left)
        window = canvas[top:bottom, left:right]
        np.copyto(window, surface, where=inside[..., None])
    return torch.from_numpy(canvas).permute(2, 0, 1)[None].contiguous()


def leaf_distance(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """How far points are outside of a leaf of radius 1 around the origin, roughly; negative within it.

    The leaf is a disc, an ellipse, a convex polygon, a bar or a ring, turned by any angle.

    Args:
        rng: Decides which leaf it is.
        x: Horizontal positions.
        y: Vertical positions, which broadcast against `x`.
    """
    kind, angle, width = rng.integers(5), rng.uniform(0, 2 * math.pi), rng.uniform(0.06, 0.7)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    along, aside = cos * x + sin * y, cos * y - sin * x
    if kind == 0:
        return np.hypot(x, y) - 1
    if kind == 1:
        return (np.hypot(along, aside / np.float32(width)) - 1) * np.float32(width)
    if kind == 2:
        sides = int(rng.integers(3, 7))
        angles = 2 * math.pi * (np.arange(sides) + rng.uniform(-0.3, 0.3, sides)) / sides
        reaches = rng.uniform(0.4, 0.8, sides)
        planes = [
            np.float32(math.cos(a)) * along + np.float32(math.sin(a)) * aside - np.float32(reach)
            for a, reach in zip(angles, reaches, strict=True)
        ]
        return np.maximum(np.maximum.reduce(planes), np.hypot(x, y) - 1)
    if kind == 3:
        return np.maximum(np.abs(along) - np.float32(0.9), np.abs(aside) - np.float32(width * 0.6))
    return np.abs(np.hypot(x, y) - np.float32(1 - width / 2)) - np.float32(width / 2)


def _colours(rng: np.random.Generator, count: int) -> Floats:
    """Colours `(count, 3)` as luminance, blue and red difference: a common mood, and mostly little chroma."""
    mood = rng.normal(0, [0.35, 0.07, 0.07])
    spread = np.exp(rng.normal([-0.9, -2.7, -2.7], [0.5, 0.8, 0.8]))
    colours = mood + rng.laplace(0, spread, (count, 3))
    colours[:, 0] = np.where(rng.random(count) < 0.8, colours[:, 0], rng.uniform(-0.95, 0.95, count))
    return colours.clip([-0.98, -0.5, -0.5], [0.98, 0.5, 0.5]).astype(np.float32)


def _surface(rng: np.random.Generator, colour: Floats, contrast: float, height: int, width: int) -> Floats:
    """`(height, width, 3)`: a colour with shading and texture."""
    tile = _tiles()[rng.integers(_NUM_TILES)]
    top, left = rng.integers(_TILE_SIZE, size=2)
    rows, columns = (np.arange(top, top + height), np.arange(left, left + width))
    strength = np.float32(min(0.5, contrast * rng.exponential(0.15)))
    luminance = strength * tile[np.ix_(rows % _TILE_SIZE, columns % _TILE_SIZE)]
    slope_y, slope_x = rng.normal(0, 0.2, 2).astype(np.float32)
    luminance += np.linspace(-slope_y, slope_y, height, dtype=np.float32)[:, None]
    luminance += np.linspace(-slope_x, slope_x, width, dtype=np.float32)
    tint = _REC601 @ (rng.normal(0, 0.15, 3).astype(np.float32) * np.array([0, 1, 1], np.float32))
    return luminance[..., None] * (1 + tint) + _REC601 @ colour


@lru_cache(maxsize=1)
def _tiles() -> Floats:
    """Noise `(_NUM_TILES, _TILE_SIZE, _TILE_SIZE)` of unit variance, its amplitudes falling as f^-a.

    Exponents a lie between 0.6 and 1.8; every third tile is stretched, as wood and cloth are.
    """
    rng = np.random.default_rng(0)
    frequencies = np.fft.fftfreq(_TILE_SIZE)[:, None], np.fft.rfftfreq(_TILE_SIZE)
    tiles = []
    for idx in range(_NUM_TILES):
        angle, stretch = rng.uniform(0, math.pi), rng.uniform(2, 8) if idx % 3 == 0 else 1.0
        along = math.cos(angle) * frequencies[1] + math.sin(angle) * frequencies[0]
        aside = math.cos(angle) * frequencies[0] - math.sin(angle) * frequencies[1]
        amplitude = np.hypot(along * stretch, aside)
        amplitude[0, 0] = 1
        amplitude = amplitude ** -rng.uniform(0.6, 1.8)
        amplitude[0, 0] = 0
        phases = np.exp(2j * math.pi * rng.random(amplitude.shape))
        tile = np.fft.irfft2(amplitude * phases, (_TILE_SIZE, _TILE_SIZE))
        tiles.append(tile / tile.std())
    return np.stack(tiles).astype(np.float32)
