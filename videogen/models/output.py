"""What every denoiser returns."""

from dataclasses import dataclass

import torch
from diffusers.utils.outputs import BaseOutput


@dataclass
class DenoiserOutput(BaseOutput):
    """The prediction of a denoiser.

    Attributes:
        sample: (B, C, f, h, w), unbounded: noise, velocity or clean latents, as the network was trained.
    """

    sample: torch.Tensor
