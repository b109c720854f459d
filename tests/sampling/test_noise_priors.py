"""Noise priors: unit variance, how alike frames are, and noise that belongs to its clip."""

import pytest
import torch

from videogen.sampling.noise import (
    NOISE_PRIORS,
    sample_noise,
    sample_offset,
    sample_prior_noise,
    seeded_generator,
)

SHAPE = (4, 5, 16, 16)


def draw(prior: str, strength: float = 1.0, num_clips: int = 16) -> torch.Tensor:
    generators = [seeded_generator(0, idx) for idx in range(num_clips)]
    return sample_prior_noise(SHAPE, generators, prior, strength)


def frame_covariances(noise: torch.Tensor) -> torch.Tensor:
    """`(f, f)`, over all clips, channels and places."""
    return torch.cov(noise.transpose(0, 2).flatten(1))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("prior", NOISE_PRIORS)
def test_frames_are_as_alike_as_the_prior_says(prior: str, strength: float) -> None:
    noise = draw(prior, strength)
    assert noise.shape == (16, *SHAPE) and noise.dtype == torch.float32
    share = strength**2 / (1 + strength**2)
    distances = (torch.arange(5)[:, None] - torch.arange(5)).abs()
    expected = {
        "independent": torch.eye(5),
        "mixed": torch.eye(5) * (1 - share) + share,
        "progressive": (share**0.5) ** distances,
    }[prior]
    torch.testing.assert_close(frame_covariances(noise), expected, rtol=0, atol=0.04)
    assert noise.mean().abs() < 0.03


@pytest.mark.parametrize("prior", NOISE_PRIORS)
def test_places_channels_and_clips_share_nothing(prior: str) -> None:
    noise = draw(prior, 2.0)[:, :, 1]  # one frame, (B, C, h, w)
    for axis in range(4):
        shifted = noise.roll(1, axis)
        assert (noise * shifted).mean().abs() < 0.03


@pytest.mark.parametrize("prior", NOISE_PRIORS)
def test_noise_does_not_depend_on_the_batch(prior: str) -> None:
    alone = sample_prior_noise(SHAPE, [seeded_generator(0, 3)], prior, 1.5)
    assert torch.equal(draw(prior, 1.5)[3], alone[0])


def test_independent_noise_is_that_of_the_pipelines() -> None:
    assert torch.equal(
        draw("independent", 1.0, 2), sample_noise(SHAPE, [seeded_generator(0, i) for i in (0, 1)])
    )


def test_an_offset_is_one_for_a_channel_of_a_clip() -> None:
    offsets = sample_offset(200, [seeded_generator(0, idx) for idx in range(10)])
    assert offsets.shape == (10, 200, 1, 1, 1)
    assert abs(offsets.std() - 1) < 0.05 and offsets.mean().abs() < 0.05
