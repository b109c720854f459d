"""What every pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils.outputs import BaseOutput
from PIL import Image

from videogen.io import rounded_to_uint8


@dataclass
class VideoPipelineOutput(BaseOutput):
    """Generated clips.

    Attributes:
        frames: By `output_type`: `np` an array `(B, F, H, W, 3)` float32 in [0, 1]; `pt` a tensor
            `(B, F, 3, H, W)` of the same values, as in diffusers; `pil` B lists of F pictures; `latent` the
            latents `(B, C, f, h, w)`.
    """

    frames: Any  # a type checker that cannot know the output type would refuse every use of a union


class BadClipsError(FloatingPointError):
    """Some clips of a call show nothing; the others are in `output`.

    Attributes:
        bad_clips: For the index of each bad clip what is wrong with it.
        output: What the call would have returned, with all clips in their places; frames that are not finite
            are black in it.
    """

    def __init__(self, bad_clips: dict[int, str], output: VideoPipelineOutput) -> None:
        super().__init__(bad_clips, output)
        self.bad_clips, self.output = bad_clips, output

    def __str__(self) -> str:
        """Names every bad clip."""
        return "; ".join(f"clip {idx} {reason}" for idx, reason in sorted(self.bad_clips.items()))


def as_output_type(
    frames: torch.Tensor, output_type: str
) -> np.ndarray | torch.Tensor | list[list[Image.Image]]:
    """Frames `(B, F, H, W, 3)` in [0, 1] on the CPU as `np`, `pt` or `pil`."""
    if output_type == "pt":
        return frames.permute(0, 1, 4, 2, 3).contiguous()
    array = frames.numpy()
    if output_type == "np":
        return array
    return [[Image.fromarray(frame) for frame in clip] for clip in rounded_to_uint8(array)]
