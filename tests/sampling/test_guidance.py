"""Guidance: identities between its kinds, conversions between predictions, and passes that are left out."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from videogen.models.step_cache import StepCache
from videogen.sampling.guidance import Evaluation, adaptive_projected, classifier_free, rescaled
from videogen.sampling.guidance_kinds import (
    GUIDANCE_KINDS,
    AdaptiveGuidance,
    Guidance,
    GuidanceCall,
    IntervalGuidance,
    ProjectedGuidance,
    RescaledGuidance,
    parse_guidance,
)
from videogen.sampling.predictions import predict_from_clean
from videogen.sampling.schedulers import flow_scheduler, make_scheduler

SHAPE = (2, 4, 3, 4, 4)
KINDS = ("flow_prediction", "epsilon", "v_prediction", "sample")


def scheduler_of(kind: str) -> Any:
    scheduler = flow_scheduler() if kind == "flow_prediction" else DDIMScheduler(prediction_type=kind)
    scheduler.set_timesteps(10)
    return scheduler


def evaluation_of(kind: str, step_idx: int = 4, scheduler: Any = None) -> Evaluation:
    scheduler = scheduler or scheduler_of(kind)
    latents = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    return Evaluation(latents, scheduler.timesteps[step_idx], scheduler, kind)


def two_predictions() -> tuple[Tensor, Tensor]:
    uncond, text = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    return uncond, text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GUIDANCE_KINDS)
def test_a_scale_of_one_is_the_conditional_prediction(kind: str, name: str) -> None:
    uncond, text = two_predictions()
    guided = GUIDANCE_KINDS[name]().combine(uncond, text, 1.0, evaluation_of(kind))
    torch.testing.assert_close(guided, text, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "guidance",
    [
        ProjectedGuidance(eta=1, momentum=0, norm=0),
        RescaledGuidance(phi=0),
        IntervalGuidance(low=0, high=1),
        AdaptiveGuidance(similarity=1),
    ],
)
def test_settings_that_change_nothing_are_classifier_free_guidance(kind: str, guidance: Guidance) -> None:
    uncond, text = two_predictions()
    evaluation = evaluation_of(kind)
    assert guidance.needs_uncond(evaluation)
    guided = guidance.combine(uncond, text, 3.0, evaluation)
    torch.testing.assert_close(guided, classifier_free(uncond, text, 3.0), rtol=0, atol=1e-3)


def test_rescaling_gives_each_clip_the_deviation_of_its_condition() -> None:
    uncond, text = two_predictions()
    guided = rescaled(uncond, text, 5.0, phi=1.0)
    torch.testing.assert_close(guided.flatten(1).std(1), text.flatten(1).std(1))
    plain = classifier_free(uncond, text, 5.0)
    torch.testing.assert_close(rescaled(uncond, text, 5.0, phi=0.25), 0.25 * guided + 0.75 * plain)


@pytest.mark.parametrize("kind", KINDS)
def test_projected_guidance_moves_the_clean_clip_across_itself(kind: str) -> None:
    evaluation = evaluation_of(kind)
    uncond, text = two_predictions()
    guided = adaptive_projected(uncond, text, 4.0, evaluation, eta=0, momentum=0, norm=0)
    clean, before = evaluation.to_clean(guided), evaluation.to_clean(text)
    update = (clean - before).flatten(1)
    cosine = torch.cosine_similarity(update, before.flatten(1))
    assert cosine.abs().max() < 1e-3 and update.norm() > 1


def test_projected_guidance_is_the_same_whatever_is_predicted() -> None:
    """The same clean clips told as noise, velocity or themselves."""
    clean_uncond, clean_text = two_predictions()
    results = []
    for kind in ("epsilon", "v_prediction", "sample"):
        evaluation = evaluation_of(kind)
        told = [
            predict_from_clean(clean, evaluation.latents, evaluation.timestep, evaluation.scheduler, kind)
            for clean in (clean_uncond, clean_text)
        ]
        guided = adaptive_projected(told[0], told[1], 3.0, evaluation, eta=0.3, momentum=0, norm=0.5)
        results.append(evaluation.to_clean(guided))
    torch.testing.assert_close(results[0], results[2], rtol=0, atol=1e-3)
    torch.testing.assert_close(results[1], results[2], rtol=0, atol=1e-3)


def test_projected_guidance_limits_the_norm_and_averages_over_a_call() -> None:
    evaluation = evaluation_of("sample")
    uncond, text = two_predictions()
    limited = adaptive_projected(uncond, text, 2.0, evaluation, eta=1, momentum=0, norm=0.1)
    size = (limited - text).square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(size, torch.full((2,), 0.1))

    first = adaptive_projected(uncond, text, 2.0, evaluation, eta=1, momentum=-0.5, norm=0)
    second = adaptive_projected(uncond, text, 2.0, evaluation, eta=1, momentum=-0.5, norm=0)
    torch.testing.assert_close(second - text, 0.5 * (first - text))


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.8), (0.0, 0.5), (0.6, 1.0)])
def test_an_interval_is_of_noise_levels(low: float, high: float) -> None:
    guidance, scheduler = IntervalGuidance(low, high), scheduler_of("flow_prediction")
    for idx, timestep in enumerate(scheduler.timesteps):
        evaluation = evaluation_of("flow_prediction", idx, scheduler)
        assert abs(evaluation.noise_level - float(timestep) / 1000) < 1e-6
        assert guidance.needs_uncond(evaluation) == (low < evaluation.noise_level <= high)


def test_levels_mean_the_same_for_samplers_that_keep_latents_differently() -> None:
    trained = DDIMScheduler()
    euler = make_scheduler("euler", "epsilon", trained)
    euler.set_timesteps(1000)  # type: ignore[attr-defined]
    trained.set_timesteps(1000)
    for idx in (0, 500, 990):
        levels = [evaluation_of("epsilon", idx, scheduler).noise_level for scheduler in (trained, euler)]
        assert abs(levels[0] - levels[1]) < 1e-4


def test_adaptive_guidance_ends_for_each_clip_once_its_predictions_agree() -> None:
    uncond, text = two_predictions()
    uncond[0] = text[0]  # the first clip agrees at once
    guidance, evaluation = AdaptiveGuidance(0.99), evaluation_of("sample")
    guided = guidance.combine(uncond, text, 3.0, evaluation)
    torch.testing.assert_close(guided, classifier_free(uncond, text, 3.0))
    assert guidance.needs_uncond(evaluation)
    other = guidance.combine(text + 1, text, 3.0, evaluation)
    assert torch.equal(other[0], text[0]) and not torch.equal(other[1], text[1])
    guidance.combine(text, text, 3.0, evaluation)
    assert not guidance.needs_uncond(evaluation)


@pytest.mark.parametrize("name", GUIDANCE_KINDS)
def test_text_and_settings_are_the_same(name: str) -> None:
    guidance = GUIDANCE_KINDS[name]()
    assert parse_guidance(name) == guidance
    assert parse_guidance(str(guidance)) == guidance
    assert parse_guidance("apg:eta=0.25, norm=2") == ProjectedGuidance(eta=0.25, norm=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "`guidance` 'foo' is unknown: known are cfg, rescaled"),
        ("cfg:phi=1", "takes no settings"),
        ("apg:theta=1", "takes each of eta, momentum, norm at most once, got 'theta=1'"),
        ("apg:eta=0,eta=1", "at most once"),
        ("apg:eta=much", "`eta` of guidance 'apg' must be a number"),
        ("apg:eta=2", "`eta` of guidance 'apg' must be between 0 and 1, got 2"),
        ("rescaled:phi=nan", "between 0 and 1, got nan"),
        ("interval:low=0.5,high=0.2", "`low` of guidance 'interval' must be between 0 and 0.2"),
    ],
)
def test_wrong_settings_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_guidance(text)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`guidance` 'apg.*' needs a `guidance_scale` above 1, got 1"):
        ProjectedGuidance().check_fits(1.0, None)
    cache = StepCache(guidance_every=2)
    with pytest.raises(ValueError, match="both leave out passes"):
        AdaptiveGuidance().check_fits(3.0, cache)
    AdaptiveGuidance().check_fits(3.0, StepCache(deep_every=2))
    ProjectedGuidance().check_fits(3.0, cache)


def test_calls_remember_nothing_of_each_other() -> None:
    guidance, scheduler = ProjectedGuidance(), scheduler_of("sample")
    uncond, text = two_predictions()
    results = []
    for _ in range(2):
        call = GuidanceCall(guidance, scheduler, "sample")
        results.append(guidance.combine(uncond, text, 3.0, call.evaluation(text, scheduler.timesteps[0])))
    assert torch.equal(results[0], results[1])
