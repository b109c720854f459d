"""Diagonal Gaussians, as variational networks have them for what is drawn: priors and posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videogen.sampling.noise import sample_noise

_LEAST_LOG_STD, _MOST_LOG_STD = -5.0, 2.0


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent normal distributions, float32.

    Attributes:
        mean: Of any shape, batch first.
        log_std: Of the same shape.
    """

    mean: Tensor
    log_std: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Gaussian:
        """Read from the output `(..., 2 Z)` of a network, with deviations between 0.7 % and 7.4.

        Args:
            parameters: Mean and logarithm of the deviation; zeros are the standard normal distribution.
        """
        mean, log_std = parameters.float().chunk(2, dim=-1)
        return cls(mean, log_std.clamp(_LEAST_LOG_STD, _MOST_LOG_STD))

    def sample(self, generators: Sequence[torch.Generator], temperature: float = 1.0) -> Tensor:
        """Draw, each item of the batch from its own generator; `temperature` scales the deviation."""
        noise = sample_noise(self.mean.shape[1:], generators).to(self.mean)
        return self.mean + temperature * self.log_std.exp() * noise

    def kl_from(self, prior: Gaussian) -> Tensor:
        """Kullback-Leibler divergence of this from a prior, in nats, of each number: the shape of `mean`."""
        ratio = 2 * (self.log_std - prior.log_std)
        distance = (self.mean - prior.mean).square() * (-2 * prior.log_std).exp()
        return 0.5 * (ratio.exp() + distance - 1 - ratio)
