"""How a network's output becomes a velocity: preconditioning on straight paths between clips and noise."""

from __future__ import annotations

from torch import Tensor


def flow_preconditioning(times: Tensor) -> tuple[Tensor, Tensor]:
    """Factors `c_skip` and `c_out` of the velocity `c_skip x_t + c_out F(c_in x_t)`, for times `(B,)`.

    Derived as in Karras et al. 2022 (eqs. 117, 131 and 138), for `x_t = (1 - t) x + t noise` with x of unit
    variance, t in [0, 1], and the target `noise - x`: `c_skip = (2t - 1) / s` and `c_out = 1 / sqrt(s)`,
    where `s = t^2 + (1 - t)^2` is the variance of `x_t`. `c_in`, which scales the input to unit variance,
    equals `c_out`. The network's own target has unit variance: minus the clip at t = 1, the noise at t = 0.
    """
    times = times.float()
    variance = times.square() + (1 - times).square()
    return (2 * times - 1) / variance, variance.rsqrt()


def per_clip(values: Tensor, like: Tensor) -> Tensor:
    """Values `(B,)` that go with clips `(B, C, f, h, w)`, in their dtype."""
    return values.to(like.dtype)[:, None, None, None, None]
