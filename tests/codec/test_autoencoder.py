"""The codec: exact streaming, independent groups of frames, normalised latents, errors that help."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import TINY_CODEC, randomise
from videogen.codec.autoencoder import VideoAutoencoder, soft_bound
from videogen.codec.contract import check_multiple
from videogen.data.shapes.dataset import ShapesClips
from videogen.train.objectives.codec import CodecObjective, CodecObjectiveConfig

CONFIG = TINY_CODEC | {"latent_channels": 6, "encoder_depths": (1, 1), "decoder_depths": (1, 1)}

BOUNDED = {"latent_bound": 3.0, "pixel_margin": 0.2, "normalize_branches": True}


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
@pytest.mark.parametrize("config", [{}, BOUNDED])
def test_a_stream_equals_the_whole(latents_per_chunk: int, config: dict[str, Any]) -> None:
    codec = make_codec(**config).double()
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
@pytest.mark.parametrize("config", [{}, BOUNDED])
def test_groups_of_frames_do_not_see_each_other(config: dict[str, Any]) -> None:
    codec = make_codec(**config)
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
@pytest.mark.parametrize("config", [{}, BOUNDED])
def test_save_and_load(tmp_path: Path, config: dict[str, Any]) -> None:
    codec = make_codec(**config)
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


@torch.no_grad()
def test_codecs_saved_before_there_were_bounds_are_as_they_were(tmp_path: Path) -> None:
    codec = make_codec()
    codec.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in BOUNDED}
    path.write_text(json.dumps(kept))
    loaded = VideoAutoencoder.from_pretrained(tmp_path)
    latents = 4 * torch.randn(1, 6, 2, 3, 4, generator=torch.Generator().manual_seed(2))
    as_given = latents * codec.latents_std[:, None, None, None] + codec.latents_mean[:, None, None, None]
    assert torch.equal(loaded.decode(latents), codec.decoder(as_given))
    assert loaded.decode(latents).abs().max() > 1.2  # nothing holds it


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 1.5, 10.0, 1e4, 1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_of_a_bounded_codec_stay_in_range(scale: float, dtype: torch.dtype) -> None:
    codec = make_codec(**BOUNDED)
    torch.nn.Module.to(codec, dtype)
    for parameter in codec.parameters():
        parameter.mul_(3)  # far worse than a trained one
    latents = scale * torch.randn(2, 6, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    pixels = codec.decode(latents.to(dtype))
    assert bool(pixels.isfinite().all()) and float(pixels.abs().max()) <= 1.21
    assert pixels.std() > 0.1


@torch.no_grad()
def test_what_is_not_finite_stays_so() -> None:
    """The pipelines name it as an error; a bound would make a picture of it."""
    latents = torch.zeros(1, 6, 1, 1, 1)
    for value in (float("nan"), float("inf")):
        latents[0, 0] = value
        assert not bool(make_codec(**BOUNDED).decode(latents).isfinite().all())


@torch.no_grad()
def test_latents_within_the_bound_are_decoded_as_without_it() -> None:
    codec, free = make_codec(latent_bound=3.0), make_codec()
    latents = torch.rand(1, 6, 2, 3, 3, generator=torch.Generator().manual_seed(2)) * 6 - 3
    assert torch.equal(codec.decode(latents), free.decode(latents))
    assert not torch.allclose(codec.decode(2 * latents), free.decode(2 * latents))


@torch.no_grad()
def test_normalised_branches_do_not_outgrow_the_rest() -> None:
    """Of hidden states a thousand times as large, what a block adds is the same."""
    for normalize, equal in ((True, True), (False, False)):
        block = make_codec(normalize_branches=normalize).double().decoder.coarse_blocks[0]
        hidden = make_pixels(1, 16, 6, 6).double()
        added, added_to_large = block(hidden) - hidden, block(1000 * hidden) - 1000 * hidden
        assert torch.allclose(added, added_to_large, rtol=0.02, atol=1e-3) == equal


def test_soft_bound() -> None:
    values = torch.linspace(-50, 50, 20_001, dtype=torch.float64, requires_grad=True)
    bounded = soft_bound(values, 2.0, 0.5)
    assert torch.equal(bounded[values.abs() <= 2], values[values.abs() <= 2])
    assert bool((bounded.diff() > 0).all()) and float(bounded.detach().abs().max()) < 2.5
    torch.testing.assert_close(bounded, -bounded.flip(0))
    (slopes,) = torch.autograd.grad(bounded.sum(), values)
    assert bool((slopes > 0).all()) and float(slopes.diff().abs().max()) < 0.03  # no kink


@pytest.mark.parametrize("name", ["latent_bound", "pixel_margin"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_bounds_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be above 0 or None, got {value}"):
        VideoAutoencoder(**(CONFIG | {name: value}))


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
