"""From a prompt to a clip: encode the words, denoise latents, decode them.

`TextToVideo` is the whole of it on bare components. `TextToVideoPipeline` adds what diffusers pipelines can
do (saving, loading, devices, offloading), at the price of an import that takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from videogen.codec.contract import Codec
from videogen.codec.pixels import pixels_to_frames
from videogen.models.step_cache import FeatureCache, StepCache
from videogen.models.text_context import TextContext
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.checks import check_choices, check_numbers, check_prompts, check_size
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.guidance_kinds import ClassifierFreeGuidance, Guidance, GuidanceCall
from videogen.sampling.noise import sample_noise, seeded_generator
from videogen.sampling.predictions import predict_clean
from videogen.sampling.schedulers import (
    check_prediction_type,
    initial_noise_sigma,
    prediction_type_of,
    scale_model_input,
    step_arguments,
)
from videogen.text.contract import PromptEncoder
from videogen.text.encoder import TextEncoder

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

_LEAST_CONTRAST = 2 / 255  # of any clip that shows something

StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class GenerationDefaults:
    """What a call uses where it is not told; the clips that the model was trained on.

    Attributes:
        num_frames: Frames per clip.
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        fps: Frames per second.
        num_inference_steps: Denoising steps.
        guidance_scale: Of classifier-free guidance.
    """

    num_frames: int = 16
    height: int = 64
    width: int = 64
    fps: float = 8.0
    num_inference_steps: int = 8
    guidance_scale: float = 3.0


class TextToVideo:
    """Generates clips from prompts with a latent diffusion model.

    Args:
        vae: The codec.
        text_encoder: Turns prompts into embeddings.
        unet: The denoiser.
        scheduler: Any diffusers scheduler for what the denoiser predicts.
        prediction_type: `flow_prediction`, `epsilon`, `v_prediction` or `sample`; by default what the
            scheduler is made for.
        defaults: See `GenerationDefaults`, as a dict.
    """

    vae: Codec
    text_encoder: PromptEncoder
    unet: UViT3D | UNet3D
    scheduler: SchedulerMixin
    prediction_type: str
    defaults: GenerationDefaults

    def __init__(
        self,
        vae: Codec,
        text_encoder: PromptEncoder,
        unet: UViT3D | UNet3D,
        scheduler: SchedulerMixin,
        prediction_type: str | None = None,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        self.vae, self.text_encoder, self.unet, self.scheduler = vae, text_encoder, unet, scheduler
        self.prediction_type = prediction_type or prediction_type_of(scheduler)
        self.defaults = GenerationDefaults(**(defaults or {}))

    @property
    def codec(self) -> Codec:
        """The codec; `vae` itself, unless a subclass keeps a foreign network there."""
        return self.vae

    @property
    def prompt_encoder(self) -> PromptEncoder:
        """What encodes prompts; `text_encoder` itself, unless a subclass keeps a foreign network there."""
        return self.text_encoder

    @property
    def execution_device(self) -> torch.device:
        """Where the networks run."""
        return next(self.unet.parameters()).device  # ModelMixin.device would import torch's compiler

    def progress_bar(self, total: int) -> AbstractContextManager[Any]:
        """A bar over the denoising steps."""
        return tqdm(total=total)

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
            seed: Clip k of the call is made from `seed + k`, and so equals one made alone with that seed.
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
        if guidance is not None:
            guidance.check_fits(guidance_scale, step_cache)
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
            guide = GuidanceCall(
                guidance or ClassifierFreeGuidance(), guidance_scale, self.scheduler, self.prediction_type
            )
            for step_idx, timestep in enumerate(timesteps):
                if cache is not None:
                    cache.start_step(step_idx)
                noise_pred = self._predict(latents, timestep, text, guide, cache)
                predicted_latents = None
                if "predicted_latents" in callback_on_step_end_tensor_inputs:
                    predicted_latents = predict_clean(
                        noise_pred, latents, timestep, self.scheduler, self.prediction_type
                    )
                latents = self.scheduler.step(  # type: ignore[attr-defined]
                    noise_pred, timestep, latents, return_dict=False, **step_extras
                )[0]
                if callback_on_step_end is not None:
                    tensors = {
                        "latents": latents,
                        "prompt_embeds": prompt_embeds,
                        "negative_prompt_embeds": negative_prompt_embeds,
                        "predicted_latents": predicted_latents,
                    }
                    offered = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    answer = callback_on_step_end(self, step_idx, timestep, offered)
                    new_text = not answer.keys().isdisjoint(("prompt_embeds", "negative_prompt_embeds"))
                    latents = answer.pop("latents", latents)
                    prompt_embeds = answer.pop("prompt_embeds", prompt_embeds)
                    negative_prompt_embeds = answer.pop("negative_prompt_embeds", negative_prompt_embeds)
                    if new_text:
                        text = self._text_context(prompt_embeds, negative_prompt_embeds)
                        guide.memory.clear()
                        if cache is not None:
                            cache.clear()
                if not bool(torch.isfinite(latents).all()):
                    raise FloatingPointError(
                        f"latents are not finite after step {step_idx + 1} of {len(timesteps)} "
                        f"(timestep {timestep:g})"
                    )
                if (step_idx + 1) * steps // len(timesteps) > step_idx * steps // len(timesteps):
                    bar.update()

        frames = self._finish(latents, output_type)
        return VideoPipelineOutput(frames=frames) if return_dict else (frames,)

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        *,
        num_videos_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embed prompts, repeated for the clips of each.

        Embeddings at padding are exactly zero, which is how the denoiser's attention mask is found again, so
        that embeddings can be passed around alone.

        Returns:
            prompt_embeds and, with guidance, negative_prompt_embeds: `(P * num_videos_per_prompt, L, D)`.
        """
        if prompt_embeds is None:
            prompts = [prompt] if isinstance(prompt, str) else list(prompt or [])
            self._warn_of_unknown_words(prompts)
            prompt_embeds = self._embed(prompts)
        num_prompts = len(prompt_embeds)
        if not do_classifier_free_guidance:
            return prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0), None
        if negative_prompt_embeds is None:
            negative = negative_prompt or ""
            negatives = [negative] * num_prompts if isinstance(negative, str) else list(negative)
            negative_prompt_embeds = self._embed(negatives)
        if negative_prompt_embeds.shape != prompt_embeds.shape:
            raise ValueError(
                f"negative prompt embeddings must be {tuple(prompt_embeds.shape)} like those of the prompt, "
                f"got {tuple(negative_prompt_embeds.shape)}"
            )
        return (
            prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0),
            negative_prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0),
        )

    def prepare_latents(
        self,
        batch_size: int,
        num_frames: int,
        height: int,
        width: int,
        generators: Sequence[torch.Generator],
        latents: Tensor | None = None,
    ) -> Tensor:
        """Noise `(B, C, f, h, w)` of unit variance, drawn per clip, or what is given if its shape fits."""
        per_time, per_space = self.codec.compression
        channels = self.unet.config["in_channels"]
        shape = (channels, num_frames // per_time, height // per_space, width // per_space)
        if latents is None:
            latents = sample_noise(shape, generators)
        elif latents.shape != (batch_size, *shape):
            raise ValueError(f"`latents` must be {(batch_size, *shape)}, got {tuple(latents.shape)}")
        return latents.to(self.execution_device, torch.float32)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Frames `(B, F, H, W, 3)` in [0, 1] on the CPU, decoded piece by piece.

        Raises:
            FloatingPointError: If a clip is not finite, or blank: of one colour in all its pixels.
        """
        codec = self.codec
        chunks = codec.iter_decode(latents.to(codec.dtype))
        frames = torch.cat([pixels_to_frames(chunk).cpu() for chunk in chunks], dim=1)
        for number, clip in enumerate(frames):
            if not bool(torch.isfinite(clip).all()):
                raise FloatingPointError(f"the frames of clip {number} hold NaN or infinity")
            darkest, brightest = torch.aminmax(clip.flatten(0, 2), dim=0)
            if float((brightest - darkest).max()) < _LEAST_CONTRAST:
                raise FloatingPointError(f"clip {number} is blank: all its pixels have one colour")
        return frames

    def _text_context(self, prompt_embeds: Tensor, negative_prompt_embeds: Tensor | None) -> TextContext:
        """Prompts prepared for all steps, the negative ones first: embeddings of zero are padding."""
        embeds = (
            [prompt_embeds] if negative_prompt_embeds is None else [negative_prompt_embeds, prompt_embeds]
        )
        together = torch.cat(embeds)
        mask = together.ne(0).any(-1)
        # Without a mask, attention has faster kernels.
        return self.unet.text_context(together.to(self.unet.dtype), None if bool(mask.all()) else mask)

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
        model_input = scale_model_input(self.scheduler, latents, timestep).to(self.unet.dtype)
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

    def _finish(self, latents: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        frames = self.decode_latents(latents)
        if output_type == "pt":
            return frames
        array = frames.numpy()
        if output_type == "np":
            return array
        return [[Image.fromarray(frame) for frame in clip] for clip in (array * 255).round().astype("uint8")]

    def _embed(self, prompts: Sequence[str]) -> Tensor:
        encoded = self.prompt_encoder.encode(prompts)
        return encoded.prompt_embeds * encoded.attention_mask[..., None]

    def _warn_of_unknown_words(self, prompts: Sequence[str]) -> None:
        encoder = self.prompt_encoder
        if not isinstance(encoder, TextEncoder):
            return  # its vocabulary is open, and it says itself what it cuts off
        for prompt in prompts:
            report = encoder.tokenizer.report(prompt)
            if report.unknown:
                shown = ", ".join(repr(word) for word in report.unknown[:10])
                warnings.warn(f"the model does not know these words of the prompt: {shown}", stacklevel=3)
            if report.corrected:
                shown = ", ".join(f"{wrong!r} as {right!r}" for wrong, right in report.corrected[:10])
                warnings.warn(f"words of the prompt read as others: {shown}", stacklevel=3)
            if report.num_truncated:
                warnings.warn(
                    f"the prompt is too long: its last {report.num_truncated} words are ignored", stacklevel=3
                )

    def _generators(
        self, seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None, batch_size: int
    ) -> list[torch.Generator]:
        if seed is None and generator is None:
            seed = torch.Generator().seed()  # fresh, and without a touch on torch's global generator
        if seed is not None:
            return [seeded_generator(seed + item) for item in range(batch_size)]
        if isinstance(generator, torch.Generator):
            return [generator] * batch_size
        generators = list(generator or [])
        if len(generators) != batch_size:
            raise ValueError(f"`generator` must be one or {batch_size}, one per clip, got {len(generators)}")
        return generators
