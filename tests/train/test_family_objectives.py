"""Objectives of the families: losses that mean what they say, fall, and resume without a trace."""

import dataclasses
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tiny import TINY_CODEC, randomise
from tests.train.runs import CLIPS, assert_same_end, log_of
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import codec_hash
from videogen.data.batch import Batch
from videogen.pipelines.loading import load_generator
from videogen.train.config import TrainConfig
from videogen.train.footage_encoders import load_encoders
from videogen.train.loop import train
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, DiTConfig
from videogen.train.objectives.finetune import FinetuneObjectiveConfig
from videogen.train.objectives.gan import GANObjectiveConfig
from videogen.train.objectives.latents import LatentObjectiveConfig
from videogen.train.objectives.rnn import RNNObjectiveConfig
from videogen.train.objectives.transformer import TransformerObjectiveConfig, hidden_tokens
from videogen.train.objectives.vae import VAEObjectiveConfig
from videogen.train.objectives.variational import negative_log_likelihood, warm_up, with_free_bits
from videogen.train.optimizer import MuonAdamW

_SIZES: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2}
_TEXT: dict[str, Any] = {"text_dim": 16, "text_layers": 1, "caption_dropout": 0.3}
CONFIGS: dict[str, LatentObjectiveConfig] = {
    "gan": GANObjectiveConfig(
        **_SIZES,
        **_TEXT,
        num_layers=1,
        noise_dim=4,
        conv_dim=8,
        discriminator_size=16,
        discriminator_layers=1,
    ),
    "vae": VAEObjectiveConfig(
        **_SIZES, **_TEXT, encoder_layers=1, num_layers=3, clip_dim=4, conv_dim=8, warm_up_clips=12
    ),
    "rnn": RNNObjectiveConfig(**_SIZES, **_TEXT, num_layers=1, state_size=8, noise_dim=4, conv_dim=8),
    "transformer": TransformerObjectiveConfig(**_SIZES, **_TEXT, num_layers=1, head_size=32, head_layers=1),
    "dit": DiffusionObjectiveConfig(network=DiTConfig(num_layers=1, **_SIZES), **_TEXT),
}

_ADVERSARIAL_ALONE: dict[str, Any] = {
    "gamma": (0.0, 0.0),
    "contrast_weight": (0.0, 0.0),
    "coverage_weight": 0.0,
}


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec = VideoAutoencoder(**TINY_CODEC)
    randomise(codec)
    folder = tmp_path_factory.mktemp("codec")
    codec.save_pretrained(folder)
    return folder


def make_objective(family: str, codec_folder: Path, **changes: Any) -> Any:
    torch.manual_seed(0)
    return dataclasses.replace(CONFIGS[family], codec=str(codec_folder), **changes).build()


def make_run(family: str, codec_folder: Path, **changes: Any) -> TrainConfig:
    objective = dataclasses.replace(CONFIGS[family], codec=str(codec_folder))
    settings: dict[str, Any] = {
        "num_steps": 3, "batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1, "ema_decay": 0.9,
        "log_every": 1, "checkpoint_every": 3, "preview_every": 0,
    }  # fmt: skip
    return TrainConfig("test", objective, CLIPS, **(settings | changes))


@pytest.mark.parametrize("family", ["vae", "rnn", "transformer", "dit"])
def test_the_loss_of_a_batch_falls(family: str, codec_folder: Path) -> None:
    objective = make_objective(family, codec_folder, caption_dropout=0.0)
    optimizer = MuonAdamW(objective.trained_parameters("train"), 1e-2, adamw_scales=objective.adamw_scales)
    batch = CLIPS.batch(range(100, 104))
    losses = []
    for _ in range(25):
        loss = objective(batch, "train")["loss"]
        loss.backward()
        optimizer.step()
        objective.zero_grad()
        losses.append(loss.item())
    assert min(losses[-5:]) < losses[0] - 0.1 * abs(losses[0])


def test_the_discriminator_learns_to_tell_and_the_generator_to_be_taken_for_real(codec_folder: Path) -> None:
    objective = make_objective("gan", codec_folder, caption_dropout=0.0)
    batch = CLIPS.batch(range(100, 104))
    for phase in objective.phases:
        optimizer = MuonAdamW(
            objective.trained_parameters(phase), 1e-2, betas=objective.adam_betas,
            adamw_scales=objective.adamw_scales,
        )  # fmt: skip
        losses = []
        for _ in range(20):
            loss = objective(batch, phase)["loss"]
            loss.backward()
            optimizer.step()
            objective.zero_grad()
            losses.append(loss.item())
        assert min(losses[-5:]) < 0.9 * losses[0], phase


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


@torch.no_grad()
def test_phases_of_the_gan_are_mirror_images_and_train_their_own(codec_folder: Path) -> None:
    objective = make_objective("gan", codec_folder, caption_dropout=0.0, **_ADVERSARIAL_ALONE)
    names = {phase: {name for name, _ in objective.trained_parameters(phase)} for phase in objective.phases}
    trained = {name for name, value in objective.named_parameters() if value.requires_grad}
    assert names["generator"] | names["discriminator"] == trained
    assert not names["generator"] & names["discriminator"]
    assert any(name.startswith("text_encoder") for name in names["generator"])
    batch = CLIPS.batch(range(1))
    with torch.enable_grad():
        discriminator = objective(batch, "discriminator")["loss"].detach()
        generator = objective(batch, "generator")["loss"].detach()
    # softplus(-x) and softplus(x) of the same difference x of scores
    difference = torch.log(torch.expm1(generator))
    torch.testing.assert_close(F.softplus(-difference), discriminator, rtol=1e-4, atol=1e-5)


def test_the_generator_phase_leaves_no_gradient_in_the_discriminator(codec_folder: Path) -> None:
    objective = make_objective("gan", codec_folder)
    objective(CLIPS.batch(range(2)), "generator")["loss"].backward()
    assert all(value.grad is None for name, value in objective.named_parameters() if "discriminator" in name)
    assert objective.generator.head.conv_out.weight.grad.abs().max() > 0


@torch.no_grad()
def test_the_nearest_of_the_candidates_is_drawn_towards_the_real_clip(codec_folder: Path) -> None:
    weight = 5.0
    settings = _ADVERSARIAL_ALONE | {"coverage_weight": weight, "num_candidates": 3, "caption_dropout": 0.0}
    objective = make_objective("gan", codec_folder, **settings)
    randomise(objective.generator)
    batch = CLIPS.batch(range(2))
    losses = objective(batch, "generator")
    text = objective.text_encoder.encode(list(batch.captions))
    draws = objective.generators(batch)
    distances = torch.empty(2, 3)
    for row, generator in enumerate(draws):
        torch.rand((), generator=generator)  # for the dropout of the caption
        for candidate, noise in enumerate(torch.randn(3, 4, generator=generator)):
            real = objective.latents(batch)[row : row + 1]
            made = objective.generator(
                noise[None], tuple(real.shape[2:]),
                text.prompt_embeds[row : row + 1], text.attention_mask[row : row + 1],
            )  # fmt: skip
            distances[row, candidate] = F.mse_loss(made, real)
    assert distances.std(1).min() > 1e-3  # candidates differ
    torch.testing.assert_close(losses["coverage"], distances.min(1).values.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(losses["loss"], losses["adversarial"] + weight * losses["coverage"])


def test_weights_of_the_gan_fall_by_the_place_in_the_stream(codec_folder: Path) -> None:
    objective = make_objective("gan", codec_folder, anneal_clips=(100, 200))

    def weight_at(place: int, ends: tuple[float, float] = (8.0, 0.5)) -> float:
        found: float = objective._annealed(ends, replace(CLIPS.batch(range(2)), sample_ids=(place, 999)))
        return found

    places = (0, 100, 150, 200, 10_000)
    assert [weight_at(place) for place in places] == pytest.approx([8.0, 8.0, 2.0, 0.5, 0.5])
    assert [weight_at(place, (0.0, 0.0)) for place in places] == [0.0] * 5
    sudden = replace(objective.settings, anneal_clips=(100, 100))
    objective.settings = sudden
    assert [weight_at(place) for place in (100, 101)] == [8.0, 0.5]


def test_a_longer_run_of_the_gan_anneals_at_the_same_share(codec_folder: Path, tmp_path: Path) -> None:
    run = make_run("gan", codec_folder)
    longer = run.with_num_steps(6)
    assert isinstance(longer.objective, GANObjectiveConfig)
    assert longer.objective.anneal_clips == (60_000, 90_000)
    train(run, tmp_path, cpu=True)
    with (
        pytest.warns(UserWarning, match="now has 6 steps instead of 3"),
        pytest.warns(UserWarning, match=r"`objective.anneal_clips` was \[30000, 45000\] and is"),
    ):
        assert train(longer, tmp_path, cpu=True).step == 6
    moved = replace(longer, objective=replace(longer.objective, anneal_clips=(0, 1)))
    with pytest.raises(ValueError, match=r"other settings: `objective.anneal_clips` was \[60000, 90000\]"):
        train(moved, tmp_path, cpu=True)


@torch.no_grad()
def test_a_batch_is_encoded_once_for_both_phases(codec_folder: Path) -> None:
    batches = [CLIPS.batch(range(first, first + 2)) for first in (0, 2)]
    objective = make_objective("gan", codec_folder)
    encode = objective.codec.encode
    seen: list[Tensor] = []

    def counted(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        latents: Tensor = encode(pixels)
        return latents

    objective.codec.encode = counted
    found = []
    for batch in batches:
        with torch.enable_grad():
            objective(batch, "discriminator")
            found.append(objective(batch, "generator")["loss"].detach())
    assert len(seen) == 2
    fresh = make_objective("gan", codec_folder)
    assert torch.equal(fresh(batches[1], "generator")["loss"], found[1])


@torch.no_grad()
def test_the_contrast_finds_clips_by_their_captions_and_equal_ones_are_no_rivals(codec_folder: Path) -> None:
    objective = make_objective("gan", codec_folder)
    agreement = torch.tensor([[1.0, 2.0, 0.0], [0.5, 1.0, 3.0], [2.0, 0.0, 1.0]])
    objective.discriminator.agreement = lambda features, captions: agreement
    batch, nothing = CLIPS.batch(range(3)), torch.zeros(3, 1)

    def contrast(*captions: str) -> float:
        found = objective._contrast(replace(batch, captions=captions), nothing, nothing)
        return float(found)

    by_clip = agreement.log_softmax(1).diagonal().mean()
    by_caption = agreement.log_softmax(0).diagonal().mean()
    assert contrast("a", "b", "c") == pytest.approx(float(-(by_clip + by_caption) / 2), abs=1e-6)
    assert contrast("a", "a", "a") == 0
    assert 0 < contrast("a", "a", "c") < contrast("a", "b", "c")


def test_gradient_penalties_are_the_squared_norms(codec_folder: Path) -> None:
    objective = make_objective("gan", codec_folder)
    objective.double()
    latents = torch.randn(2, 4, 1, 2, 2, dtype=torch.float64)
    captions = torch.randn(2, 16, dtype=torch.float64)
    objective.discriminator.double()
    step, norms = 1e-5, torch.zeros(2, dtype=torch.float64)
    for idx in range(latents[0].numel()):
        shift = torch.zeros_like(latents).flatten(1)
        shift[:, idx] = step
        up, down = (
            objective.discriminator(latents + sign * shift.view_as(latents), captions) for sign in (1, -1)
        )
        norms += ((up - down) / (2 * step)).detach().square()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)  # the objective's precision is float32
        found = objective._penalty(latents, captions)
    torch.testing.assert_close(found.detach(), norms.mean(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: VAEObjectiveConfig(caption_dropout=1.5),
            "`caption_dropout` must be between 0 and 1",
        ),
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
