"""The adversarial objective: two phases, a contrast, coverage, and weights that fall on the way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tiny import randomise
from tests.train.family_runs import make_objective, make_run
from tests.train.runs import CLIPS
from videogen.train.loop import train
from videogen.train.objectives.gan import GANObjectiveConfig
from videogen.train.optimizer import MuonAdamW

_ADVERSARIAL_ALONE: dict[str, Any] = {
    "gamma": (0.0, 0.0),
    "contrast_weight": (0.0, 0.0),
    "coverage_weight": 0.0,
}


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
            ).sample  # fmt: skip
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
            objective.discriminator(latents + sign * shift.view_as(latents), captions).scores
            for sign in (1, -1)
        )
        norms += ((up - down) / (2 * step)).detach().square()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)  # the objective's precision is float32
        found = objective._penalty(latents, captions)
    torch.testing.assert_close(found.detach(), norms.mean(), rtol=1e-5, atol=1e-8)
