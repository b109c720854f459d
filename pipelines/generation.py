"""From a prompt to a clip: encode the words, denoise latents, decode them.

`TextToVideo` is the whole of it on bare components. `TextToVideoPipeline` adds what diffusers pipelines can
do (saving, loading, devices, offloading), at the price of an import that takes seconds.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator, Sequence
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
from videogen.pipelines.denoising import DenoisingStep, StepCallback, denoise
from videogen.pipelines.latent_generation import ClipDefaults, LatentGenerator
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.guidance_kinds import ClassifierFreeGuidance, Guidance, GuidanceCall
from videogen.sampling.noise import clip_generators
from videogen.sampling.schedulers import (
    check_prediction_type,
    initial_noise_sigma,
    prediction_type_of,
    scale_model_input,
    set_timesteps,
)
from videogen.text.contract import PromptEncoder

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin


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
        guidance: Guidance | None = None,
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
            guidance_scale: Of guidance; 1 and below is none, at half the cost.
            num_videos_per_prompt: Clips per prompt; those of one prompt follow each other.
            seed: Clip k of the call is made from `seed + k`: the one made alone with that seed, up to
                rounding.
            generator: In place of `seed`: one per clip, or one that is drawn from clip by clip.
            latents: Noise to start from, `(B, C, f, h, w)` of unit variance, in place of drawn noise.
            prompt_embeds: In place of `prompt`, `(P, L, D)` as `encode_prompt` returns them.
            negative_prompt_embeds: In place of `negative_prompt`, `(P, L, D)`.
            step_cache: What steps take over from earlier ones: faster, and another clip. By default nothing.
            guidance: How the predictions with and without the prompt become one, see
                `videogen.sampling.guidance_kinds`; None is classifier-free guidance.
            output_type: `np`, `pt`, `pil` or `latent`; see `VideoPipelineOutput`.
            return_dict: Whether to return a `VideoPipelineOutput` rather than a tuple.
            callback_on_step_end: Called after each step with (pipeline, step index, timestep, tensors); what
                it returns under `latents`, `prompt_embeds` or `negative_prompt_embeds` replaces those in use.
            callback_on_step_end_tensor_inputs: Names of the tensors it is given: those three, or
                `predicted_latents`, the clean latents `(B, C, f, h, w)` that the step's prediction means.

        Returns:
            The clips, one for each prompt and `num_videos_per_prompt`.

        Raises:
            ValueError: If an argument is out of range or does not fit the model; before any computation.
            BadClipsError: If latents become NaN or infinite, naming the step, or a clip comes out blank. This
                FloatingPointError names the bad clips, and its `output` has the others.
        """
        output = None
        for step in self.stream(
            prompt,
            negative_prompt=negative_prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_videos_per_prompt=num_videos_per_prompt,
            seed=seed,
            generator=generator,
            latents=latents,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            step_cache=step_cache,
            guidance=guidance,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        ):
            output = step.output
        assert output is not None
        return output if return_dict else (output.frames,)

    def stream(
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
        guidance: Guidance | None = None,
        output_type: str = "np",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Generator[DenoisingStep, None, None]:
        """Generate clips as the call does, and give each step when it is done.

        Arguments and errors are those of the call. They are looked at now; the steps are computed as they are
        asked for, and whoever asks for no more has stopped. The last one carries the output. Several streams
        of a pipeline do not know of each other.

            for step in pipeline.stream("a red circle orbits", seed=7):
                print(step.step_idx, step.seconds_left)
                if enough:
                    frames = step.preview()  # the clip as it is foreseen
                    break
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
        if guidance is not None:
            guidance.check_fits(guidance_scale, step_cache)
        if not guided and (negative_prompt or negative_prompt_embeds is not None):
            warnings.warn("the negative prompt is ignored: it needs a guidance above 1", stacklevel=3)

        generators = clip_generators(seed, generator, batch_size)
        latents = self.prepare_latents(batch_size, num_frames, height, width, generators, latents)
        with torch.no_grad():
            prompt_embeds, negative_prompt_embeds = self.encode_prompt(
                prompts,
                num_videos_per_prompt=num_videos_per_prompt,
                do_classifier_free_guidance=guided,
                negative_prompt=negative_prompt,
                prompt_embeds=prompt_embeds,
                negative_prompt_embeds=negative_prompt_embeds,
            )
        scheduler = copy.deepcopy(self.scheduler)  # which keeps the state of this one call
        set_timesteps(scheduler, steps, self.execution_device)
        guide = GuidanceCall(
            guidance or ClassifierFreeGuidance(), guidance_scale, scheduler, self.prediction_type
        )
        return denoise(
            self,
            scheduler,
            latents * initial_noise_sigma(scheduler),
            prompt_embeds,
            negative_prompt_embeds,
            num_inference_steps=steps,
            guide=guide,
            generators=generators,
            step_cache=step_cache,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_tensors=callback_on_step_end_tensor_inputs,
        )

    def _predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: TextContext,
        guide: GuidanceCall,
        cache: FeatureCache | None,
    ) -> Tensor:
        """The prediction in float32, made in any dtype; guided if there are negative prompts."""
        evaluation = guide.evaluation(latents, timestep)
        guided = text.num_prompts > len(latents)
        both = guided and guide.guidance.needs_uncond(evaluation)
        difference = cache.kept("guidance", self.unet, len(latents)) if cache is not None and both else None
        if guided and (not both or difference is not None):
            text = text.last(len(latents))
        model_input = scale_model_input(evaluation.scheduler, latents, timestep).to(self.unet.dtype)
        noise_pred = self.unet(model_input, timestep, text, return_dict=False, cache=cache)[0].float()
        if not both:
            return noise_pred
        if difference is not None:
            noise_pred_uncond, noise_pred_text = noise_pred - difference, noise_pred
        else:
            noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
            if cache is not None:
                cache.keep("guidance", self.unet, noise_pred_text - noise_pred_uncond)
        return guide.guidance.combine(noise_pred_uncond, noise_pred_text, guide.guidance_scale, evaluation)
