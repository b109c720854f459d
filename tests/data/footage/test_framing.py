"""Framing: the shape of a clip, and the part of the picture that becomes it."""

from fractions import Fraction

import numpy as np

from videogen.data.footage.framing import (
    ASPECTS,
    best_size,
    crop_and_scale,
    crop_box,
    kept_share,
    sizes_of_aspects,
)


def test_a_crop_has_the_aspect_of_the_clip_and_lies_in_the_middle() -> None:
    assert crop_box(1280, 720, Fraction(1), (64, 64)) == (280, 0, 1000, 720)
    assert crop_box(63, 47, Fraction(1), (47, 63)) == (0, 0, 63, 47)
    left, top, right, bottom = crop_box(720, 576, Fraction(16, 15), (64, 64))  # PAL, whose pixels are wide
    assert (right - left) * 16 / 15 == bottom - top == 576
    assert left + right == 720


def test_the_share_that_is_left_is_that_of_the_box() -> None:
    for width, height, size in ((1280, 720, (64, 64)), (300, 700, (48, 88)), (64, 64, (64, 64))):
        left, top, right, bottom = crop_box(width, height, Fraction(1), size)
        share = (right - left) * (bottom - top) / (width * height)
        assert abs(share - kept_share(width, height, size)) < 1e-12


def test_the_size_is_chosen_that_crops_least_and_then_that_need_not_be_enlarged() -> None:
    sizes = [(64, 64), (48, 80), (80, 48), (128, 128)]
    assert best_size(1920, 1080, sizes) == (48, 80)
    assert best_size(1080, 1920, sizes) == (80, 48)
    assert best_size(500, 500, sizes) == (128, 128)
    assert best_size(100, 100, sizes) == (64, 64)
    assert best_size(40, 40, sizes) == (64, 64)


def test_sizes_of_usual_aspects_fit_the_codec_and_have_about_the_same_area() -> None:
    sizes = sizes_of_aspects(64, 64, 8)
    assert sizes[0] == (64, 64)
    assert len(sizes) == len(set(sizes)) == len(ASPECTS)
    for height, width in sizes:
        assert height % 8 == width % 8 == 0
        assert 0.8 < height * width / 64**2 < 1.25
    assert {(height, width) for width, height in sizes} == set(sizes)  # upright for every lying one


def test_scaling_down_averages_and_does_not_skip() -> None:
    checks = np.indices((256, 256)).sum(0) % 2 * 255
    picture = checks[..., None].repeat(3, axis=2).astype(np.uint8)
    small = crop_and_scale(picture, (0, 0, 256, 256), (16, 16))
    assert small.shape == (16, 16, 3)
    assert np.abs(small.astype(int) - 127).max() <= 2
