"""The one place where the pixels of networks become the frames of users, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from videogen.io import rounded_to_uint8


def pixels_to_frames(pixels: Tensor) -> Tensor:
    """Pixels `(B, 3, F, H, W)` in [-1, 1] to frames `(B, F, H, W, 3)` float32 in [0, 1], clamped."""
    return ((pixels.float() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1)


def frames_to_pixels(frames: np.ndarray | Tensor) -> Tensor:
    """Frames `(B, F, H, W, 3)`, uint8 or float in [0, 1], to pixels `(B, 3, F, H, W)` float32 in [-1, 1]."""
    frames = torch.as_tensor(frames)
    scaled = frames / 255.0 if frames.dtype == torch.uint8 else frames.float()
    return scaled.permute(0, 4, 1, 2, 3) * 2 - 1


def pixels_to_uint8(pixels: Tensor) -> np.ndarray:
    """Pixels `(B, 3, F, H, W)` in [-1, 1] to frames `(B, F, H, W, 3)` uint8, rounded to the nearest level."""
    return rounded_to_uint8(pixels_to_frames(pixels).detach().cpu().numpy())
