"""Step caching in a whole call: guidance of earlier steps, no trace in the components, errors."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from tests.tiny_pipeline import make_pipeline
from videogen.models.step_cache import StepCache
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.generation import TextToVideo
from videogen.sampling.noise import clip_generators
from videogen.sampling.schedulers import flow_scheduler, set_timesteps

PROMPTS = ["a large red circle moves left", "a small blue star rotates on a white background"]
NUM_STEPS = 4


@pytest.fixture(params=[UNet3D, UViT3D])
def pipeline(request: pytest.FixtureRequest) -> TextToVideo:
    defaults = {"num_frames": 12, "height": 32, "width": 40, "num_inference_steps": NUM_STEPS}
    scheduler = DDIMScheduler(clip_sample=False) if request.param is UNet3D else flow_scheduler()
    return make_pipeline(TextToVideo, request.param, scheduler=scheduler, defaults=defaults)


def latents_of(pipeline: TextToVideo, **options: Any) -> Tensor:
    arguments = {"prompt": PROMPTS, "seed": 0, "guidance_scale": 3.0, **options}
    latents = pipeline(**arguments, output_type="latent", return_dict=False)[0]
    assert isinstance(latents, Tensor) and latents.shape == (2, 4, 3, 4, 5)
    return latents


def test_settings_that_reuse_nothing_change_no_bit(pipeline: TextToVideo) -> None:
    assert torch.equal(latents_of(pipeline, step_cache=StepCache()), latents_of(pipeline))


@pytest.mark.parametrize("text", ["deep=2", "spatial=2,text=3", "guidance=2", "deep=2,text=3,guidance=3"])
def test_calls_do_not_know_of_each_other(pipeline: TextToVideo, text: str) -> None:
    plain = latents_of(pipeline)
    cached = latents_of(pipeline, step_cache=StepCache.parse(text))
    assert (cached - plain).abs().max() > 1e-4
    assert torch.equal(latents_of(pipeline, step_cache=StepCache.parse(text)), cached)
    assert torch.equal(latents_of(pipeline), plain)


def test_a_clip_does_not_depend_on_its_batch(pipeline: TextToVideo) -> None:
    settings = StepCache(deep_every=2, text_every=3, guidance_every=3)
    together = latents_of(pipeline, step_cache=settings)
    for item, prompt in enumerate(PROMPTS):
        alone = pipeline(
            prompt,
            seed=item,
            guidance_scale=3.0,
            step_cache=settings,
            output_type="latent",
            return_dict=False,
        )[0]
        assert isinstance(alone, Tensor)
        torch.testing.assert_close(alone, together[item : item + 1], rtol=0, atol=1e-4)


def test_guidance_is_that_of_the_last_step_that_computed_it(pipeline: TextToVideo) -> None:
    batch_sizes: list[int] = []

    def note_size(_: nn.Module, __: Any, output: tuple[Tensor]) -> None:
        batch_sizes.append(len(output[0]))

    handle = pipeline.unet.register_forward_hook(note_size)
    given = latents_of(pipeline, step_cache=StepCache(guidance_every=2, last_steps=1))
    handle.remove()
    assert batch_sizes == [4, 2, 4, 4]

    latents = latents_of_noise(pipeline)
    embeds, negative = pipeline.encode_prompt(PROMPTS)
    assert negative is not None
    masks = [text.ne(0).any(-1) for text in (negative, embeds)]
    set_timesteps(pipeline.scheduler, NUM_STEPS, torch.device("cpu"))
    with torch.no_grad():
        for step_idx, timestep in enumerate(pipeline.scheduler.timesteps):  # type: ignore[attr-defined]
            noise_pred = pipeline.unet(latents, timestep, embeds, masks[1]).sample
            if step_idx != 1:
                difference = noise_pred - pipeline.unet(latents, timestep, negative, masks[0]).sample
            noise_pred = noise_pred + 2 * difference
            latents = pipeline.scheduler.step(noise_pred, timestep, latents).prev_sample  # type: ignore[attr-defined]
    torch.testing.assert_close(given, latents, rtol=0, atol=1e-4)


def latents_of_noise(pipeline: TextToVideo) -> Tensor:
    generators = clip_generators(0, None, 2)
    return pipeline.prepare_latents(2, 12, 32, 40, generators)


def test_new_prompts_take_over_nothing_from_the_old(pipeline: TextToVideo) -> None:
    embeds, _ = pipeline.encode_prompt([PROMPTS[1]] * 2, do_classifier_free_guidance=False)

    def swap(_: Any, step_idx: int, __: Any, ___: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": embeds} if step_idx == 0 else {}

    def swap_always(_: Any, step_idx: int, __: Any, ___: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": embeds}

    many = StepCache(text_every=100, guidance_every=100)
    # With new prompts at every step nothing is ever old enough to be reused.
    renewed = latents_of(pipeline, step_cache=many, callback_on_step_end=swap_always)
    assert torch.equal(renewed, latents_of(pipeline, callback_on_step_end=swap_always))
    once = latents_of(pipeline, step_cache=many, callback_on_step_end=swap)
    assert (once - latents_of(pipeline, step_cache=many)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_cache": StepCache(guidance_every=2), "guidance_scale": 1.0}, "no guidance above 1"),
        ({"step_cache": StepCache(deep_every=2), "num_inference_steps": 1}, "leaves none of 1"),
    ],
)
def test_settings_without_an_effect_are_refused(
    pipeline: TextToVideo, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        latents_of(pipeline, **options)
