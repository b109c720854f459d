"""What a callback, or whoever takes the steps of a stream, can read and change of a running call."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback
from torch import Tensor

from tests.tiny_families import make_family_pipeline
from tests.tiny_pipeline import latents_of, make_pipeline
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.pipelines.transformer import TransformerTextToVideo

PROMPT = "a large red circle moves left"
STEPS = 4


@pytest.fixture(params=[TextToVideo, TextToVideoPipeline])
def pipeline(request: pytest.FixtureRequest) -> TextToVideo:
    return make_pipeline(request.param)


def run(pipeline: TextToVideo, callback: Callable[..., Any] | None = None, **options: Any) -> Tensor:
    options = {"seed": 0, "num_inference_steps": STEPS, "guidance_scale": 3.0} | options
    return latents_of(pipeline, PROMPT, callback_on_step_end=callback, **options)


def prompts_seen(pipeline: TextToVideo) -> list[int]:
    """How many prompts each evaluation of the denoiser is for, from now on."""
    seen: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2].num_prompts))
    return seen


def at(step: int, change: Callable[[Any], None]) -> Callable[..., Any]:
    def callback(pipeline: Any, step_idx: int, _: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step_idx == step:
            change(pipeline)
        return tensors

    return callback


def test_what_can_be_read(pipeline: TextToVideo) -> None:
    assert (pipeline.guidance_scale, pipeline.num_timesteps, pipeline.interrupt) == (3.0, 0, False)
    seen = []

    def note(running: Any, _: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert (running._guidance_scale, running._num_timesteps, running._interrupt) == (
            running.guidance_scale,
            running.num_timesteps,
            running.interrupt,
        )
        seen.append((running.guidance_scale, running.do_classifier_free_guidance, running.num_timesteps))
        return tensors

    run(pipeline, note, guidance_scale=5)
    run(pipeline, note, guidance_scale=0.5, num_inference_steps=3)
    run(pipeline, note, scheduler="heun", num_inference_steps=2)
    assert seen == [(5, True, 4)] * 4 + [(0.5, False, 3)] * 3 + [(3.0, True, 3)] * 3


@pytest.mark.parametrize("field", ["guidance_scale", "_guidance_scale"])
def test_guidance_ends_half_way(pipeline: TextToVideo, field: str) -> None:
    expected: list[Tensor] = []

    def note(_: Any, __: int, ___: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        expected.append(tensors["latents"])
        return {}

    run(pipeline, note)
    seen = prompts_seen(pipeline)
    found: list[Tensor] = []

    def switch(running: Any, step_idx: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        found.append(tensors["latents"])
        if step_idx == 1:
            setattr(running, field, 1)
        return tensors

    run(pipeline, switch)
    assert seen == [2, 2, 1, 1]
    assert all(torch.equal(found[step], expected[step]) for step in (0, 1))
    assert not torch.equal(found[2], expected[2])
    run(pipeline)
    assert seen[4:] == [2, 2, 2, 2]  # the next call has its own


def test_who_takes_the_steps_can_end_guidance_too(pipeline: TextToVideo) -> None:
    mixed = run(pipeline, at(0, lambda running: setattr(running, "_guidance_scale", 0.0)))
    frames = None
    for step in pipeline.stream(PROMPT, seed=0, num_inference_steps=STEPS, output_type="latent"):
        pipeline.guidance_scale = 1
        frames = None if step.output is None else step.output.frames
    assert isinstance(frames, Tensor) and torch.equal(frames, mixed)


def test_guidance_of_another_scale(pipeline: TextToVideo) -> None:
    higher = run(pipeline, at(-1, lambda running: None), guidance_scale=6.0)
    raised = run(pipeline, at(2, lambda running: setattr(running, "guidance_scale", 6.0)))
    assert not torch.equal(raised, higher) and not torch.equal(raised, run(pipeline))


@pytest.mark.parametrize("value", [math.nan, -1, "3", None, True])
def test_a_scale_that_is_none(pipeline: TextToVideo, value: Any) -> None:
    with pytest.raises(ValueError, match="`guidance_scale`"):
        run(pipeline, at(0, lambda running: setattr(running, "_guidance_scale", value)))


def test_guidance_cannot_begin_half_way(pipeline: TextToVideo) -> None:
    with pytest.raises(ValueError, match="`guidance_scale` was set to 5 in a call without guidance"):
        run(pipeline, at(0, lambda running: setattr(running, "_guidance_scale", 5)), guidance_scale=1)


@pytest.mark.parametrize("field", ["interrupt", "_interrupt"])
def test_an_interrupted_call_gives_what_is_foreseen(pipeline: TextToVideo, field: str) -> None:
    steps = list(pipeline.stream(PROMPT, seed=0, num_inference_steps=STEPS, guidance_scale=3.0))
    seen = prompts_seen(pipeline)
    stop = at(1, lambda running: setattr(running, field, True))
    assert torch.equal(run(pipeline, stop), steps[1].predicted_latents)
    assert len(seen) == 2
    options: dict[str, Any] = {"seed": 0, "num_inference_steps": STEPS, "guidance_scale": 3.0}
    frames = pipeline(PROMPT, callback_on_step_end=stop, **options, output_type="pt").frames
    assert frames.shape == (1, 8, 3, 16, 24)
    assert torch.equal(frames.permute(0, 1, 3, 4, 2), torch.from_numpy(steps[1].preview()))
    assert len(seen) == 4
    assert torch.equal(run(pipeline), steps[-1].latents)  # the next call is not interrupted


def test_streams_that_take_turns_do_not_share_what_is_set(pipeline: TextToVideo) -> None:
    options: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent"}
    alone = [run(pipeline, seed=seed, num_inference_steps=3) for seed in (1, 2)]
    first, second = (pipeline.stream(PROMPT, seed=seed, **options) for seed in (1, 2))
    next(first)
    next(second)
    pipeline.interrupt = True  # of the second, which ran last
    ends = [list(stream)[-1] for stream in (first, second)]
    assert [end.step_idx for end in ends] == [2, 0]
    assert all(end.output is not None for end in ends)
    assert torch.equal(ends[0].latents, alone[0])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda tensors: None, "must return a dict, be it the one .* got NoneType"),
        (lambda tensors: tensors["latents"], "must return a dict, .* got Tensor"),
        (lambda tensors: {"latent": tensors["latents"]}, "returned 'latent': known are latents"),
        (
            lambda tensors: {"latents": tensors["latents"][:, :2]},
            r"returned `latents` a tensor \(1, 2, 2, 2, 3\) of torch.float32 on cpu, expected",
        ),
        (
            lambda tensors: {"latents": tensors["latents"].half()},
            r"returned `latents` .* of torch.float16 on cpu, expected .* of torch.float32 on cpu as before",
        ),
        (lambda tensors: {"latents": tensors["latents"].int()}, "returned `latents` .* of torch.int32"),
        (lambda tensors: {"latents": tensors["latents"].to("meta")}, "returned `latents` .* on meta"),
        (lambda tensors: {"prompt_embeds": "red"}, "returned `prompt_embeds` a str, expected"),
        (lambda tensors: {"negative_prompt_embeds": None}, "returned `negative_prompt_embeds` a NoneType"),
    ],
)
def test_what_a_callback_must_not_return(
    pipeline: TextToVideo, answer: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"`callback_on_step_end` {message}"):
        run(pipeline, lambda _, __, ___, tensors: answer(tensors))


def test_guidance_by_a_gradient_leaves_no_graph(pipeline: TextToVideo) -> None:
    def descend(_: Any, __: int, ___: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.enable_grad():
            latents = tensors["latents"].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(latents.square().sum(), latents)
            return {"latents": latents - 0.1 * gradient}

    latents = run(pipeline, descend)
    assert not latents.requires_grad and not torch.equal(latents, run(pipeline))


def test_callbacks_of_two_threads_each_have_their_own_call(pipeline: TextToVideo) -> None:
    together = threading.Barrier(2, timeout=60)
    found: dict[float, tuple[list[int], list[float]]] = {}

    def make(scale: float) -> None:
        seen = []

        def stop_one(running: Any, step_idx: int, _: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            if step_idx == 0:
                together.wait()
                seen.append(running.guidance_scale)
                running.interrupt = scale == 3
                together.wait()
            return tensors

        options: dict[str, Any] = {"seed": 0, "num_inference_steps": 2, "callback_on_step_end": stop_one}
        steps = pipeline.stream(PROMPT, guidance_scale=scale, **options)
        found[scale] = [step.step_idx for step in steps], seen

    threads = [threading.Thread(target=make, args=(scale,)) for scale in (3.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {3.0: ([0], [3.0]), 5.0: ([0, 1], [5.0])}


def test_callbacks_of_diffusers(pipeline: TextToVideo) -> None:
    seen = prompts_seen(pipeline)
    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    cut = run(pipeline, cutoff)
    assert seen == [2, 2, 1, 1]
    assert torch.equal(run(pipeline, MultiPipelineCallbacks([cutoff])), cut)
    by_hand = run(pipeline, at(1, lambda running: setattr(running, "_guidance_scale", 0.0)))
    assert torch.equal(by_hand, cut)
    run(pipeline, SDCFGCutoffCallback(cutoff_step_ratio=0.5))
    assert seen[-4:] == [2, 2, 2, 1]


def test_a_family_with_guidance_tells_it() -> None:
    pipeline = make_family_pipeline(TransformerTextToVideo)
    assert pipeline.guidance_scale == 2.0 and pipeline.num_timesteps == 0
    pipeline(PROMPT, seed=0, num_inference_steps=3, guidance_scale=1.0, output_type="latent")
    assert (pipeline.guidance_scale, pipeline.do_classifier_free_guidance) == (1.0, False)
    assert pipeline.num_timesteps == 3
