"""PSNR and SSIM: known answers, one per clip, the same as by other means."""

import math

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio

from videogen.metrics.reconstruction import FRAME_RANGE, PIXEL_RANGE, psnr, ssim


@pytest.mark.parametrize(
    "error, expected", [(2.0, 0.0), (0.2, 20.0), (0.02, 40.0), (1.0, 20 * math.log10(2))]
)
def test_known_answers(error: float, expected: float) -> None:
    reference = torch.full((1, 3, 4, 8, 8), -1.0)
    assert psnr(reference + error, reference).item() == pytest.approx(expected, abs=1e-5)


def test_equal_clips_are_infinitely_close() -> None:
    clips = torch.zeros(2, 3, 4, 8, 8)
    assert psnr(clips, clips).tolist() == [math.inf, math.inf]


def test_clips_are_measured_one_by_one_over_all_their_frames() -> None:
    reference = torch.zeros(2, 3, 4, 8, 8)
    clips = reference.clone()
    clips[1, :, 0] = 0.2  # a quarter of the clip: the squared error is 0.01 on average
    assert psnr(clips, reference).tolist() == pytest.approx([math.inf, 10 * math.log10(4 / 0.01)])


def test_pixels_and_frames_have_the_same_psnr() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels, reference = torch.rand(2, 3, 3, 4, 8, 8, generator=generator) * 2 - 1
    as_frames = psnr((pixels + 1) / 2, (reference + 1) / 2, FRAME_RANGE)
    torch.testing.assert_close(psnr(pixels, reference, PIXEL_RANGE), as_frames, rtol=1e-6, atol=0)


def test_wrong_arguments_are_refused() -> None:
    clips = torch.zeros(2, 3, 4, 8, 8)
    with pytest.raises(ValueError, match="shape of `reference`"):
        psnr(clips, clips[:1])
    with pytest.raises(ValueError, match="not empty"):
        psnr(clips[:0], clips[:0])
    with pytest.raises(ValueError, match="`data_range`"):
        psnr(clips, clips, 0.0)


def make_pair(noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 3, 3, 16, 20, generator=generator) * 2 - 1
    return reference + noise * torch.randn(reference.shape, generator=generator), reference


def test_psnr_of_a_library_is_the_same() -> None:
    clips, reference = make_pair()
    theirs = [
        peak_signal_noise_ratio(original.numpy(), clip.numpy(), data_range=PIXEL_RANGE)
        for clip, original in zip(clips, reference, strict=True)
    ]
    assert psnr(clips, reference).tolist() == pytest.approx(theirs, rel=1e-5)


def ssim_by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    """Wang et al. 2004, equations 13 to 17, for one channel `(H, W)` in [-1, 1], where the window fits in."""
    offsets = torch.arange(-5, 6).double()
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = torch.outer(window, window) / window.sum() ** 2

    def local(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(values[None, None], kernel[None, None])[0, 0]

    x, y = x.double(), y.double()
    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PIXEL_RANGE) ** 2, (0.03 * PIXEL_RANGE) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def test_ssim_is_that_of_the_paper() -> None:
    clips, reference = make_pair()
    found = ssim(clips, reference)
    for clip, original, value in zip(clips, reference, found.tolist(), strict=True):
        planes = zip(clip.flatten(0, 1), original.flatten(0, 1), strict=True)
        assert value == pytest.approx(sum(ssim_by_definition(*pair) for pair in planes) / 9, rel=1e-6)


def test_ssim_of_equal_clips_is_one_and_falls_with_noise() -> None:
    _, reference = make_pair()
    assert ssim(reference, reference).tolist() == pytest.approx([1, 1])
    values = [float(ssim(make_pair(noise)[0], reference).mean()) for noise in (0.05, 0.2, 0.8)]
    assert 1 > values[0] > values[1] > values[2]


def test_ssim_refuses_what_it_cannot_compare() -> None:
    clips, reference = make_pair()
    with pytest.raises(ValueError, match="shape of `reference`"):
        ssim(clips[:1], reference)
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(clips[..., :10, :], reference[..., :10, :])
