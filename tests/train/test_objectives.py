"""Objectives: what their losses mean, and that a clip's part in them does not depend on its batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import TINY_CODEC, randomise
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.textures.dataset import DeadLeaves
from videogen.pipelines.loading import load_generator
from videogen.train.objectives.codec import CodecObjective, CodecObjectiveConfig, detail_mask
from videogen.train.objectives.diffusion import (
    DiffusionObjective,
    DiffusionObjectiveConfig,
    UNet3DConfig,
    UViTConfig,
)

UVIT = UViTConfig(conv_dim=8, num_conv_blocks=1, hidden_size=32, num_layers=2, num_attention_heads=2)
UNET3D = UNet3DConfig(block_out_channels=(32, 32), layers_per_block=1, attention_head_dim=16)
SOURCE = ShapesClips(world="shapes-mini", num_frames=4, size=16)


def part(batch: Batch, row: int) -> Batch:
    rows = slice(row, row + 1)
    return Batch(batch.sample_ids[rows], batch.pixels[rows], batch.captions[rows], batch.fps)


# The codec


def make_codec_objective(**settings: Any) -> CodecObjective:
    torch.manual_seed(0)
    objective = CodecObjectiveConfig(**(TINY_CODEC | settings)).build()
    randomise(objective.codec)
    return objective


def test_detail_is_where_the_picture_is_not_flat() -> None:
    pixels = torch.full((1, 3, 2, 16, 16), -1.0)
    pixels[:, :, 1, :, 8:] = 1.0
    mask = detail_mask(pixels)
    assert mask.shape == (1, 1, 2, 16, 16)
    assert not mask[0, 0, 0].any()
    assert mask[0, 0, 1].any(0).nonzero().flatten().tolist() == [6, 7, 8, 9]  # within two pixels of the edge
    assert mask[0, 0, 1].all(0).sum() == 4
    assert not detail_mask(torch.linspace(-1, 1, 200).expand(1, 3, 1, 8, 200))[..., 2:-2].any()


@torch.no_grad()
def test_codec_loss_is_the_weighted_error_of_the_reconstruction() -> None:
    objective = make_codec_objective(penalty=0.0, edge_weight=3.0)
    objective.codec.register_to_config(posterior_std=0.0)
    batch = SOURCE.batch(range(3))
    losses = objective(batch, "train")
    latents = objective.codec.encoder(batch.pixels)
    error = (objective.codec.decoder(latents) - batch.pixels).square()
    mask = detail_mask(batch.pixels).expand_as(error)
    expected = (error * (1 + 3 * mask)).sum() / (1 + 3 * mask).sum()
    too_large = 1e-3 * (latents.square().mean() - 1).clamp(min=0)
    torch.testing.assert_close(losses["loss"], expected + too_large)
    torch.testing.assert_close(losses["psnr"], 10 * torch.log10(4 / error.mean()))


@torch.no_grad()
def test_posterior_noise_belongs_to_the_clip() -> None:
    objective = make_codec_objective(statistics_momentum=0.0)
    batch = SOURCE.batch([5, 9])
    reversed_batch = SOURCE.batch([9, 5])
    torch.testing.assert_close(
        objective(batch, "train")["loss"], objective(reversed_batch, "train")["loss"], rtol=1e-5, atol=0
    )
    other_ids = Batch((6, 7), batch.pixels, batch.captions, batch.fps)
    assert objective(other_ids, "train")["loss"] != objective(batch, "train")["loss"]


@torch.no_grad()
def test_running_statistics_become_those_of_the_latents() -> None:
    objective = make_codec_objective(statistics_momentum=0.2)
    batch = SOURCE.batch(range(4))
    for _ in range(80):
        objective(batch, "train")
    latents = objective.codec.encode(batch.pixels)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(4), rtol=0, atol=1e-3)


@torch.no_grad()
def test_a_saved_codec_gives_latents_of_unit_variance(tmp_path: Path) -> None:
    objective = make_codec_objective()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.save(tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    loaded = VideoAutoencoder.from_pretrained(tmp_path)
    latents = loaded.encode(ShapesClips(seed=11).batch(range(32)).pixels)
    assert latents.mean().abs() < 0.2 and abs(latents.std() - 1) < 0.2


@torch.no_grad()
def test_latents_have_unit_variance_over_the_clips_that_are_named(tmp_path: Path) -> None:
    leaves = DeadLeaves(num_frames=4, size=16)
    make_codec_objective(clips=leaves).save(tmp_path)
    latents = VideoAutoencoder.from_pretrained(tmp_path).encode(leaves.batch(range(128)).pixels)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(4), rtol=0, atol=1e-3)


def test_a_bounded_codec_is_trained_within_its_bounds() -> None:
    """The loss is that of what is decoded, bounds and all, also where half precision is asked for."""
    bounds: dict[str, Any] = {"latent_bound": 0.5, "pixel_margin": 0.2, "normalize_branches": True}
    objective = make_codec_objective(**bounds, edge_weight=0.0, penalty=0.0, statistics_momentum=0.0)
    assert all(objective.codec.config[name] == value for name, value in bounds.items())
    batch = SOURCE.batch(range(2))
    with torch.no_grad():
        decoded = objective.codec.decode(objective.codec.encode(batch.pixels))
    error = (decoded - batch.pixels).square().mean()
    losses = objective(batch, "train")
    torch.testing.assert_close(losses["psnr"], 10 * torch.log10(4 / error), rtol=0, atol=0.2)  # of the noise
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(batch, "train")
    assert rounded["loss"].dtype == torch.float32
    torch.testing.assert_close(rounded["loss"], losses["loss"], rtol=0.05, atol=0)


def test_the_decoder_alone(codec_folder: Path) -> None:
    config = CodecObjectiveConfig(init_from=str(codec_folder), train_encoder=False)
    objective = config.build()
    assert {name.split(".")[1] for name, _ in objective.trained_parameters("train")} == {"decoder"}
    pixels = SOURCE.batch([0]).pixels
    before = objective.codec.encode(pixels)
    objective(SOURCE.batch(range(2)), "train")["loss"].backward()
    assert torch.equal(objective.codec.encode(pixels), before)
    assert all(parameter.grad is None for parameter in objective.codec.encoder.parameters())


@torch.no_grad()
def test_a_new_decoder_for_old_latents(codec_folder: Path) -> None:
    config = CodecObjectiveConfig(
        init_from=str(codec_folder),
        train_encoder=False,
        new_decoder=True,
        decoder_dims=(8, 24),
        decoder_depths=(1, 2),
    )
    codec, old = config.build().codec, VideoAutoencoder.from_pretrained(codec_folder)
    pixels = SOURCE.batch(range(2)).pixels
    assert torch.equal(codec.encode(pixels), old.encode(pixels))
    assert codec.decode(codec.encode(pixels)).shape == pixels.shape
    assert len(codec.decoder.coarse_blocks) == 2 and codec.decoder.conv_in.out_channels == 24
    assert codec.config["decoder_dims"] == (8, 24)


@torch.no_grad()
def test_a_deeper_decoder_decodes_as_before_until_it_is_trained(codec_folder: Path) -> None:
    config = CodecObjectiveConfig(
        init_from=str(codec_folder), train_encoder=False, added_decoder_blocks=(2, 1)
    )
    codec, old = config.build().codec, VideoAutoencoder.from_pretrained(codec_folder)
    assert len(codec.decoder.fine_blocks) == len(old.decoder.fine_blocks) + 2
    assert len(codec.decoder.coarse_blocks) == len(old.decoder.coarse_blocks) + 1
    pixels = SOURCE.batch(range(2)).pixels
    assert torch.equal(codec(pixels).sample, old(pixels).sample)
    with pytest.raises(ValueError, match="init_from"):
        replace(config, init_from=None, train_encoder=True).build()


@torch.no_grad()
def test_the_loss_with_a_floor_is_the_mean_psnr() -> None:
    """Without weights for edges and with hardly a floor: halving the loss of any clip counts the same."""
    settings: dict[str, Any] = {"edge_weight": 0.0, "penalty": 0.0, "statistics_momentum": 0.0}
    objective = make_codec_objective(**settings, error_floor=1e-9)
    plain = make_codec_objective(**settings)
    batch = SOURCE.batch(range(3))
    errors = torch.stack([plain(SOURCE.batch([idx]), "train")["loss"] for idx in range(3)])
    torch.testing.assert_close(objective(batch, "train")["loss"], errors.log().mean(), rtol=1e-4, atol=1e-4)


# Diffusion


def make_diffusion(codec_folder: Path, **settings: Any) -> DiffusionObjective:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"codec": str(codec_folder), "network": UVIT, "text_dim": 16, "text_layers": 1}
    objective = DiffusionObjectiveConfig(**(defaults | settings)).build()
    randomise(objective.denoiser)
    return objective


def record(objective: DiffusionObjective) -> list[dict[str, Tensor]]:
    """What goes into the denoiser and comes out of it, at each call from now on."""
    calls: list[dict[str, Tensor]] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...], output: tuple[Tensor]) -> None:
        sample, timestep = arguments[:2]
        calls.append({"sample": sample, "timestep": timestep, "prediction": output[0]})

    objective.denoiser.register_forward_hook(note)
    return calls


@torch.no_grad()
@pytest.mark.parametrize("network", [UVIT, UNET3D], ids=["uvit", "unet3d"])
def test_loss_is_the_error_of_the_velocity(codec_folder: Path, network: Any) -> None:
    objective = make_diffusion(codec_folder, network=network)
    calls = record(objective)
    batch = SOURCE.batch(range(5))
    loss = objective(batch, "train")["loss"]
    latents = objective.codec.encode(batch.pixels)
    t = (calls[0]["timestep"] / 1000)[:, None, None, None, None]
    noise = (calls[0]["sample"] - (1 - t) * latents) / t  # from the straight path between clip and noise
    assert abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.2
    torch.testing.assert_close(loss, (calls[0]["prediction"] - (noise - latents)).square().mean())


@torch.no_grad()
def test_a_batch_is_the_mean_of_its_clips(codec_folder: Path) -> None:
    objective = make_diffusion(codec_folder)
    batch = SOURCE.batch([3, 8, 1, 40])
    alone = [objective(part(batch, row), "train")["loss"] for row in range(4)]
    torch.testing.assert_close(objective(batch, "train")["loss"], torch.stack(alone).mean())
    assert len({round(loss.item(), 6) for loss in alone}) == 4


@torch.no_grad()
def test_times_have_the_distribution_asked_for(codec_folder: Path) -> None:
    objective = make_diffusion(codec_folder, time_mean=0.7, time_std=1.3)
    calls = record(objective)
    pixels = torch.zeros(400, 3, 4, 8, 8)
    objective(Batch(tuple(range(400)), pixels, ("",) * 400, 8.0), "train")
    logits = torch.logit(calls[0]["timestep"].double() / 1000)
    assert logits.mean() == pytest.approx(0.7, abs=0.2) and logits.std() == pytest.approx(1.3, abs=0.15)


@torch.no_grad()
def test_dropped_captions(codec_folder: Path) -> None:
    batch = SOURCE.batch(range(4))
    silent = Batch(batch.sample_ids, batch.pixels, ("",) * 4, batch.fps)
    kept, dropped = (make_diffusion(codec_folder, caption_dropout=rate) for rate in (0.0, 1.0))
    assert torch.equal(dropped(batch, "train")["loss"], dropped(silent, "train")["loss"])
    assert not torch.equal(kept(batch, "train")["loss"], kept(silent, "train")["loss"])


def test_all_but_the_codec_is_trained(codec_folder: Path) -> None:
    objective = make_diffusion(codec_folder)
    objective(SOURCE.batch(range(2)), "train")["loss"].backward()
    names = {name for name, _ in objective.trained_parameters("train")}
    assert {name.split(".")[0] for name in names} == {"denoiser", "text_encoder"}
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == (name in names), name


def test_loss_at_high_noise(codec_folder: Path) -> None:
    objective = make_diffusion(codec_folder)
    calls = record(objective)
    batch = SOURCE.batch(range(12))
    losses = objective(batch, "train")
    noisy = (calls[0]["timestep"] > 800).nonzero().flatten().tolist()
    assert 0 < len(noisy) < 12
    alone = [objective(part(batch, row), "train")["loss"].detach() for row in noisy]
    torch.testing.assert_close(losses["loss_noisy"], torch.stack(alone).mean())
    assert not losses["loss_noisy"].requires_grad


@torch.no_grad()
def test_a_saved_pipeline_is_the_start_of_another_run(codec_folder: Path, tmp_path: Path) -> None:
    objective = make_diffusion(codec_folder)
    objective.save(tmp_path)
    again = make_diffusion_from(tmp_path)
    batch = SOURCE.batch(range(3))
    assert torch.equal(again(batch, "train")["loss"], objective(batch, "train")["loss"])
    generator = load_generator(tmp_path)
    state = generator.unet.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in objective.denoiser.state_dict().items())


@torch.no_grad()
def test_a_run_can_add_token_convs_to_a_saved_pipeline(codec_folder: Path, tmp_path: Path) -> None:
    objective = make_diffusion(codec_folder)
    objective.save(tmp_path)
    grown = make_diffusion_from(tmp_path, replace(UVIT, token_convs=True))
    assert grown.denoiser.config["token_convs"] and not objective.denoiser.config["token_convs"]
    batch = SOURCE.batch(range(3))
    assert torch.equal(grown(batch, "train")["loss"], objective(batch, "train")["loss"])


def make_diffusion_from(folder: Path, network: UViTConfig = UVIT) -> DiffusionObjective:
    return DiffusionObjectiveConfig(codec=str(folder / "vae"), network=network, init_from=str(folder)).build()
