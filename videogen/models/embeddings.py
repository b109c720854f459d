"""Embeddings of the diffusion time that all denoisers share."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoidal_embedding(timesteps: Tensor, embedding_dim: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines and sines of each time at geometrically spaced frequencies.

    The position encoding of Vaswani et al. 2017, arXiv:1706.03762, section 3.5, applied to diffusion time.

    Args:
        timesteps: (B,), any real dtype; fractions are allowed.
        embedding_dim: number of channels; an odd one ends in a zero.
        max_period: the longest period is 2 pi times almost this.

    Returns:
        (B, embedding_dim), fp32, in [-1, 1]: first the cosines, then the sines.
    """
    half_dim = embedding_dim // 2
    steps = torch.arange(half_dim, dtype=torch.float32, device=timesteps.device)
    # Divided last, as the public weights were trained: at t = 1000 rounding shows in the fifth decimal.
    angles = timesteps.float()[:, None] * (-math.log(max_period) * steps / half_dim).exp()  # (B, half_dim)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, embedding_dim % 2))


class TimestepEmbedding(nn.Module):
    """A two-layer perceptron from the sinusoidal embedding to the vector that conditions the network.

    Args:
        in_dim: channels of the sinusoidal embedding.
        out_dim: channels of the result, and of the hidden layer.
        act: the activation between the layers.
        cond_dim: channels of an additional condition, such as an embedded guidance scale (Meng et al. 2022,
            arXiv:2210.03142); None for a network without one.
    """

    def __init__(
        self, in_dim: int, out_dim: int, act: Callable[[Tensor], Tensor] = F.silu, cond_dim: int | None = None
    ) -> None:
        super().__init__()
        self.act = act
        self.linear_1 = nn.Linear(in_dim, out_dim)
        self.linear_2 = nn.Linear(out_dim, out_dim)
        if cond_dim is not None:
            self.cond_proj = nn.Linear(cond_dim, in_dim, bias=False)

    def forward(self, hidden_states: Tensor, condition: Tensor | None = None) -> Tensor:
        """Embeds (B, in_dim), and optionally a condition (B, cond_dim), to (B, out_dim)."""
        if condition is not None:
            hidden_states = hidden_states + self.cond_proj(condition)
        return self.linear_2(self.act(self.linear_1(hidden_states)))


class StepSizeEmbedding(nn.Module):
    """Tells a network how far the next step goes (Frans et al. 2024, arXiv:2410.12557, section 3).

    It starts at zero. Whatever it learns, a step of size 0 stays zero: the sinusoids are taken less those
    of 0, and there are no biases. So the velocity at a single time is never touched.

    Args:
        in_dim: channels of the sinusoidal embedding.
        out_dim: channels of the result, and of the hidden layer.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.linear_1 = nn.Linear(in_dim, out_dim, bias=False)
        self.linear_2 = nn.Linear(out_dim, out_dim, bias=False)
        nn.init.zeros_(self.linear_2.weight)

    def forward(self, step_size: Tensor, dtype: torch.dtype) -> Tensor:
        """Embeds step sizes (B,), in [0, 1] as shares of the way from noise to clip, to (B, out_dim)."""
        sizes = 1000 * step_size.float()
        features = sinusoidal_embedding(sizes, self.in_dim)
        features = features - sinusoidal_embedding(torch.zeros_like(sizes), self.in_dim)
        return self.linear_2(F.silu(self.linear_1(features.to(dtype))))
