"""Objectives of the families: losses that mean what they say, fall, and resume without a trace."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import randomise
from tests.train.family_runs import CONFIGS, make_objective, make_run
from tests.train.runs import CLIPS, assert_same_end, log_of
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import codec_hash
from videogen.data.batch import Batch
from videogen.pipelines.loading import load_generator
from videogen.train.footage_encoders import load_encoders
from videogen.train.loop import train
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig
from videogen.train.objectives.finetune import FinetuneObjectiveConfig
from videogen.train.objectives.gan import GANObjectiveConfig
from videogen.train.objectives.rnn import RNNObjectiveConfig
from videogen.train.objectives.transformer import TransformerObjectiveConfig, hidden_tokens
from videogen.train.objectives.vae import VAEObjectiveConfig
from videogen.train.objectives.variational import negative_log_likelihood, warm_up, with_free_bits
from videogen.train.optimizer import MuonAdamW


@pytest.mark.parametrize("family", ["vae", "rnn", "transformer", "dit"])
def test_the_loss_of_a_batch_falls(family: str, codec_folder: Path) -> None:
    objective = make_objective(family, codec_folder, caption_dropout=0.0)
    optimizer = MuonAdamW(objective.trained_parameters("train"), 1e-2, adamw_scales=objective.adamw_scales)
    batch = CLIPS.batch(range(100, 104))
    losses = []
    for _ in range(30):
        loss = objective(batch, "train")["loss"]
        loss.backward()
        optimizer.step()
        objective.zero_grad()
        losses.append(loss.item())
    assert min(losses[-5:]) < losses[0] - 0.1 * abs(losses[0])


@pytest.mark.parametrize("family", CONFIGS)
def test_a_run_of_parts_ends_as_one_in_one_go(family: str, codec_folder: Path, tmp_path: Path) -> None:
    config = make_run(family, codec_folder)
    assert train(config, tmp_path / "whole", cpu=True).finished
    for step in (1, 2, 3):  # no time at all is a step, a checkpoint and an end
        assert train(config, tmp_path / "parts", cpu=True, max_minutes=0).step == step
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")
    generator = load_generator(tmp_path / "whole" / "result")
    assert generator.codec_hash == codec_hash(VideoAutoencoder.from_pretrained(codec_folder))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_text_encoder_learns_at_a_rate_of_its_own(family: str, codec_folder: Path) -> None:
    moved = []
    for text_rate in (0.0, 0.5):
        objective = make_objective(family, codec_folder, caption_dropout=0.0, text_rate=text_rate)
        randomise(objective.get_submodule({"gan": "generator", "dit": "denoiser"}.get(family, "network")))
        before = {name: value.clone() for name, value in objective.text_encoder.named_parameters()}
        phase = objective.phases[-1]
        optimizer = MuonAdamW(objective.trained_parameters(phase), 1e-2, adamw_scales=objective.adamw_scales)
        objective(CLIPS.batch(range(4)), phase)["loss"].backward()
        optimizer.step()
        after = dict(objective.text_encoder.named_parameters())
        moved.append(max((after[name] - before[name]).abs().max().item() for name in before))
    assert moved[0] == 0 < moved[1] <= 0.5e-2 * 1.01


@torch.no_grad()
@pytest.mark.parametrize("family", ["vae", "rnn", "transformer", "dit"])
def test_a_clip_has_the_same_part_in_any_batch(family: str, codec_folder: Path) -> None:
    objective = make_objective(family, codec_folder)
    randomise(objective.get_submodule("denoiser" if family == "dit" else "network"))
    batch = CLIPS.batch(range(3, 6))
    alone = [
        objective(Batch(batch.sample_ids[row : row + 1], batch.pixels[row : row + 1],
                        batch.captions[row : row + 1], batch.fps), "train")["loss"]
        for row in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(
        torch.stack(alone).mean(), objective(batch, "train")["loss"], rtol=1e-4, atol=0
    )


def test_latents_of_another_codec_are_refused(codec_folder: Path) -> None:
    objective = make_objective("vae", codec_folder)
    latents = torch.randn(2, 4, 1, 2, 2)
    batch = Batch((0, 1), None, ("a red star", ""), 8.0, latents=latents, codec_hash=objective.codec_hash)
    assert objective(batch, "train")["loss"].isfinite()
    with pytest.raises(
        ValueError, match=f"hash {'0' * 12}, but the objective's has {objective.codec_hash[:12]}"
    ):
        objective(dataclasses.replace(batch, codec_hash="0" * 64), "train")


@pytest.mark.parametrize("family", CONFIGS)
def test_previews_are_clips_with_captions(family: str, codec_folder: Path) -> None:
    objective = make_objective(family, codec_folder).eval()
    pipeline = objective.pipeline()
    size = {"num_frames": 4, "height": 16, "width": 16}
    objective.pipeline = lambda: type(pipeline)(
        **(pipeline.components | {"defaults": dataclasses.asdict(pipeline.defaults) | size})
    )
    previews = objective.preview()
    assert [caption for caption, _ in previews] == list(objective.latent_settings.preview_prompts)
    assert all(frames.shape == (4, 16, 16, 3) and caption for caption, frames in previews)
    with torch.no_grad():
        for parameter in objective.pipeline().network.parameters():
            parameter.fill_(math.nan)
    with pytest.warns(UserWarning, match="a preview came out bad: clip 0 has latents"):
        assert len(objective.preview()) == len(previews)


# The parts of losses


def test_the_likelihood_is_that_of_the_best_deviation() -> None:
    errors = torch.randn(3, 2, 2, 4, 4) * torch.tensor([0.5, 1.0, 2.0])[:, None, None, None, None]
    found = negative_log_likelihood(errors, 1e-6)
    for row in range(3):
        std = errors[row].square().mean().sqrt()
        density = torch.distributions.Normal(0.0, std).log_prob(errors[row]).sum()
        constant = errors[row].numel() * (0.5 + 0.5 * math.log(2 * math.pi))
        torch.testing.assert_close(found[row], -density - constant, rtol=1e-4, atol=1e-3)
    assert negative_log_likelihood(torch.zeros(1, 1, 1, 2, 2), 0.1).item() == pytest.approx(4 * math.log(0.1))


def test_free_bits_cost_the_same_and_have_no_gradient() -> None:
    divergences = torch.tensor([0.5, 3.0], requires_grad=True)
    counted = with_free_bits(divergences, 2.0)
    assert counted.tolist() == [2.0, 3.0]
    counted.sum().backward()
    assert divergences.grad is not None and divergences.grad.tolist() == [0.0, 1.0]


def test_divergences_warm_up_by_the_place_in_the_stream() -> None:
    assert warm_up([0, 4, 9, 50], 10).tolist() == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert warm_up([0], 0).tolist() == [1.0]


def test_hidden_tokens_follow_the_cosine() -> None:
    shares = torch.stack([hidden_tokens(64, torch.Generator().manual_seed(k)) for k in range(2000)])
    assert (shares.sum(1) >= 1).all()
    assert shares.float().mean().item() == pytest.approx(2 / math.pi, abs=0.03)
    per_place = shares.float().mean(0)
    assert per_place.max() - per_place.min() < 0.1  # no place is preferred


@torch.no_grad()
def test_the_loss_of_the_transformer_is_on_hidden_tokens_alone(codec_folder: Path) -> None:
    objective = make_objective("transformer", codec_folder, draws_per_token=3)
    batch = CLIPS.batch(range(2))
    velocity = objective.network.head.forward
    seen: list[Tensor] = []

    def exact(noisy: Tensor, times: Tensor, context: Tensor) -> Tensor:
        seen.append(noisy)
        return velocity(noisy, times, context)

    objective.network.head.forward = exact
    objective(batch, "train")
    draws = objective.generators(batch)
    hidden = []
    for generator in draws:
        torch.rand((), generator=generator)  # for the dropout of the caption
        hidden.append(hidden_tokens(1, generator).sum().item())
    assert len(seen[0]) == 3 * sum(hidden)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: VAEObjectiveConfig(caption_dropout=1.5),
            "`caption_dropout` must be between 0 and 1",
        ),
        (lambda: VAEObjectiveConfig(text_rate=-0.1), "`text_rate` must be a number of at least 0, got -0.1"),
        (lambda: RNNObjectiveConfig(preview_prompts=()), "`preview_prompts` must hold a prompt"),
        (lambda: DiffusionObjectiveConfig(time_mean=math.nan), "`time_mean` must be a number, got nan"),
        (lambda: DiffusionObjectiveConfig(time_std=-1.0), "`time_std` must be at least 0, got -1.0"),
        (lambda: VAEObjectiveConfig(least_std=0.0), "`least_std` must be between 0 and 1, got 0.0"),
        (lambda: VAEObjectiveConfig(free_nats=-1.0), "`free_nats` must be at least 0, got -1.0"),
        (lambda: VAEObjectiveConfig(group_weights=(1.0, 1.0, -1.0)), "`group_weights` must be 3 numbers"),
        (lambda: RNNObjectiveConfig(feedback_rate=2.0), "`feedback_rate` must be between 0 and 1, got 2.0"),
        (lambda: GANObjectiveConfig(gamma=(-1.0, 0.0)), "`gamma` must be two numbers of at least 0"),
        (
            lambda: GANObjectiveConfig(contrast_weight=(1.0, math.inf)),
            "`contrast_weight` must be two numbers",
        ),
        (lambda: GANObjectiveConfig(anneal_clips=(8, 4)), "`anneal_clips` must be two places in order"),
        (lambda: GANObjectiveConfig(coverage_weight=-1.0), "`coverage_weight` must be at least 0, got -1.0"),
        (lambda: GANObjectiveConfig(num_candidates=0), "`num_candidates` must be at least 1, got 0"),
        (lambda: GANObjectiveConfig(penalty_rate=0.0), "`penalty_rate` must be above 0"),
        (lambda: TransformerObjectiveConfig(draws_per_token=0), "`draws_per_token` must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_only_denoisers_are_fine_tuned(codec_folder: Path, tmp_path: Path) -> None:
    make_objective("vae", codec_folder).save(tmp_path)
    with pytest.raises(ValueError, match="`model` must be a denoiser's to be fine-tuned, got a VAEPipeline"):
        FinetuneObjectiveConfig(model=str(tmp_path)).build()


def test_footage_is_encoded_with_the_codec_of_any_family(codec_folder: Path, tmp_path: Path) -> None:
    objective = make_objective("rnn", codec_folder)
    objective.save(tmp_path)
    encoders = load_encoders(tmp_path)
    assert isinstance(encoders.codec, VideoAutoencoder)
    assert codec_hash(encoders.codec) == objective.codec_hash
