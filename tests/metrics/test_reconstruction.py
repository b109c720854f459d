"""PSNR: known answers, one per clip, the same for pixels and for frames."""

import math

import pytest
import torch

from videogen.metrics.reconstruction import FRAME_RANGE, PIXEL_RANGE, psnr


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
