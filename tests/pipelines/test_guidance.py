"""Guidance in a whole call: passes are really left out, and calls and clips do not know of each other."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from tests.tiny_pipeline import latents_of, make_pipeline, record_batch_sizes
from videogen.models.step_cache import StepCache
from videogen.models.unet3d import UNet3D
from videogen.pipelines.generation import TextToVideo
from videogen.sampling.guidance_kinds import (
    GUIDANCE_KINDS,
    AdaptiveGuidance,
    Guidance,
    IntervalGuidance,
    ProjectedGuidance,
    RescaledGuidance,
)

PROMPTS = ["a large red circle moves left", "a small blue star rotates"]


@pytest.fixture(scope="module")
def pipeline() -> TextToVideo:
    return make_pipeline(TextToVideo)


def run(pipeline: TextToVideo, guidance: Guidance | None, prompt: Any = PROMPTS, **options: Any) -> Tensor:
    arguments = {"seed": 0, "num_inference_steps": 4, "guidance_scale": 3.0, **options}
    return latents_of(pipeline, prompt, guidance=guidance, **arguments)


@pytest.mark.parametrize(
    ("guidance", "sizes"),
    [
        (None, [4, 4, 4, 4]),
        (IntervalGuidance(low=0.6, high=1.0), [4, 4, 4, 2]),
        (IntervalGuidance(low=0.0, high=0.8), [2, 2, 4, 4]),
        (IntervalGuidance(low=0.0, high=0.0), [2, 2, 2, 2]),
        (AdaptiveGuidance(similarity=-1), [4, 2, 2, 2]),
        (AdaptiveGuidance(similarity=1), [4, 4, 4, 4]),
        (ProjectedGuidance(), [4, 4, 4, 4]),
    ],
)
def test_the_network_runs_for_what_is_needed(guidance: Guidance | None, sizes: list[int]) -> None:
    """Flow with shift 3, 4 steps: noise levels 1, 0.9, 0.75, 0.5."""
    pipeline = make_pipeline(TextToVideo)
    seen: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2].num_prompts))
    run(pipeline, guidance)
    assert seen == sizes


def test_without_any_guided_step_the_clip_is_the_conditional_one(pipeline: TextToVideo) -> None:
    never = run(pipeline, IntervalGuidance(low=0.0, high=0.0))
    torch.testing.assert_close(never, run(pipeline, None, guidance_scale=1.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "guidance",
    [RescaledGuidance(phi=0), IntervalGuidance(0, 1), ProjectedGuidance(eta=1, momentum=0, norm=0)],
)
@pytest.mark.parametrize("prediction_type", ["flow_prediction", "epsilon", "v_prediction"])
def test_settings_that_change_nothing_give_the_clip_of_the_default(
    prediction_type: str, guidance: Guidance
) -> None:
    changes: dict[str, Any] = {}
    if prediction_type != "flow_prediction":
        changes["scheduler"] = DDIMScheduler(prediction_type=prediction_type, clip_sample=False)
    pipeline = make_pipeline(TextToVideo, UNet3D, **changes)
    torch.testing.assert_close(run(pipeline, guidance), run(pipeline, None), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", GUIDANCE_KINDS)
def test_calls_leave_no_trace_and_clips_do_not_know_their_batch(pipeline: TextToVideo, name: str) -> None:
    guidance = GUIDANCE_KINDS[name]()
    plain = run(pipeline, None)
    together = run(pipeline, guidance)
    assert torch.equal(run(pipeline, guidance), together)
    assert torch.equal(run(pipeline, None), plain)
    alone = run(pipeline, guidance, PROMPTS[1], seed=1)
    torch.testing.assert_close(alone, together[1:], rtol=0, atol=1e-4)


def test_guidance_and_a_cache_work_together(pipeline: TextToVideo) -> None:
    cache = StepCache(deep_every=2, guidance_every=2)
    cached = run(pipeline, ProjectedGuidance(), step_cache=cache)
    assert torch.equal(run(pipeline, ProjectedGuidance(), step_cache=cache), cached)
    assert not torch.equal(cached, run(pipeline, ProjectedGuidance()))
    with pytest.raises(ValueError, match="both leave out passes"):
        run(pipeline, AdaptiveGuidance(), step_cache=cache)


def test_guidance_without_a_scale_is_refused(pipeline: TextToVideo) -> None:
    sizes = record_batch_sizes(pipeline)
    with pytest.raises(ValueError, match="needs a `guidance_scale` above 1, got 1"):
        run(pipeline, ProjectedGuidance(), guidance_scale=1.0)
    assert sizes == []


def test_the_predicted_clip_of_the_last_step_is_the_clip(pipeline: TextToVideo) -> None:
    seen: list[Tensor] = []

    def note(_: Any, __: int, ___: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
        seen.append(tensors["predicted_latents"])
        return {}

    latents = run(
        pipeline,
        None,
        callback_on_step_end=note,
        callback_on_step_end_tensor_inputs=("predicted_latents",),
    )
    assert len(seen) == 4
    torch.testing.assert_close(seen[-1], latents, rtol=0, atol=1e-5)
    distances = [(item - latents).abs().mean() for item in seen]
    assert distances[0] > distances[2]
