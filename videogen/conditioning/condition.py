"""The condition of a denoiser: latents of what is known of a clip, with the mask that says what that is.

The layout is that of Wan's image-to-video (Wan Team 2025, arXiv:2503.20314, section 5.1): a masked clip goes
through the codec, and the mask stands beside its latents with a channel for each frame of a latent frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.codec.contract import Codec


def num_condition_channels(latent_channels: int, codec: Codec) -> int:
    """Channels of the condition for latents of this codec, which have `latent_channels`."""
    return latent_channels + codec.compression[0]


def make_condition(codec: Codec, pixels: Tensor, mask: Tensor) -> Tensor:
    """What a denoiser is told of clips of which some pixels are known.

    Unknown pixels are grey when the clip is encoded, whatever they hold. Cells of the latents that have no
    known pixel are zero: so a clip of which nothing is known has a condition of zeros, which denoisers treat
    as none. The codec packs the frames of a latent frame by themselves, so that latent frames that are known
    as a whole have exactly the latents of the whole clip.

    Args:
        codec: Of the latents.
        pixels: `(B, 3, F, H, W)` in [-1, 1].
        mask: `(B, 1, F, H, W)`, 1 or True where a pixel is known, 0 elsewhere.

    Returns:
        `(B, C + t, f, h, w)`: latents, then for each of the t frames of a latent frame the share of known
        pixels in the cell, in [0, 1].

    Raises:
        ValueError: If a shape does not fit, or the mask holds anything but 0 and 1.
    """
    codec.check_pixel_shape(pixels.shape)
    expected = (len(pixels), 1, *pixels.shape[2:])
    if mask.shape != expected:
        raise ValueError(f"`mask` must be {expected} to go with `pixels`, got {tuple(mask.shape)}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("`mask` must be 1 where a pixel is known and 0 elsewhere, got other numbers")
    mask = mask.to(pixels)
    per_time, per_space = codec.compression
    frames = mask.unflatten(2, (-1, per_time))[:, 0].transpose(1, 2)  # (B, t, f, H, W)
    shares = F.avg_pool3d(frames, (1, per_space, per_space))  # (B, t, f, h, w)
    latents = codec.encode(torch.where(mask.bool(), pixels, 0.0))
    known = shares.amax(1, keepdim=True) > 0
    return torch.cat([torch.where(known, latents, 0.0), shares.to(latents.dtype)], dim=1)
