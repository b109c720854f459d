"""How clips change over time: how fast things move, whether anything does, how much the picture flickers.

All take pixels `(B, 3, F, H, W)` in [-1, 1] and say something of each clip. They know nothing of what ought
to move: hold them against real clips of the same prompts.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FROZEN_CHANGE = 2 / 255
"""Of the brightness range: frames that nowhere differ by more are called equal."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SMOOTHING = 2.0  # sigma in pixels; steps of up to about as much are measured
_WINDOW = 3.0  # sigma in pixels, of the neighbourhood that is taken to move as one
_FLAT = 1e-4  # squared gradient, of a brightness in [0, 1], that counts as none


def motion_magnitude(clips: Tensor) -> Tensor:
    """How many pixels what is seen moves from one frame to the next.

    Optical flow by least squares in a neighbourhood of each pixel (Lucas and Kanade 1981, IJCAI), averaged
    with the strength of the edges there, so that empty background does not count. Along a straight edge only
    the motion across it can be seen: an outline that moves by d gives somewhat less than d.

    Args:
        clips: `(B, 3, F, H, W)` in [-1, 1], at least 2 frames.

    Returns:
        `(B,)` float64 in pixels per frame, 0 for blank clips; reliable up to about 2.

    Raises:
        ValueError: If the layout is wrong or there are too few frames.
    """
    luma = _smooth(_luma(_checked(clips, 2)), _SMOOTHING)  # (B, F, H, W)
    middle = (luma[:, 1:] + luma[:, :-1]) / 2
    change = luma[:, 1:] - luma[:, :-1]
    dy, dx = torch.gradient(middle, dim=(2, 3))
    xx, xy, yy, xt, yt = (
        _smooth(product, _WINDOW) for product in (dx * dx, dx * dy, dy * dy, dx * change, dy * change)
    )
    edges = xx + yy
    ridge = 1e-3 * edges + 1e-12  # leaves out what cannot be seen along an edge
    xx, yy = xx + ridge, yy + ridge
    determinant = xx * yy - xy * xy
    speed = torch.hypot(yy * xt - xy * yt, xx * yt - xy * xt) / determinant
    weights = torch.where(edges > _FLAT, edges, 0.0)
    total = weights.sum((1, 2, 3))
    return (weights * speed).sum((1, 2, 3)) / total.clamp(min=torch.finfo(total.dtype).tiny)


def flicker(clips: Tensor) -> Tensor:
    """How far brightness swings to and fro between frames, as a share of its range.

    A quarter of the mean absolute second difference over time: a whole picture that alternates by ±a gives a,
    a steady fade 0. Fast edges count too, as a pixel that an edge crosses changes abruptly.

    Args:
        clips: `(B, 3, F, H, W)` in [-1, 1], at least 3 frames.

    Returns:
        `(B,)` float64 in [0, 0.5].

    Raises:
        ValueError: If the layout is wrong or there are too few frames.
    """
    luma = _luma(_checked(clips, 3))
    swing = luma[:, 2:] - 2 * luma[:, 1:-1] + luma[:, :-2]
    return swing.abs().mean((1, 2, 3)) / 4


def frozen_share(clips: Tensor) -> Tensor:
    """The share of steps from frame to frame in which nothing changes.

    Nothing changes where no 4x4 block of the picture changes by more than `FROZEN_CHANGE` of the range in any
    colour: less cannot be seen.

    Args:
        clips: `(B, 3, F, H, W)` in [-1, 1], at least 2 frames of at least 4x4 pixels.

    Returns:
        `(B,)` float64 in [0, 1]; 1 for a clip that stands still from its first frame to its last.

    Raises:
        ValueError: If the layout is wrong, or there are too few frames or pixels.
    """
    frames = _checked(clips, 2)
    if min(frames.shape[3:]) < 4:
        raise ValueError(f"`clips` must have frames of at least 4x4 pixels, got {tuple(frames.shape)}")
    change = (frames[:, :, 1:] - frames[:, :, :-1]) / 2
    blocks = F.avg_pool3d(change, (1, 4, 4)).abs().amax((1, 3, 4))  # (B, F - 1)
    return (blocks <= FROZEN_CHANGE).double().mean(1)


def _checked(clips: Tensor, min_frames: int) -> Tensor:
    if clips.ndim != 5 or clips.shape[1] != 3 or clips.shape[2] < min_frames or not clips.numel():
        raise ValueError(
            f"`clips` must be (B, 3, F, H, W) with at least {min_frames} frames, got {tuple(clips.shape)}"
        )
    return clips.detach().double()


def _luma(clips: Tensor) -> Tensor:
    """Brightness `(B, F, H, W)` in [0, 1]."""
    weights = torch.tensor(_LUMA, dtype=clips.dtype, device=clips.device)
    return (torch.einsum("bcfhw,c->bfhw", clips, weights) + 1) / 2


def _smooth(values: Tensor, sigma: float) -> Tensor:
    """Gaussian in space, `(B, F, H, W)`; beyond the edge the last pixel goes on."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None]
    rows = values.flatten(0, 1)[:, None]  # (B*F, 1, H, W)
    rows = F.conv2d(F.pad(rows, (radius, radius, 0, 0), mode="replicate"), kernel[:, :, None])
    rows = F.conv2d(F.pad(rows, (0, 0, radius, radius), mode="replicate"), kernel[..., None])
    return rows.view(values.shape)
