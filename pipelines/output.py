"""What every pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils.outputs import BaseOutput
from PIL import Image


@dataclass
class VideoPipelineOutput(BaseOutput):
    """Generated clips.

    Attributes:
        frames: By `output_type`: `np` an array `(B, F, H, W, 3)` float32 in [0, 1]; `pt` a tensor
            `(B, F, 3, H, W)` of the same values, as in diffusers; `pil` B lists of F pictures; `latent` the
            latents `(B, C, f, h, w)`.
    """

    frames: Any  # a type checker that cannot know the output type would refuse every use of a union


def as_output_type(
    frames: torch.Tensor, output_type: str
) -> np.ndarray | torch.Tensor | list[list[Image.Image]]:
    """Frames `(B, F, H, W, 3)` in [0, 1] on the CPU as `np`, `pt` or `pil`."""
    if output_type == "pt":
        return frames.permute(0, 1, 4, 2, 3).contiguous()
    array = frames.numpy()
    if output_type == "np":
        return array
    return [[Image.fromarray(frame) for frame in clip] for clip in (array * 255).round().astype("uint8")]
