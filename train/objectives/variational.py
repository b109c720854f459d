"""What variational objectives share: the likelihood of a clip, and the weight of divergences.

The bound is that of Kingma and Welling 2013, arXiv:1312.6114, eq. 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def negative_log_likelihood(errors: Tensor, least_std: float) -> Tensor:
    """Of clips under a normal distribution whose deviation is the best one for each clip, in nats.

    With D numbers in a clip it is `D/2 log(mean squared error)` up to a constant (sigma-VAE, Rybkin et al.
    2020, arXiv:2006.13202, eq. 6), so that no weight has to be found between likelihood and divergence.

    Args:
        errors: What is predicted less what is there, `(B, C, f, h, w)`.
        least_std: Smaller deviations do not count: what the codec's decoder forgives need not be coded.

    Returns:
        `(B,)`; 0 where the root mean squared error, with the least deviation added to it, is 1.
    """
    variance = errors.float().square().mean((1, 2, 3, 4)) + least_std**2
    return 0.5 * errors[0].numel() * variance.log()


def with_free_bits(divergences: Tensor, free_nats: float) -> Tensor:
    """Divergences `(B,)`, those below `free_nats` raised to it, where they cost nothing more.

    Kingma et al. 2016, arXiv:1606.04934, appendix C.8, for each clip.
    """
    return divergences.clamp(min=free_nats)


def warm_up(sample_ids: Sequence[int], num_clips: int) -> Tensor:
    """Weights `(B,)` in (0, 1] of divergences: they rise over the first clips of the stream.

    Sønderby et al. 2016, arXiv:1602.02282, section 2.3. By a clip's place in the stream and nothing else, a
    resumed run has the weights of one that was never stopped.
    """
    places = torch.tensor(sample_ids, dtype=torch.float32)
    return ((places + 1) / max(num_clips, 1)).clamp(max=1.0)


def check_variational(least_std: float, free_nats: float, warm_up_clips: int) -> None:
    """Raise ValueError where a setting of a variational objective is out of range."""
    if not 0 < least_std < 1:
        raise ValueError(f"`least_std` must be between 0 and 1, got {least_std}")
    for name, value in (("free_nats", free_nats), ("warm_up_clips", warm_up_clips)):
        if value < 0:
            raise ValueError(f"`{name}` must be at least 0, got {value}")
