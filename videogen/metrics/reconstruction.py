"""How close a reconstructed clip is to the original."""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_RANGE, FRAME_RANGE = 2.0, 1.0
"""`data_range` of pixels in [-1, 1], and of frames in [0, 1]."""


def psnr(clips: Tensor, reference: Tensor, data_range: float = PIXEL_RANGE) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB, `10 log10(data_range² / MSE)`; infinite for equal clips.

    The mean squared error is taken over the whole clip, not averaged frame by frame.

    Args:
        clips: `(B, ...)`, such as pixels `(B, 3, F, H, W)`; clamp them if only what is seen shall count.
        reference: The originals, of the same shape.
        data_range: From the darkest value to the brightest: 2 for pixels in [-1, 1], 1 for frames in [0, 1].

    Returns:
        `(B,)` float64.

    Raises:
        ValueError: If the shapes differ, there are no values, or `data_range` is not positive.
    """
    if clips.shape != reference.shape:
        raise ValueError(
            f"`clips` must have the shape of `reference` {tuple(reference.shape)}, got {tuple(clips.shape)}"
        )
    if clips.ndim < 2 or not clips.numel():
        raise ValueError(f"`clips` must be (B, ...) and not empty, got {tuple(clips.shape)}")
    if data_range <= 0:
        raise ValueError(f"`data_range` must be positive, got {data_range}")
    errors = (clips.double() - reference.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / errors)
