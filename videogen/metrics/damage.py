"""Ways to spoil clips by degrees: what a feature network learns to notice, and what metrics are tried on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_NOISE_STD = 0.6  # in units of [-1, 1]
MAX_BLUR_SIGMA = 3 / 64  # of the shorter side
MAX_WARP = 5 / 64  # standard deviation of the shifts, of the shorter side
_WARP_CELLS = 8  # along each side: between their corners the shifts are interpolated


def damage(pixels: Tensor, name: str, strength: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Spoil clips.

    Args:
        pixels: `(B, 3, F, H, W)` in [-1, 1].
        name: A key of `DAMAGES`.
        strength: From 0, which changes nothing, to 1.
        generators: One per clip.

    Returns:
        Pixels of the same shape, in [-1, 1].

    Raises:
        ValueError: If the name is unknown, the strength out of range, or there is not one generator per clip.
    """
    if name not in DAMAGES:
        raise ValueError(f"`name` must be one of {', '.join(DAMAGES)}, got {name!r}")
    if not 0 <= strength <= 1:
        raise ValueError(f"`strength` must be between 0 and 1, got {strength}")
    if len(generators) != len(pixels):
        raise ValueError(f"`generators` must be one per clip, {len(pixels)}, got {len(generators)}")
    if strength == 0:
        return pixels.clone()
    spoiled = [
        DAMAGES[name](clip, strength, generator) for clip, generator in zip(pixels, generators, strict=True)
    ]
    return torch.stack(spoiled).clamp(-1, 1)


def _noise(clip: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """White noise, anew in each frame."""
    noise = torch.randn(clip.shape, generator=generator, device=generator.device)
    return clip + strength * MAX_NOISE_STD * noise.to(clip)


def _blur(clip: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A Gaussian in space, the same for all frames."""
    sigma = strength * MAX_BLUR_SIGMA * min(clip.shape[2:])
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=clip.dtype, device=clip.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None]
    for axis in (2, 3):
        rows = clip.movedim(axis, -1)
        padded = F.pad(rows.flatten(0, -2)[:, None], (radius, radius), mode="replicate")
        clip = F.conv1d(padded, kernel).view(rows.shape).movedim(-1, axis)
    return clip


def _warp(clip: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Smooth random shifts, anew in each frame: outlines come apart."""
    _, num_frames, height, width = clip.shape
    corners = torch.randn(
        num_frames, 2, _WARP_CELLS + 1, _WARP_CELLS + 1, generator=generator, device=generator.device
    )
    shifts = F.interpolate(corners.to(clip), (height, width), mode="bicubic", align_corners=True)
    shifts = 2 * strength * MAX_WARP * shifts  # grid_sample counts from -1 to 1 across the frame
    identity = torch.eye(2, 3, dtype=clip.dtype, device=clip.device).expand(num_frames, 2, 3)
    grid = F.affine_grid(identity, [num_frames, 3, height, width], align_corners=False)
    frames = F.grid_sample(
        clip.movedim(1, 0), grid + shifts.movedim(1, -1), padding_mode="border", align_corners=False
    )
    return frames.movedim(0, 1)


def _freeze(clip: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A share of the frames, at random places, repeats the frame before it."""
    num_frames = clip.shape[1]
    num_frozen = round(strength * (num_frames - 1))
    order = torch.randperm(num_frames - 1, generator=generator, device=generator.device)
    frozen = set((1 + order[:num_frozen]).tolist())
    shown, current = [], 0
    for frame in range(num_frames):
        current = current if frame in frozen else frame
        shown.append(current)
    return clip[:, shown]


def _shuffle(clip: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A share of the frames, at random places, stands in random order."""
    num_frames = clip.shape[1]
    num_moved = round(strength * num_frames)
    places = torch.randperm(num_frames, generator=generator, device=generator.device)[:num_moved]
    order = list(range(num_frames))
    for place, frame in zip(sorted(places.tolist()), places.tolist(), strict=True):
        order[place] = frame
    return clip[:, order]


DAMAGES: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "warp": _warp,
    "freeze": _freeze,
    "shuffle": _shuffle,
}
"""Each takes a clip `(3, F, H, W)`, a strength above 0 and a generator."""
