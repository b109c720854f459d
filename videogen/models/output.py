"""What networks return, unless `return_dict` is False: then it is a tuple of the same."""

from dataclasses import dataclass

import torch
from diffusers.utils.outputs import BaseOutput


@dataclass
class DenoiserOutput(BaseOutput):
    """The prediction of a denoiser.

    Attributes:
        sample: (B, C, f, h, w), unbounded: noise, velocity or clean latents, as the network was trained.
        attentions: Where they are asked for: what each block looks at, (B, tokens, L) float32 for the L
            words, the mean of its heads. The tokens are those of `grid_of`, frame by frame, row by row.
    """

    sample: torch.Tensor
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class GeneratorOutput(BaseOutput):
    """Clips of a generator.

    Attributes:
        sample: Latents (B, C, f, h, w).
    """

    sample: torch.Tensor


@dataclass
class DiscriminatorOutput(BaseOutput):
    """What a discriminator thinks of clips.

    Attributes:
        scores: (B,), unbounded: the higher the more real.
    """

    scores: torch.Tensor


@dataclass
class TokensOutput(BaseOutput):
    """What a Transformer knows of each token.

    Attributes:
        hidden_states: (N, n, D).
    """

    hidden_states: torch.Tensor
