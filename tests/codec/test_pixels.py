"""Pixels of networks and frames of users: one convention each, and exact conversions between them."""

import numpy as np
import torch

from videogen.codec.pixels import frames_to_pixels, pixels_to_frames, pixels_to_uint8


def make_frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 5, 6, 7, 3), dtype=np.uint8)


def test_every_level_survives_the_round_trip() -> None:
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 4, 8, 8, 3)
    assert np.array_equal(pixels_to_uint8(frames_to_pixels(frames)), frames)


def test_shapes_types_and_ranges() -> None:
    pixels = frames_to_pixels(make_frames())
    assert pixels.shape == (2, 3, 5, 6, 7) and pixels.dtype == torch.float32
    assert pixels.min() == -1 and pixels.max() == 1
    frames = pixels_to_frames(pixels)
    assert frames.shape == (2, 5, 6, 7, 3) and frames.dtype == torch.float32
    assert frames.min() == 0 and frames.max() == 1


def test_axes_go_where_they_belong() -> None:
    frames = make_frames()
    pixels = frames_to_pixels(frames)
    assert round((pixels[1, 2, 3, 4, 5].item() + 1) * 127.5) == frames[1, 3, 4, 5, 2]


def test_uint8_and_float_frames_are_the_same_pixels() -> None:
    frames = make_frames()
    expected = frames_to_pixels(frames)
    torch.testing.assert_close(frames_to_pixels(frames / 255), expected)
    torch.testing.assert_close(frames_to_pixels(torch.from_numpy(frames)), expected)


def test_frames_are_clamped_and_float32_from_any_dtype() -> None:
    pixels = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.bfloat16).view(1, 1, 5, 1, 1)
    pixels = pixels.expand(1, 3, 5, 1, 1)
    frames = pixels_to_frames(pixels)
    assert frames.dtype == torch.float32
    assert frames[0, :, 0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]
    assert pixels_to_uint8(pixels)[0, :, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert pixels_to_uint8(pixels.requires_grad_()).dtype == np.uint8
