"""From a prompt to a clip: encode the words, denoise latents, decode them.

`TextToVideo` is the whole of it on bare components. `TextToVideoPipeline` adds what diffusers pipelines can
do (saving, loading, devices, offloading), at the price of an import that takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videogen.codec.contract import Codec
from videogen.models.dit import DiT3D
from videogen.models.step_cache import FeatureCache, StepCache
from videogen.models.text_context import TextContext
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.checks import check_choices, check_numbers, check_prompts, check_size
from videogen.pipelines.latent_generation import ClipDefaults, LatentGenerator
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.guidance import classifier_free, classifier_free_by_difference
from videogen.sampling.schedulers import (
    check_prediction_type,
    initial_noise_sigma,
    prediction_type_of,
    scale_model_input,
    step_arguments,
)
from videogen.text.contract import PromptEncoder

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class GenerationDefaults(ClipDefaults):
    """What a call uses where it is not told, beside `ClipDefaults`.

    Attributes:
        num_inference_steps: Denoising steps.
        guidance_scale: Of classifier-free guidance.
    """

    num_inference_steps: int = 8
    guidance_scale: float = 3.0


class TextToVideo(LatentGenerator):
    """Generates clips from prompts with a latent diffusion model.

    Args:
        vae: The codec.
        text_encoder: Turns prompts into embeddings.
        unet: The denoiser.
        scheduler: Any diffusers scheduler for what the denoiser predicts.
        prediction_type: `flow_prediction`, `epsilon`, `v_prediction` or `sample`; by default what the
            scheduler is made for.
        defaults: See `GenerationDefaults`, as a dict.
        codec_hash: Of the codec that the denoiser was trained with; None if that is not known.
    """

    unet: UViT3D | UNet3D | DiT3D
    scheduler: SchedulerMixin
    prediction_type: str
    defaults: GenerationDefaults
    defaults_class = GenerationDefaults

    def __init__(
        self,
        vae: Codec,
        text_encoder: PromptEncoder,
        unet: UViT3D | UNet3D | DiT3D,
        scheduler: SchedulerMixin,
        prediction_type: str | None = None,
        defaults: dict[str, Any] | None = None,
        codec_hash: str | None = None,
    ) -> None:
        super().__init__(vae, text_encoder, GenerationDefaults(**(defaults or {})), codec_hash)
        self.unet, self.scheduler = unet, scheduler
        self.prediction_type = prediction_type or prediction_type_of(scheduler)

    @property
    def network(self) -> UViT3D | UNet3D | DiT3D:
        """What makes latents: the denoiser."""
        return self.unet

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        step_cache: StepCache | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> VideoPipelineOutput | tuple[Any]:
        """Generate clips.

        Args:
            prompt: One or several; the empty one generates without condition.
            negative_prompt: What to steer away from, one for all or one per prompt; needs guidance.
            num_frames: Frames per clip, a multiple of the codec's compression in time.
            height: In pixels, a multiple of the codec's compression in space.
            width: In pixels, likewise.
            num_inference_steps: Denoising steps.
            guidance_scale: Of classifier-free guidance; 1 and below is none, at half the cost.
            num_videos_per_prompt: Clips per prompt; those of one prompt follow each other.
            seed: Clip k of the call is made from `seed + k`, and so equals one made alone with that seed.
            generator: In place of `seed`: one per clip, or one that is drawn from clip by clip.
            latents: Noise to start from, `(B, C, f, h, w)` of unit variance, in place of drawn noise.
            prompt_embeds: In place of `prompt`, `(P, L, D)` as `encode_prompt` returns them.
            negative_prompt_embeds: In place of `negative_prompt`, `(P, L, D)`.
            step_cache: What steps take over from earlier ones: faster, and another clip. By default nothing.
            output_type: `np`, `pt`, `pil` or `latent`; see `VideoPipelineOutput`.
            return_dict: Whether to return a `VideoPipelineOutput` rather than a tuple.
            callback_on_step_end: Called after each step with (pipeline, step index, timestep, tensors); what
                it returns under `latents`, `prompt_embeds` or `negative_prompt_embeds` replaces those in use.
            callback_on_step_end_tensor_inputs: Names of the tensors it is given.

        Returns:
            The clips, one for each prompt and `num_videos_per_prompt`.

        Raises:
            ValueError: If an argument is out of range or does not fit the model; before any computation.
            FloatingPointError: If latents become NaN or infinite, naming the step, or a clip comes out blank.
        """
        defaults = self.defaults
        num_frames = defaults.num_frames if num_frames is None else num_frames
        height = defaults.height if height is None else height
        width = defaults.width if width is None else width
        steps = defaults.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance_scale = defaults.guidance_scale if guidance_scale is None else guidance_scale
        prompts = [prompt] if isinstance(prompt, str) else prompt
        text_dim = self.unet.config["cross_attention_dim"]
        num_prompts = check_prompts(prompts, negative_prompt, prompt_embeds, negative_prompt_embeds, text_dim)
        trained_size = (defaults.num_frames, defaults.height, defaults.width)
        check_size((num_frames, height, width), self.codec.compression, trained_size)
        check_numbers(steps, num_videos_per_prompt, guidance_scale)
        check_choices(output_type, seed, generator, callback_on_step_end_tensor_inputs)
        check_prediction_type(self.scheduler, self.prediction_type)
        batch_size = num_prompts * num_videos_per_prompt
        guided = guidance_scale > 1
        if step_cache is not None:
            step_cache.check_fits(self.unet.cache_kinds, steps, guided)
        if not guided and (negative_prompt or negative_prompt_embeds is not None):
            warnings.warn("the negative prompt is ignored: it needs a guidance above 1", stacklevel=2)

        generators = self._generators(seed, generator, batch_size)
        latents = self.prepare_latents(batch_size, num_frames, height, width, generators, latents)
        prompt_embeds, negative_prompt_embeds = self.encode_prompt(
            prompts,
            num_videos_per_prompt=num_videos_per_prompt,
            do_classifier_free_guidance=guided,
            negative_prompt=negative_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
        )
        self.scheduler.set_timesteps(steps, device=self.execution_device)  # type: ignore[attr-defined]
        latents = latents * initial_noise_sigma(self.scheduler)
        step_extras = step_arguments(self.scheduler, generators)

        text = self._text_context(prompt_embeds, negative_prompt_embeds)
        with self.progress_bar(total=steps) as bar:
            timesteps = self.scheduler.timesteps  # type: ignore[attr-defined]
            cache = None if step_cache is None else FeatureCache(step_cache, len(timesteps))
            for step_idx, timestep in enumerate(timesteps):
                if cache is not None:
                    cache.start_step(step_idx)
                model_input = scale_model_input(self.scheduler, latents, timestep)
                noise_pred = self._predict(model_input, timestep, text, guidance_scale, cache)
                latents = self.scheduler.step(  # type: ignore[attr-defined]
                    noise_pred, timestep, latents, return_dict=False, **step_extras
                )[0]
                if callback_on_step_end is not None:
                    tensors = {
                        "latents": latents,
                        "prompt_embeds": prompt_embeds,
                        "negative_prompt_embeds": negative_prompt_embeds,
                    }
                    offered = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    answer = callback_on_step_end(self, step_idx, timestep, offered)
                    new_text = not answer.keys().isdisjoint(("prompt_embeds", "negative_prompt_embeds"))
                    latents = answer.pop("latents", latents)
                    prompt_embeds = answer.pop("prompt_embeds", prompt_embeds)
                    negative_prompt_embeds = answer.pop("negative_prompt_embeds", negative_prompt_embeds)
                    if new_text:
                        text = self._text_context(prompt_embeds, negative_prompt_embeds)
                        if cache is not None:
                            cache.clear()
                if not bool(torch.isfinite(latents).all()):
                    raise FloatingPointError(
                        f"latents are not finite after step {step_idx + 1} of {len(timesteps)} "
                        f"(timestep {timestep:g})"
                    )
                if (step_idx + 1) * steps // len(timesteps) > step_idx * steps // len(timesteps):
                    bar.update()

        return self._output(latents, output_type, return_dict)

    def _predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: TextContext,
        guidance_scale: float,
        cache: FeatureCache | None,
    ) -> Tensor:
        """The prediction in float32, made in any dtype; guided if there are negative prompts."""
        difference = None if cache is None else cache.kept("guidance", self.unet, len(latents))
        if difference is not None:
            text = text.last(len(latents))
        latents = latents.to(self.unet.dtype)
        noise_pred = self.unet(latents, timestep, text, return_dict=False, cache=cache)[0].float()
        if difference is not None:
            return classifier_free_by_difference(noise_pred, difference, guidance_scale)
        if text.num_prompts == len(latents):
            return noise_pred
        noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
        if cache is not None:
            cache.keep("guidance", self.unet, noise_pred_text - noise_pred_uncond)
        return classifier_free(noise_pred_uncond, noise_pred_text, guidance_scale)
