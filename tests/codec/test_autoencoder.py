"""The codec: exact streaming, independent groups of frames, normalised latents, errors that help."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import TINY_CODEC, randomise
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import check_multiple
from videogen.data.shapes.dataset import ShapesClips
from videogen.train.objectives.codec import CodecObjective, CodecObjectiveConfig

CONFIG = TINY_CODEC | {"latent_channels": 6, "encoder_depths": (1, 1), "decoder_depths": (1, 1)}


def make_codec(**config: Any) -> VideoAutoencoder:
    """A tiny codec with random weights everywhere, also where training starts from zero."""
    codec = VideoAutoencoder(**(CONFIG | config)).eval()
    randomise(codec)
    codec.latents_mean.copy_(torch.linspace(-1, 1, codec.config["latent_channels"]))
    codec.latents_std.copy_(torch.linspace(0.5, 2, codec.config["latent_channels"]))
    return codec


def make_pixels(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("size", [(1, 3, 4, 8, 8), (2, 3, 8, 24, 40), (3, 3, 16, 16, 8)])
def test_shapes(size: tuple[int, ...]) -> None:
    codec = make_codec()
    assert codec.compression == (4, 8)
    latents = codec.encode(make_pixels(*size))
    assert latents.shape == (size[0], 6, size[2] // 4, size[3] // 8, size[4] // 8)
    assert codec.decode(latents).shape == size


def test_other_compression_in_time() -> None:
    codec = make_codec(frames_per_latent=2)
    assert codec.compression == (2, 8)
    assert codec.decode(codec.encode(make_pixels(1, 3, 6, 16, 16))).shape == (1, 3, 6, 16, 16)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 15, 64, 64), "`num_frames` must be a multiple of 4 for this codec, got 15: use 12 or 16"),
        ((1, 3, 1, 64, 64), "`num_frames` .* got 1: use 4 or 8"),
        ((1, 3, 16, 60, 64), "`height` must be a multiple of 8 for this codec, got 60: use 56 or 64"),
        ((1, 3, 16, 64, 71), "`width` .* got 71: use 64 or 72"),
        ((1, 4, 16, 64, 64), r"`pixels` must be \(B, 3, F, H, W\), got \(1, 4, 16, 64, 64\)"),
        ((3, 16, 64, 64), r"`pixels` must be \(B, 3, F, H, W\), got \(3, 16, 64, 64\)"),
    ],
)
def test_pixels_of_a_wrong_shape(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_codec().encode(torch.zeros(shape))


@pytest.mark.parametrize("value", [0, -4, -1])
def test_nearest_multiples_are_positive(value: int) -> None:
    with pytest.raises(ValueError, match=f"`num_frames` must be a multiple of 4 .* got {value}: use 4 or 8"):
        check_multiple("num_frames", value, 4)


def test_latents_of_a_wrong_shape() -> None:
    codec = make_codec()
    for shape in ((1, 5, 2, 2, 2), (6, 2, 2, 2)):
        with pytest.raises(ValueError, match=r"`latents` must be \(B, 6, f, h, w\), got"):
            codec.decode(torch.zeros(shape))
    with pytest.raises(ValueError, match="`latents_per_chunk` must be at least 1, got 0"):
        next(codec.iter_decode(torch.zeros(1, 6, 2, 2, 2), 0))


@torch.no_grad()
@pytest.mark.parametrize("latents_per_chunk", [1, 2, 3, 7])
def test_a_stream_equals_the_whole(latents_per_chunk: int) -> None:
    codec = make_codec().double()
    latents = torch.randn(2, 6, 5, 3, 4, generator=torch.Generator().manual_seed(2)).double()
    chunks = list(codec.iter_decode(latents, latents_per_chunk))
    assert chunks[0].shape[2] == 4 * min(latents_per_chunk, 5)
    torch.testing.assert_close(torch.cat(chunks, dim=2), codec.decode(latents), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_stream_equals_the_whole_in_float32() -> None:
    codec = make_codec()
    latents = torch.randn(1, 6, 4, 3, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        torch.cat(list(codec.iter_decode(latents)), dim=2), codec.decode(latents), rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_groups_of_frames_do_not_see_each_other() -> None:
    codec = make_codec()
    pixels = make_pixels(1, 3, 12, 16, 16)
    changed = pixels.clone()
    changed[:, :, 4:8] = 0.3
    latents, other = codec.encode(pixels), codec.encode(changed)
    assert torch.equal(latents[:, :, [0, 2]], other[:, :, [0, 2]])
    assert not torch.allclose(latents[:, :, 1], other[:, :, 1])
    decoded, others = codec.decode(latents), codec.decode(other)
    same = [0, 1, 2, 3, 8, 9, 10, 11]
    assert torch.equal(decoded[:, :, same], others[:, :, same])


@torch.no_grad()
def test_frames_of_a_group_are_told_apart() -> None:
    codec = make_codec()
    pixels = make_pixels(1, 3, 4, 16, 16)
    assert not torch.allclose(codec.encode(pixels), codec.encode(pixels.flip(2)))


@torch.no_grad()
def test_latents_are_normalised_by_the_stored_statistics() -> None:
    codec = make_codec().double()
    pixels = make_pixels(8, 3, 8, 32, 32).double()
    raw = codec.encoder(pixels)
    codec.latents_mean.copy_(raw.mean((0, 2, 3, 4)))
    codec.latents_std.copy_(raw.std((0, 2, 3, 4)))
    latents = codec.encode(pixels)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(6).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(6).double())
    torch.testing.assert_close(codec.decode(latents), codec.decoder(raw))


@torch.no_grad()
def test_save_and_load(tmp_path: Path) -> None:
    codec = make_codec()
    codec.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    loaded = VideoAutoencoder.from_pretrained(tmp_path)
    assert loaded.compression == codec.compression
    pixels = make_pixels(1, 3, 8, 16, 24)
    latents = codec.encode(pixels)
    assert torch.equal(loaded.encode(pixels), latents)
    assert torch.equal(loaded.decode(latents), codec.decode(latents))


def test_a_new_codec_is_linear() -> None:
    codec = VideoAutoencoder(**CONFIG).double()
    first, second = make_pixels(2, 3, 4, 16, 16).double().split(1)
    nothing = codec.encode(torch.zeros_like(first))
    torch.testing.assert_close(
        codec.encode(first + second) - nothing,
        codec.encode(first) - nothing + codec.encode(second) - nothing,
        rtol=0,
        atol=1e-12,
    )


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    config = CodecObjectiveConfig(
        latent_channels=16, encoder_dims=(16, 32), decoder_dims=(16, 32), encoder_depths=(0, 1),
        decoder_depths=(1, 1),
    )  # fmt: skip
    objective = config.build()
    assert isinstance(objective, CodecObjective)
    batch = ShapesClips(world="shapes-mini", num_frames=4, size=32).batch(range(2))
    optimizer = torch.optim.Adam(objective.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = objective(batch, "train")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < losses[0] / 10


@torch.no_grad()
def test_a_forward_pass_compresses_and_reconstructs() -> None:
    codec, pixels = make_codec(), make_pixels(1, 3, 8, 16, 24)
    expected = codec.decode(codec.encode(pixels))
    assert torch.equal(codec(pixels).sample, expected)
    assert torch.equal(codec(pixels, return_dict=False)[0], expected)
