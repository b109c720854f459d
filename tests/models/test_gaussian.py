"""Diagonal Gaussians against torch's own, and draws that belong to an item of the batch."""

import torch
from torch.distributions import Normal, kl_divergence

from tests.tiny_families import generators
from videogen.models.gaussian import Gaussian


def make(seed: int) -> Gaussian:
    return Gaussian.of(torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(seed)))


def test_divergence_is_that_of_torch() -> None:
    prior = make(0)
    posterior = make(1)
    expected = kl_divergence(
        Normal(posterior.mean, posterior.log_std.exp()), Normal(prior.mean, prior.log_std.exp())
    )
    torch.testing.assert_close(posterior.kl_from(prior), expected)


def test_zeros_are_the_standard_normal_and_nothing_is_far_from_itself() -> None:
    standard = Gaussian.of(torch.zeros(2, 6))
    assert not standard.mean.any() and not standard.log_std.any()
    assert not make(0).kl_from(make(0)).any()


def test_draws_have_the_mean_and_deviation() -> None:
    wide = Gaussian(torch.full((1, 20_000), 3.0), torch.full((1, 20_000), 0.5))
    drawn = wide.sample(generators(0))
    assert abs(drawn.mean() - 3) < 0.05
    assert abs(drawn.std() - wide.log_std[0, 0].exp()) < 0.05
    assert torch.equal(wide.sample(generators(0), temperature=0.0), wide.mean)


def test_a_draw_depends_on_its_own_generator() -> None:
    distribution = make(0)
    together = distribution.sample(generators(4, 5, 6))
    last = Gaussian(distribution.mean[2:], distribution.log_std[2:])
    assert torch.equal(last.sample(generators(6)), together[2:])
