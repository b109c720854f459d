"""Streaming generation: the same clips as the call, what each step tells, what is left when it is stopped."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from tests.tiny_pipeline import latents_of, make_pipeline, record_batch_sizes
from videogen.models.step_cache import StepCache
from videogen.pipelines.denoising import DenoisingStep
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.sampling.guidance_kinds import parse_guidance
from videogen.sampling.schedulers import flow_scheduler, make_scheduler

PROMPT = "a large red circle moves left"
OTHER = "a small blue star rotates on a white background"


@pytest.fixture
def pipeline() -> TextToVideo:
    return make_pipeline(TextToVideo)


def steps_of(pipeline: TextToVideo, **options: Any) -> list[DenoisingStep]:
    return list(pipeline.stream(PROMPT, seed=5, **options))


def frames_of(pipeline: TextToVideo, **options: Any) -> np.ndarray:
    frames = pipeline(PROMPT, seed=5, return_dict=False, **options)[0]
    assert isinstance(frames, np.ndarray)
    return frames


# The same as the call


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance_scale": 1.0},
        {"step_cache": StepCache(text_every=2)},
        {"guidance": parse_guidance("apg")},
        {"num_videos_per_prompt": 2, "negative_prompt": "blue"},
        {"callback_on_step_end": lambda _, __, ___, tensors: {"latents": 0.9 * tensors["latents"]}},
    ],
)
@pytest.mark.parametrize("scheduler", ["euler", "heun", "dpm++sde"])
def test_it_ends_with_what_the_call_returns(scheduler: str, options: dict[str, Any]) -> None:
    for kind in (TextToVideo, TextToVideoPipeline):
        pipeline = make_pipeline(kind)
        pipeline.scheduler = make_scheduler(scheduler, "flow_prediction", pipeline.scheduler)
        output = steps_of(pipeline, **options)[-1].output
        assert output is not None
        np.testing.assert_array_equal(output.frames, frames_of(pipeline, **options))


def test_it_gives_what_it_is_asked_for(pipeline: TextToVideo) -> None:
    output = steps_of(pipeline, output_type="latent")[-1].output
    assert output is not None and isinstance(output.frames, Tensor)
    assert torch.equal(output.frames, latents_of(pipeline, PROMPT, seed=5))


def test_streams_and_calls_of_a_pipeline_do_not_know_of_each_other(pipeline: TextToVideo) -> None:
    pipeline.scheduler = make_scheduler("dpm++2m", "flow_prediction", pipeline.scheduler)
    alone = [latents_of(pipeline, prompt, seed=2, num_inference_steps=4) for prompt in (PROMPT, OTHER)]
    streams = [
        pipeline.stream(prompt, seed=2, num_inference_steps=4, output_type="latent")
        for prompt in (PROMPT, OTHER)
    ]
    for first, second in zip(*streams, strict=True):
        latents_of(pipeline, PROMPT, seed=9)
        last = (first, second)
    for step, expected in zip(last, alone, strict=True):
        assert torch.equal(step.latents, expected)


# What a step tells


@pytest.mark.parametrize(("scheduler", "num_steps"), [("euler", 4), ("heun", 7)])
def test_steps_are_counted_and_timed(pipeline: TextToVideo, scheduler: str, num_steps: int) -> None:
    pipeline.scheduler = make_scheduler(scheduler, "flow_prediction", pipeline.scheduler)
    steps = steps_of(pipeline, num_inference_steps=4)
    assert [(step.step_idx, step.num_steps) for step in steps] == [(k, num_steps) for k in range(num_steps)]
    assert [step.output is None for step in steps] == [True] * (num_steps - 1) + [False]
    seconds = [step.seconds for step in steps]
    assert seconds[0] > 0 and sorted(seconds) == seconds
    assert steps[0].seconds_left == pytest.approx(seconds[0] * (num_steps - 1))
    assert steps[-1].seconds_left == 0


def test_nothing_is_denoised_before_it_is_asked_for(pipeline: TextToVideo) -> None:
    sizes = record_batch_sizes(pipeline)
    stream = pipeline.stream(PROMPT, seed=0, num_inference_steps=3)
    assert sizes == []
    next(stream)
    assert sizes == [1]
    assert torch.is_grad_enabled()  # around the steps, nothing is changed


def test_mistakes_are_told_before_the_first_step(pipeline: TextToVideo) -> None:
    with pytest.raises(ValueError, match="`num_frames` must be a multiple of 4"):
        pipeline.stream(PROMPT, num_frames=5)
    with pytest.raises(ValueError, match=r"`latents` must be \(1, 4, 2, 2, 3\)"):
        pipeline.stream(PROMPT, latents=torch.zeros(1, 4, 9, 2, 3))
    with pytest.raises(ValueError, match="`generator` must be one or 1"):
        pipeline.stream(PROMPT, generator=[])


def test_latents_that_are_not_finite_stop_it(pipeline: TextToVideo) -> None:
    stream = pipeline.stream(
        PROMPT, seed=0, callback_on_step_end=lambda _, step_idx, __, tensors: spoilt(step_idx, tensors)
    )
    next(stream)
    with pytest.raises(FloatingPointError, match="not finite after step 2 of 3"):
        next(stream)


def spoilt(step_idx: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"latents": tensors["latents"] / 0} if step_idx == 1 else {}


# The predicted clean clip


OWN = [
    ("ddim", "DDIMScheduler"),
    ("ddpm", "DDPMScheduler"),
    ("euler", "EulerDiscreteScheduler"),
    ("euler_a", "EulerAncestralDiscreteScheduler"),
    ("heun", "HeunDiscreteScheduler"),
    ("lms", "LMSDiscreteScheduler"),
]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "class_name"), OWN)
def test_it_is_the_schedulers_own_where_it_has_one(
    name: str, class_name: str, prediction_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    kind = getattr(diffusers, class_name)
    own: list[Tensor] = []
    step: Callable[..., Any] = kind.step

    @functools.wraps(step)
    def noting_step(*arguments: Any, return_dict: bool, **options: Any) -> tuple[Tensor]:
        output = step(*arguments, **options)
        own.append(output.pred_original_sample)
        return (output.prev_sample,)

    monkeypatch.setattr(kind, "step", noting_step)
    trained = DDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    pipeline = make_pipeline(TextToVideo, scheduler=make_scheduler(name, prediction_type, trained))
    steps = steps_of(pipeline, output_type="latent")
    del own[: -len(steps)]  # of the trial that every call begins with
    for step_of_ours, expected in zip(steps, own, strict=True):
        scale = expected.abs().max()
        torch.testing.assert_close(
            step_of_ours.predicted_latents / scale, expected / scale, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("name", "class_name"), [("dpm++2m", "DPMSolverMultistepScheduler"), ("unipc", "UniPCMultistepScheduler")]
)
def test_it_is_what_solvers_of_the_clean_clip_compute(
    name: str, class_name: str, prediction_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    kind = getattr(diffusers, class_name)
    own: list[Tensor] = []
    convert: Callable[..., Tensor] = kind.convert_model_output

    def noting_convert(*arguments: Any, **options: Any) -> Tensor:
        own.append(convert(*arguments, **options))
        return own[-1]

    monkeypatch.setattr(kind, "convert_model_output", noting_convert)
    trained = DDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    pipeline = make_pipeline(TextToVideo, scheduler=make_scheduler(name, prediction_type, trained))
    steps = steps_of(pipeline, output_type="latent")
    del own[: -len(steps)]  # of the trial that every call begins with
    for step, expected in zip(steps, own, strict=True):
        scale = expected.abs().max()
        torch.testing.assert_close(step.predicted_latents / scale, expected / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "atol"), [("euler", 1e-4), ("heun", 1e-4), ("dpm++2m", 0.02), ("unipc", 0.02)]
)
def test_on_the_velocity_of_a_single_clip_it_is_that_clip(name: str, atol: float) -> None:
    """At every step, for at each the velocity leads straight to the clip; solvers round their times."""
    scheduler = make_scheduler(name, "flow_prediction", flow_scheduler())
    pipeline = make_pipeline(TextToVideo, scheduler=scheduler)
    clip = torch.randn(1, 4, 2, 2, 3, generator=torch.Generator().manual_seed(0))

    def velocity(_: nn.Module, arguments: tuple[Any, ...], __: Any) -> tuple[Tensor]:
        sample, timestep = arguments[:2]
        return ((sample - clip) / (timestep / 1000),)

    pipeline.unet.register_forward_hook(velocity)
    steps = steps_of(pipeline, guidance_scale=1.0, num_inference_steps=6, output_type="latent")
    for step in steps:
        torch.testing.assert_close(step.predicted_latents, clip, rtol=0, atol=atol)


def test_a_preview_is_the_predicted_clip_decoded(pipeline: TextToVideo) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model was trained on fewer frames
        steps = list(pipeline.stream([PROMPT, OTHER], seed=5, num_frames=12))
    for step in steps:
        preview = step.preview()
        assert preview.shape == (2, 12, 16, 24, 3) and preview.dtype == np.float32
        np.testing.assert_array_equal(preview, pipeline.decode_latents(step.predicted_latents).numpy())
        np.testing.assert_array_equal(step.preview([0, 2]), preview[:, [0, 1, 2, 3, 8, 9, 10, 11]])
    assert np.abs(steps[0].preview() - steps[-1].preview()).max() > 1e-3
    output = steps[-1].output
    assert output is not None and isinstance(output.frames, np.ndarray)
    np.testing.assert_allclose(steps[-1].preview(), output.frames, atol=1e-5)


def test_who_stops_has_the_clip_so_far(pipeline: TextToVideo) -> None:
    sizes = record_batch_sizes(pipeline)
    for step in pipeline.stream(PROMPT, seed=5, num_inference_steps=5):
        if step.step_idx == 1:
            break
    assert len(sizes) == 2
    preview = step.preview()
    assert preview.shape == (1, 8, 16, 24, 3) and np.ptp(preview) > 0.01
    whole = steps_of(pipeline, num_inference_steps=5)
    np.testing.assert_array_equal(whole[1].preview(), preview)
