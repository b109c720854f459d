"""The text-to-video pipeline on tiny real components: what a clip depends on, its steps and its output."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from PIL import Image
from torch import Tensor, nn

from tests.tiny_pipeline import latents_of, make_pipeline, record_batch_sizes
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.output import BadClipsError, VideoPipelineOutput
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.sampling.noise import sample_noise, seeded_generator
from videogen.sampling.schedulers import FLOW_SHIFT, SCHEDULERS, make_scheduler

PROMPT = "a large red circle moves left"
OTHER = "a small blue star rotates on a white background"


@pytest.fixture
def pipeline() -> TextToVideo:
    return make_pipeline(TextToVideo)


def close(first: Tensor, second: Tensor, atol: float = 1e-5) -> bool:
    return first.shape == second.shape and bool(torch.allclose(first, second, rtol=0, atol=atol))


# What a clip depends on


def test_a_clip_equals_the_same_seed_alone(pipeline: TextToVideo) -> None:
    together = latents_of(pipeline, [PROMPT, OTHER, PROMPT], seed=5)
    assert together.shape == (3, 4, 2, 2, 3)
    for item, prompt in enumerate([PROMPT, OTHER, PROMPT]):
        assert close(latents_of(pipeline, prompt, seed=5 + item), together[item : item + 1])
    assert not close(together[:1], together[2:], atol=0.1)  # the same prompt from another seed


def test_the_same_call_gives_the_same_clip(pipeline: TextToVideo) -> None:
    first = latents_of(pipeline, PROMPT, seed=1)
    latents_of(pipeline, OTHER, seed=2, num_inference_steps=5)
    assert torch.equal(latents_of(pipeline, PROMPT, seed=1), first)


def test_without_a_seed_clips_differ_and_the_global_generator_is_left_alone(pipeline: TextToVideo) -> None:
    state = torch.get_rng_state()
    first, second = (latents_of(pipeline, [PROMPT, PROMPT]) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in itertools.combinations([*first, *second], 2):
        assert not close(one, other, atol=0.1)


def test_generators(pipeline: TextToVideo) -> None:
    expected = latents_of(pipeline, [PROMPT, OTHER], seed=3)
    generators = [seeded_generator(3), seeded_generator(4)]
    assert close(latents_of(pipeline, [PROMPT, OTHER], generator=generators), expected)
    assert close(latents_of(pipeline, PROMPT, generator=seeded_generator(3)), expected[:1])
    shared = latents_of(pipeline, [PROMPT, PROMPT], generator=seeded_generator(3))
    assert close(shared[:1], expected[:1]) and not close(shared[1:], expected[:1], atol=0.1)


def test_latents_in_place_of_noise(pipeline: TextToVideo) -> None:
    noise = sample_noise((4, 2, 2, 3), [seeded_generator(8)])
    given = noise.clone()
    assert torch.equal(latents_of(pipeline, PROMPT, latents=given), latents_of(pipeline, PROMPT, seed=8))
    assert torch.equal(given, noise)


def test_prompt_embeds_in_place_of_prompts(pipeline: TextToVideo) -> None:
    embeds, negative = pipeline.encode_prompt([PROMPT, OTHER], negative_prompt="blue")
    expected = latents_of(pipeline, [PROMPT, OTHER], negative_prompt="blue", seed=0)
    given = latents_of(pipeline, prompt_embeds=embeds, negative_prompt_embeds=negative, seed=0)
    assert torch.equal(given, expected)
    embeds, negative = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    assert negative is None
    assert torch.equal(
        latents_of(pipeline, prompt_embeds=embeds, seed=0), latents_of(pipeline, PROMPT, seed=0)
    )


def test_encoded_prompts_are_repeated_and_zero_at_padding(pipeline: TextToVideo) -> None:
    embeds, negative = pipeline.encode_prompt([PROMPT, OTHER], num_videos_per_prompt=3)
    assert negative is not None and embeds.shape == negative.shape == (6, 12, 16)
    assert torch.equal(embeds[0], embeds[2]) and torch.equal(embeds[3], embeds[5])
    assert not torch.equal(embeds[2], embeds[3])
    assert embeds.ne(0).any(-1)[[0, 3]].sum(1).tolist() == [7, 10]
    assert negative.ne(0).any(-1).sum(1).tolist() == [1] * 6


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_no_guidance_at_one_and_below(pipeline: TextToVideo, scale: float) -> None:
    sizes = record_batch_sizes(pipeline)
    plain = latents_of(pipeline, PROMPT, seed=0, guidance_scale=scale)
    assert sizes == [1, 1, 1]
    assert torch.equal(plain, latents_of(pipeline, PROMPT, seed=0, guidance_scale=1.0))


def test_guidance_is_a_line_through_both_predictions(pipeline: TextToVideo) -> None:
    def one_step(scale: float, **options: Any) -> Tensor:
        return latents_of(pipeline, PROMPT, seed=0, num_inference_steps=1, guidance_scale=scale, **options)

    with_prompt = one_step(1.0)
    without = latents_of(pipeline, "", seed=0, num_inference_steps=1, guidance_scale=1.0)
    assert close(one_step(4.0), without + 4 * (with_prompt - without), atol=1e-4)
    blue = latents_of(pipeline, "blue", seed=0, num_inference_steps=1, guidance_scale=1.0)
    assert close(one_step(4.0, negative_prompt="blue"), blue + 4 * (with_prompt - blue), atol=1e-4)


def test_a_negative_prompt_changes_the_clip(pipeline: TextToVideo) -> None:
    plain = latents_of(pipeline, [PROMPT, OTHER], seed=0)
    for_all = latents_of(pipeline, [PROMPT, OTHER], negative_prompt="a green ring", seed=0)
    each = latents_of(pipeline, [PROMPT, OTHER], negative_prompt=["a green ring", ""], seed=0)
    assert not close(for_all, plain, atol=1e-3)
    assert close(each[:1], for_all[:1]) and close(each[1:], plain[1:])


def test_zeros_as_negative_embeddings_are_no_nan(pipeline: TextToVideo) -> None:
    embeds, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    zeros = torch.zeros_like(embeds)
    assert latents_of(pipeline, prompt_embeds=embeds, negative_prompt_embeds=zeros, seed=0).isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_clips_of_a_prompt_follow_each_other(pipeline: TextToVideo, scale: float) -> None:
    clips = latents_of(pipeline, [PROMPT, OTHER], num_videos_per_prompt=2, seed=10, guidance_scale=scale)
    for item, prompt in enumerate([PROMPT, PROMPT, OTHER, OTHER]):
        alone = latents_of(pipeline, prompt, seed=10 + item, guidance_scale=scale)
        assert close(alone, clips[item : item + 1])


def test_any_size_and_length(pipeline: TextToVideo) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = pipeline(PROMPT, num_frames=12, height=40, width=8, seed=0, return_dict=False)[0]
    assert frames.shape == (1, 12, 40, 8, 3)


@pytest.mark.parametrize("prompt", ["", " ", "🐑🚀", "一个红色的圆", "a\tb", "red " * 2500, "!?"])
def test_any_text_is_a_prompt(pipeline: TextToVideo, prompt: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert latents_of(pipeline, prompt, seed=0).isfinite().all()


def test_no_component_keeps_a_trace(pipeline: TextToVideo) -> None:
    before = {name: getattr(pipeline, name).state_dict() for name in ("vae", "text_encoder", "unet")}
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in before.items()}
    latents_of(pipeline, PROMPT, seed=0)
    for name, state in before.items():
        for key, value in getattr(pipeline, name).state_dict().items():
            assert torch.equal(value, state[key])
        assert not any(parameter.grad is not None for parameter in getattr(pipeline, name).parameters())


def test_a_network_in_bfloat16(pipeline: TextToVideo) -> None:
    expected = latents_of(pipeline, PROMPT, seed=0)
    for name in ("vae", "text_encoder", "unet"):
        nn.Module.to(getattr(pipeline, name), torch.bfloat16)
    latents = latents_of(pipeline, PROMPT, seed=0)
    assert latents.dtype == torch.float32  # steps are taken in float32, only predictions are not
    assert (latents - expected).abs().mean() < 0.1 * expected.abs().mean()
    frames = pipeline(PROMPT, seed=0, return_dict=False)[0]
    assert frames.dtype == np.float32


# Output


def test_output_types_show_the_same_clip(pipeline: TextToVideo) -> None:
    array = pipeline(PROMPT, seed=0, return_dict=False)[0]
    assert array.shape == (1, 8, 16, 24, 3) and array.dtype == np.float32
    assert array.min() >= 0 and array.max() <= 1
    tensor = pipeline(PROMPT, seed=0, output_type="pt", return_dict=False)[0]
    assert tensor.shape == (1, 8, 3, 16, 24)  # as in every video pipeline of diffusers
    assert np.array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    pictures = pipeline(PROMPT, seed=0, output_type="pil", return_dict=False)[0]
    assert len(pictures) == 1 and len(pictures[0]) == 8
    assert all(isinstance(picture, Image.Image) and picture.size == (24, 16) for picture in pictures[0])
    np.testing.assert_allclose(np.stack([np.array(p) for p in pictures[0]]), array[0] * 255, atol=0.51)
    latents = latents_of(pipeline, PROMPT, seed=0)
    assert np.array_equal(pipeline.decode_latents(latents).numpy(), array)


def test_output_forms(pipeline: TextToVideo) -> None:
    output = pipeline(PROMPT, seed=0)
    assert isinstance(output, VideoPipelineOutput)
    as_tuple = pipeline(PROMPT, seed=0, return_dict=False)
    assert isinstance(as_tuple, tuple) and len(as_tuple) == 1
    assert isinstance(output.frames, np.ndarray) and output[0] is output.frames
    assert np.array_equal(output.frames, as_tuple[0])


def test_both_classes_make_the_same_clip(pipeline: TextToVideo) -> None:
    full = make_pipeline(TextToVideoPipeline)
    assert torch.equal(latents_of(full, PROMPT, seed=0), latents_of(pipeline, PROMPT, seed=0))


# Steps


def test_callback_sees_every_step_and_what_it_asks_for(pipeline: TextToVideo) -> None:
    seen: list[tuple[int, float, set[str]]] = []

    def callback(caller: Any, step_idx: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        assert caller is pipeline
        seen.append((step_idx, float(timestep), set(tensors)))
        return {}

    names = ("latents", "prompt_embeds", "negative_prompt_embeds")
    plain = latents_of(pipeline, PROMPT, seed=0)
    watched = latents_of(
        pipeline, PROMPT, seed=0, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names
    )
    assert torch.equal(watched, plain)
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert [timestep for _, timestep, _ in seen] == pytest.approx(flow_timesteps(3).tolist())
    assert all(tensors == set(names) for _, _, tensors in seen)


def flow_timesteps(steps: int) -> Tensor:
    """Each step removes an equal share, before the shift of the times."""
    even = 1 - torch.arange(steps) / steps
    return 1000 * FLOW_SHIFT * even / (1 + (FLOW_SHIFT - 1) * even)


def test_callback_replaces_latents_and_embeddings(pipeline: TextToVideo) -> None:
    def last_zero(_: Any, step_idx: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(tensors["latents"])} if step_idx == 2 else {}

    assert not latents_of(pipeline, PROMPT, seed=0, callback_on_step_end=last_zero).any()

    other, _ = pipeline.encode_prompt(OTHER, do_classifier_free_guidance=False)

    def swap(_: Any, __: int, ___: Any, ____: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": other}

    swapped = latents_of(pipeline, PROMPT, seed=0, callback_on_step_end=swap)
    assert not close(swapped, latents_of(pipeline, PROMPT, seed=0), atol=1e-3)


@pytest.mark.parametrize("bad_step", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_latents_that_are_not_finite_stop_and_name_the_step(
    pipeline: TextToVideo, bad_step: int, value: float
) -> None:
    sizes = record_batch_sizes(pipeline)

    def break_it(_: Any, step_idx: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"] * value} if step_idx == bad_step else {}

    with pytest.raises(FloatingPointError, match=f"not finite after step {bad_step + 1} of 3"):
        latents_of(pipeline, PROMPT, seed=0, callback_on_step_end=break_it)
    assert len(sizes) == bad_step + 1


def test_blank_clips_stop(pipeline: TextToVideo) -> None:
    def first_only(_: Any, __: int, ___: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["latents"][1] = 0
        return {"latents": tensors["latents"]}

    assert isinstance(pipeline.vae, VideoAutoencoder)
    with torch.no_grad():
        for name, parameter in pipeline.vae.decoder.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    with pytest.raises(BadClipsError, match=r"^clip 1 is blank: all its pixels have one colour$") as error:
        pipeline([PROMPT, OTHER], seed=0, callback_on_step_end=first_only)
    assert list(error.value.bad_clips) == [1]
    frames = error.value.output.frames
    assert isinstance(frames, np.ndarray) and frames.shape == (2, 8, 16, 24, 3)
    np.testing.assert_allclose(frames[0], pipeline(PROMPT, seed=0).frames[0], atol=1e-4)
    assert np.ptp(frames[1], axis=(0, 1, 2)).max() < 1e-3


@pytest.mark.parametrize("output_type", ["latent", "np", "pil"])
def test_a_clip_that_is_not_finite_leaves_the_others(pipeline: TextToVideo, output_type: str) -> None:
    embeds, _ = pipeline.encode_prompt([PROMPT, OTHER, PROMPT], do_classifier_free_guidance=False)
    expected = pipeline(prompt_embeds=embeds, seed=0, output_type=output_type).frames
    embeds[1] = torch.finfo(torch.float32).max  # finite, but not its products
    sizes = record_batch_sizes(pipeline)
    with pytest.raises(
        BadClipsError, match=r"^clip 1 has latents that are not finite after step 1 of 3"
    ) as error:
        pipeline(prompt_embeds=embeds, seed=0, output_type=output_type)
    assert len(sizes) == 3
    frames = error.value.output.frames
    for idx in (0, 2):
        np.testing.assert_array_equal(np.asarray(frames[idx]), np.asarray(expected[idx]))
    if output_type != "latent":
        assert not np.asarray(frames[1]).any()


def test_frames_that_are_not_finite_stop(pipeline: TextToVideo) -> None:
    assert isinstance(pipeline.vae, VideoAutoencoder)
    with torch.no_grad():
        next(pipeline.vae.decoder.parameters()).fill_(math.nan)
    with pytest.raises(FloatingPointError, match="clip 0 holds NaN or infinity in its frames"):
        pipeline(PROMPT, seed=0)


# Schedulers


@pytest.mark.parametrize("name", SCHEDULERS["flow_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_flow_scheduler_runs(pipeline: TextToVideo, name: str, steps: int) -> None:
    pipeline.scheduler = make_scheduler(name, "flow_prediction", pipeline.scheduler)
    first = latents_of(pipeline, PROMPT, seed=0, num_inference_steps=steps)
    assert first.isfinite().all()
    assert torch.equal(latents_of(pipeline, PROMPT, seed=0, num_inference_steps=steps), first)
    pair = latents_of(pipeline, [OTHER, PROMPT], seed=-1, num_inference_steps=steps)
    assert close(pair[1:], first, atol=1e-4)


def test_flow_schedulers_agree_with_many_steps(pipeline: TextToVideo) -> None:
    """All of them solve one differential equation, so with small steps all find the same clip."""
    found = {}
    for name, steps in (("euler", 120), ("heun", 30), ("dpm++2m", 60), ("unipc", 40)):
        pipeline.scheduler = make_scheduler(name, "flow_prediction", pipeline.scheduler)
        found[name] = latents_of(
            pipeline, PROMPT, seed=0, num_inference_steps=steps, guidance_scale=1.0, num_frames=4
        )
    spread = found["heun"].std()
    for name, latents in found.items():
        assert (latents - found["heun"]).abs().mean() < 0.03 * spread, name


@pytest.mark.parametrize("name", SCHEDULERS["epsilon"])
def test_every_epsilon_scheduler_runs(name: str) -> None:
    pipeline = make_pipeline(TextToVideo, scheduler=DDPMScheduler())
    assert pipeline.prediction_type == "epsilon"
    pipeline.scheduler = make_scheduler(name, "epsilon", pipeline.scheduler)
    with_pair = latents_of(pipeline, [OTHER, PROMPT], seed=4, num_inference_steps=4)
    alone = latents_of(pipeline, PROMPT, seed=5, num_inference_steps=4)
    assert alone.isfinite().all()
    assert close(with_pair[1:], alone, atol=1e-3 * float(alone.abs().max()))


def test_a_scheduler_may_be_given_the_prediction(pipeline: TextToVideo) -> None:
    """What the model predicts is kept from its making, whatever scheduler is put in its place."""
    assert pipeline.prediction_type == "flow_prediction"
    with pytest.raises(ValueError, match=r"`scheduler` 'ddim' does not fit .* the same method is euler"):
        make_scheduler("ddim", pipeline.prediction_type, pipeline.scheduler)
