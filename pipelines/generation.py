"""From a prompt to a clip: encode the words, denoise latents, decode them.

`TextToVideo` is the whole of it on bare components. `TextToVideoPipeline` adds what diffusers pipelines can
do (saving, loading, devices, offloading), at the price of an import that takes seconds.
"""

from __future__ import annotations

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
from videogen.pipelines.arguments import read_arguments, read_switch
from videogen.pipelines.checks import check_prompts, check_seed, check_size
from videogen.pipelines.denoising import DenoisingStep, StepCallback, denoise
from videogen.pipelines.latent_generation import ClipDefaults, LatentGenerator, RunningCall
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.guidance_kinds import ClassifierFreeGuidance, Guidance, GuidanceCall
from videogen.sampling.noise import clip_generators
from videogen.sampling.scheduler_trial import fitted_scheduler
from videogen.sampling.schedulers import (
    initial_noise_sigma,
    make_scheduler,
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
        self._trained_scheduler = scheduler  # users may set another one
        # Without a scheduler it may be unknown: there are no steps either.
        own = "" if scheduler is None else prediction_type_of(scheduler)
        self.prediction_type = prediction_type or own

    @property
    def network(self) -> UViT3D | UNet3D | DiT3D:
        """What makes latents: the denoiser."""
        return self.unet

    @property
    def interrupt(self) -> bool:
        """Whether the running call stops after the step that it makes; a callback may set it.

        The call then returns the clip as it is foreseen at that step, or its clean latents.
        """
        return self._call.interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._call.interrupt = read_switch("interrupt", value)

    _interrupt = interrupt  # the name that callbacks written for diffusers use

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
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        step_cache: StepCache | str | None = None,
        guidance: Guidance | str | None = None,
        scheduler: SchedulerMixin | str | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> VideoPipelineOutput | Any:  # or a tuple, where `return_dict` is False
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
            seed: Clip k of the call is made from `seed + k`, and equals one made alone with that seed up to
                rounding; or a list with the seed of each clip.
            generator: In place of `seed`: one per clip, or one that is drawn from clip by clip.
            latents: Noise to start from, `(B, C, f, h, w)` of unit variance, in place of drawn noise.
            prompt_embeds: In place of `prompt`, `(P, L, D)` as `encode_prompt` returns them.
            negative_prompt_embeds: In place of `negative_prompt`, `(P, L, D)`.
            step_cache: What steps take over from earlier ones: faster, and another clip. By default nothing.
                A text is read as on the command line: `deep=2,text=3`.
            guidance: How the predictions with and without the prompt become one, see
                `videogen.sampling.guidance_kinds`; None is classifier-free guidance. A text is read as on the
                command line: `interval` or `apg:eta=0.2`.
            scheduler: For this call, in place of the pipeline's own: a scheduler, or a name that
                `videogen.sampling.schedulers.make_scheduler` knows.
            output_type: `np`, `pt`, `pil` or `latent`; see `VideoPipelineOutput`.
            return_dict: Whether to return a `VideoPipelineOutput` rather than a tuple.
            callback_on_step_end: Called after each step with (pipeline, step index, timestep, tensors), and
                returns a dict, which may be the one of the tensors: what is there under `latents`,
                `prompt_embeds` or `negative_prompt_embeds` replaces those in use. It may set
                `pipeline.guidance_scale`, where 1 ends guidance, and `pipeline.interrupt`. Callbacks of
                `diffusers.callbacks` say themselves which tensors they need.
            callback_on_step_end_tensor_inputs: Names of the tensors it is given: those three, or
                `predicted_latents`, the clean latents `(B, C, f, h, w)` that the step's prediction means.
            cross_attention_kwargs: Refused unless empty; here for those who know diffusers' pipelines.

        Returns:
            The clips, one for each prompt and `num_videos_per_prompt`.

        Raises:
            ValueError: If an argument is of a wrong type, out of range or does not fit the model; before any
                computation. Also if a callback returns no dict, or a tensor of another shape.
            BadClipsError: If latents become NaN or infinite, naming the step, or a clip comes out blank. This
                FloatingPointError names the bad clips, and its `output` has the others.
        """
        read_arguments(return_dict=return_dict)
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
            scheduler=scheduler,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            cross_attention_kwargs=cross_attention_kwargs,
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
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        step_cache: StepCache | str | None = None,
        guidance: Guidance | str | None = None,
        scheduler: SchedulerMixin | str | None = None,
        output_type: str = "np",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> Generator[DenoisingStep, None, None]:
        """Generate clips as the call does, and give each step when it is done.

        Arguments and errors are those of the call. They are looked at now; the steps are computed as they are
        asked for, and whoever asks for no more has stopped. The last one carries the output. Several streams
        of a pipeline do not know of each other; `guidance_scale`, `num_timesteps` and `interrupt` of the
        pipeline are those of the stream that ran last, and may be set between its steps.

            for step in pipeline.stream("a red circle orbits", seed=7):
                print(step.step_idx, step.seconds_left)
                if enough:
                    frames = step.preview()  # the clip as it is foreseen
                    break
        """
        defaults = self.defaults
        given = read_arguments(
            defaults,
            prompt=prompt,
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
            scheduler=scheduler,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            cross_attention_kwargs=cross_attention_kwargs,
        )
        self._require("unet", "scheduler", "vae")
        size = given["num_frames"], given["height"], given["width"]
        text_dim = self.unet.config["cross_attention_dim"]
        num_prompts = check_prompts(
            given["prompt"], given["negative_prompt"], prompt_embeds, negative_prompt_embeds, text_dim
        )
        check_size(size, self.codec.compression, (defaults.num_frames, defaults.height, defaults.width))
        batch_size = num_prompts * given["num_videos_per_prompt"]
        check_seed(given["seed"], generator, batch_size)
        scheduler = self._scheduler_of_a_call(given["scheduler"], given["num_inference_steps"])
        call = RunningCall(given["guidance_scale"])
        guided = call.guidance_scale > 1
        self._check_memory(batch_size, size, guided, given["output_type"])
        if given["step_cache"] is not None:
            given["step_cache"].check_fits(self.unet.cache_kinds, given["num_inference_steps"], guided)
        if given["guidance"] is not None:
            given["guidance"].check_fits(call.guidance_scale, given["step_cache"])
        if not guided and (given["negative_prompt"] or negative_prompt_embeds is not None):
            warnings.warn("the negative prompt is ignored: it needs a guidance above 1", stacklevel=3)

        generators = clip_generators(given["seed"], given["generator"], batch_size)
        latents = self.prepare_latents(batch_size, *size, generators, latents)
        with torch.no_grad():
            prompt_embeds, negative_prompt_embeds = self.encode_prompt(
                prompt,
                num_videos_per_prompt=num_videos_per_prompt,
                do_classifier_free_guidance=guided,
                negative_prompt=negative_prompt,
                prompt_embeds=prompt_embeds,
                negative_prompt_embeds=negative_prompt_embeds,
            )
        set_timesteps(scheduler, given["num_inference_steps"], self.execution_device)
        call.num_timesteps = len(scheduler.timesteps)  # type: ignore[attr-defined]
        self._call = call
        return denoise(
            self,
            call,
            scheduler,
            latents * initial_noise_sigma(scheduler),
            prompt_embeds,
            negative_prompt_embeds,
            num_inference_steps=given["num_inference_steps"],
            guide=GuidanceCall(
                given["guidance"] or ClassifierFreeGuidance(), scheduler, self.prediction_type
            ),
            generators=generators,
            step_cache=given["step_cache"],
            output_type=given["output_type"],
            callback_on_step_end=callback_on_step_end,
            callback_tensors=_tensors_for(callback_on_step_end, given["callback_on_step_end_tensor_inputs"]),
        )

    def _scheduler_of_a_call(
        self, chosen: SchedulerMixin | str | None, num_inference_steps: int
    ) -> SchedulerMixin:
        """A scheduler that keeps the state of one call, before `set_timesteps`.

        Raises:
            ValueError: If it does not fit what the denoiser predicts, or has not so many steps.
        """
        own: SchedulerMixin = read_arguments(scheduler=self.scheduler)["scheduler"]
        if isinstance(chosen, str):
            chosen = make_scheduler(chosen, self.prediction_type, own)
        asked = own if chosen is None else chosen
        most = asked.config.get("num_train_timesteps", num_inference_steps)  # type: ignore[attr-defined]
        # The times of a flow are no table, so that there may be any number of steps.
        if self.prediction_type != "flow_prediction" and num_inference_steps > most:
            raise ValueError(
                f"`num_inference_steps` must be at most {most}, the steps that the scheduler knows, "
                f"got {num_inference_steps}"
            )
        return fitted_scheduler(
            asked, self.prediction_type, self._trained_scheduler or asked, num_inference_steps
        )

    def _predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: TextContext,
        guide: GuidanceCall,
        guidance_scale: float,
        cache: FeatureCache | None,
    ) -> Tensor:
        """The prediction in float32, made in any dtype; guided if there are negative prompts and a scale."""
        evaluation = guide.evaluation(latents, timestep)
        has_negatives = text.num_prompts > len(latents)
        both = has_negatives and guidance_scale > 1 and guide.guidance.needs_uncond(evaluation)
        difference = cache.kept("guidance", self.unet, len(latents)) if cache is not None and both else None
        if has_negatives and (not both or difference is not None):
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
        return guide.guidance.combine(noise_pred_uncond, noise_pred_text, guidance_scale, evaluation)


def _tensors_for(callback: StepCallback | None, asked: list[str]) -> list[str]:
    """The tensors that a callback is given; those of diffusers say so themselves."""
    if callback is None:
        return asked
    from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

    if not isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
        return asked
    own = callback.tensor_inputs
    return read_arguments(callback_on_step_end_tensor_inputs=own)["callback_on_step_end_tensor_inputs"]
