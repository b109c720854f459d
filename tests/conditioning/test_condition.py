"""The condition: known latents exactly, nothing of unknown pixels, and the mask in its cells."""

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from tests.tiny import TINY_CODEC, randomise
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.image_autoencoder import ImageAutoencoder
from videogen.conditioning.condition import make_condition, num_condition_channels
from videogen.conditioning.masks import draw_masks
from videogen.sampling.noise import seeded_generator


@pytest.fixture(scope="module")
def codec() -> VideoAutoencoder:
    codec = VideoAutoencoder(**TINY_CODEC)
    randomise(codec)
    return codec.eval()


def make_pixels(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_latent_frames_that_are_known_are_those_of_the_whole_clip(codec: VideoAutoencoder) -> None:
    pixels = make_pixels(2, 3, 12, 16, 24)
    mask = torch.zeros(2, 1, 12, 16, 24)
    mask[0, :, :4] = 1
    mask[1, :, 4:] = 1
    condition = make_condition(codec, pixels, mask)
    assert condition.shape == (2, num_condition_channels(4, codec), 3, 2, 3) and condition.shape[1] == 8
    latents, shares = condition.split(4, dim=1)
    whole = codec.encode(pixels)
    torch.testing.assert_close(latents[0, :, 0], whole[0, :, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(latents[1, :, 1:], whole[1, :, 1:], rtol=0, atol=1e-6)
    assert shares[0, :, 0].eq(1).all() and shares[1, :, 1:].eq(1).all()
    assert not condition[0, :, 1:].any() and not condition[1, :, 0].any()


@torch.no_grad()
def test_the_mask_stands_frame_by_frame_in_its_cells(codec: VideoAutoencoder) -> None:
    mask = torch.zeros(1, 1, 8, 16, 16)
    mask[0, 0, 5, :8, 8:] = 1  # the second frame of the second latent frame, one cell
    mask[0, 0, 7, 8:10, :8] = 1  # its fourth, a quarter of a cell
    latents, shares = make_condition(codec, make_pixels(1, 3, 8, 16, 16), mask.bool()).split(4, dim=1)
    expected = torch.zeros(1, 4, 2, 2, 2)
    expected[0, 1, 1, 0, 1] = 1
    expected[0, 3, 1, 1, 0] = 0.25
    assert torch.equal(shares, expected)
    assert torch.equal(latents.ne(0).any(1), expected.gt(0).any(1))


@torch.no_grad()
def test_unknown_pixels_have_no_influence(codec: VideoAutoencoder) -> None:
    pixels = make_pixels(6, 3, 8, 16, 16)
    mask = draw_masks((8, 16, 16), [seeded_generator(0, idx) for idx in range(6)])
    assert 0 < mask.mean() < 1
    other = torch.where(mask.bool(), pixels, torch.nan)
    assert torch.equal(make_condition(codec, other, mask), make_condition(codec, pixels, mask))
    grey = torch.where(mask.bool(), pixels, 0.0)
    cells = mask.unflatten(2, (2, 4)).amax((1, 3)).unflatten(2, (2, 8)).unflatten(4, (2, 8)).amax((3, 5))
    latents = make_condition(codec, pixels, mask)[:, :4]
    torch.testing.assert_close(latents, codec.encode(grey) * cells[:, None], rtol=0, atol=1e-6)


@torch.no_grad()
def test_nothing_known_is_all_zeros(codec: VideoAutoencoder) -> None:
    pixels = make_pixels(1, 3, 4, 8, 8)
    assert codec.encode(torch.zeros_like(pixels)).any()
    assert not make_condition(codec, pixels, torch.zeros(1, 1, 4, 8, 8)).any()


@torch.no_grad()
def test_a_codec_of_single_frames_has_one_channel_for_the_mask() -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    codec = ImageAutoencoder(vae)
    mask = torch.zeros(1, 1, 3, 8, 8)
    mask[:, :, 0] = 1
    condition = make_condition(codec, make_pixels(1, 3, 3, 8, 8), mask)
    assert condition.shape == (1, 5, 3, 4, 4) and num_condition_channels(4, codec) == 5
    assert condition[0, 4].amax((1, 2)).tolist() == [1, 0, 0] and not condition[:, :, 1:].any()


@pytest.mark.parametrize(
    ("pixels", "mask", "message"),
    [
        ((1, 3, 4, 8, 8), torch.ones(1, 4, 8, 8), r"`mask` must be \(1, 1, 4, 8, 8\).*got \(1, 4, 8, 8\)"),
        ((2, 3, 4, 8, 8), torch.ones(1, 1, 4, 8, 8), r"`mask` must be \(2, 1, 4, 8, 8\)"),
        ((1, 3, 4, 8, 8), torch.ones(1, 3, 4, 8, 8), r"got \(1, 3, 4, 8, 8\)"),
        ((1, 3, 4, 8, 8), torch.full((1, 1, 4, 8, 8), 255), "1 where a pixel is known and 0 elsewhere"),
        ((1, 3, 4, 8, 8), torch.full((1, 1, 4, 8, 8), 0.5), "got other numbers"),
        ((1, 3, 4, 8, 8), torch.full((1, 1, 4, 8, 8), torch.nan), "got other numbers"),
        ((1, 3, 5, 8, 8), torch.ones(1, 1, 5, 8, 8), "`num_frames` must be a multiple of 4 .* got 5"),
    ],
)
def test_what_does_not_fit_is_refused(
    codec: VideoAutoencoder, pixels: tuple[int, ...], mask: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_condition(codec, make_pixels(*pixels), mask)
