"""Damages by degrees: nothing at strength 0, more with more, each clip from its own generator."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.shapes.dataset import ShapesClips
from videogen.metrics.damage import DAMAGES, MAX_NOISE_STD, damage
from videogen.sampling.noise import seeded_generator

PIXELS = ShapesClips(num_frames=8, size=32, seed=4).batch(range(3)).pixels


def damaged(name: str, strength: float, clips: slice = slice(None)) -> Tensor:
    generators = [seeded_generator(0, number) for number in range(len(PIXELS))]
    return damage(PIXELS[clips], name, strength, generators[clips])


@pytest.mark.parametrize("name", DAMAGES)
def test_more_strength_does_more(name: str) -> None:
    assert torch.equal(damaged(name, 0.0), PIXELS)
    changes = [float((damaged(name, strength) - PIXELS).abs().mean()) for strength in (0.2, 0.5, 1.0)]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert damaged(name, 1.0).abs().max() <= 1


@pytest.mark.parametrize("name", DAMAGES)
def test_a_clip_does_not_depend_on_its_batch(name: str) -> None:
    assert torch.equal(damaged(name, 0.7)[1:2], damaged(name, 0.7, slice(1, 2)))


def test_noise_has_the_deviation_that_is_said() -> None:
    gray = torch.zeros(1, 3, 8, 64, 64)
    noisy = damage(gray, "noise", 0.5, [seeded_generator(0)])
    assert float(noisy.std()) == pytest.approx(0.5 * MAX_NOISE_STD, rel=0.02)


def test_blur_keeps_the_mean_and_flat_places() -> None:
    spot = torch.full((1, 3, 2, 64, 64), -1.0)
    spot[..., 30:34, 30:34] = 1.0
    blurred = damage(spot, "blur", 0.6, [seeded_generator(0)])
    torch.testing.assert_close(blurred.mean(), spot.mean(), rtol=0, atol=1e-5)
    assert blurred.max() < 0.5 and torch.allclose(blurred[..., :8, :8], spot[..., :8, :8])


def test_warp_moves_pixels_and_invents_no_colours() -> None:
    warped = damaged("warp", 1.0)
    assert (warped.amax((2, 3, 4)) <= PIXELS.amax((2, 3, 4)) + 1e-5).all()
    assert (warped.amin((2, 3, 4)) >= PIXELS.amin((2, 3, 4)) - 1e-5).all()


def test_frames_that_freeze_repeat_the_frame_before() -> None:
    frozen = damaged("freeze", 1.0)
    assert torch.equal(frozen, PIXELS[:, :, :1].expand_as(PIXELS))
    half = damaged("freeze", 3 / 7)
    repeats = (half[:, :, 1:] == half[:, :, :-1]).all(1).flatten(2).all(2).sum(1)
    still = (PIXELS[:, :, 1:] == PIXELS[:, :, :-1]).all(1).flatten(2).all(2).sum(1)
    assert (repeats[still == 0] == 3).all()


def test_shuffled_frames_are_the_same_frames() -> None:
    shuffled = damaged("shuffle", 1.0)
    means = F.adaptive_avg_pool3d(PIXELS, (8, 4, 4)).flatten(3).sum(1)
    again = F.adaptive_avg_pool3d(shuffled, (8, 4, 4)).flatten(3).sum(1)
    torch.testing.assert_close(means.sum(1), again.sum(1), rtol=0, atol=1e-4)
    assert not torch.equal(shuffled, PIXELS)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`name` must be one of noise, blur, warp"):
        damage(PIXELS, "rust", 0.5, [])
    with pytest.raises(ValueError, match="`strength`"):
        damage(PIXELS, "noise", 1.5, [])
    with pytest.raises(ValueError, match="one per clip, 3, got 0"):
        damage(PIXELS, "noise", 0.5, [])
