"""The steps of denoising, one after the other, as `TextToVideo.stream` gives them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from videogen.codec.contract import Codec
from videogen.models.step_cache import FeatureCache, StepCache
from videogen.pipelines.checks import check_answer
from videogen.pipelines.latent_generation import RunningCall, decode_frames, in_callback
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.guidance_kinds import GuidanceCall
from videogen.sampling.predictions import predict_clean
from videogen.sampling.schedulers import step_arguments

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from videogen.pipelines.generation import TextToVideo

StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class DenoisingStep:
    """One evaluation of the denoiser, done; a sampler of second order makes two of a denoising step.

    Attributes:
        step_idx: In [0, num_steps).
        num_steps: Evaluations of the whole call.
        seconds: Since denoising began.
        latents: After the step, `(B, C, f, h, w)` float32, with noise in them until the last.
        predicted_latents: The clean latents that the denoiser sees in the noise, `(B, C, f, h, w)` float32.
        output: What the call returns; None before the last step. A call that was interrupted returns the clip
            as it is foreseen.
    """

    step_idx: int
    num_steps: int
    seconds: float
    latents: Tensor
    predicted_latents: Tensor
    output: VideoPipelineOutput | None
    _codec: Codec = field(repr=False)

    @property
    def seconds_left(self) -> float:
        """Until the last step is done, if all take as long; decoding comes after it."""
        return self.seconds / (self.step_idx + 1) * (self.num_steps - self.step_idx - 1)

    @torch.no_grad()
    def preview(self, latent_frames: list[int] | None = None) -> np.ndarray:
        """Decode the predicted clean clips.

        Args:
            latent_frames: Indices in [0, f) of those to decode, for less work; all by default.

        Returns:
            `(B, F, H, W, 3)` float32 in [0, 1], what `frames` of the output is of the clean latents.
        """
        latents = self.predicted_latents
        if latent_frames is not None:
            latents = latents[:, :, latent_frames]
        return decode_frames(self._codec, latents).numpy()


@torch.no_grad()
def denoise(
    pipeline: TextToVideo,
    call: RunningCall,
    scheduler: SchedulerMixin,
    latents: Tensor,
    prompt_embeds: Tensor,
    negative_prompt_embeds: Tensor | None,
    *,
    num_inference_steps: int,
    guide: GuidanceCall,
    generators: list[torch.Generator],
    step_cache: StepCache | None,
    output_type: str,
    callback_on_step_end: StepCallback | None,
    callback_tensors: Sequence[str],
) -> Generator[DenoisingStep, None, None]:
    """The loop of every call: all steps, from noise to the output, or up to the one that is interrupted.

    Args:
        pipeline: Whose networks are used.
        call: What callbacks, and whoever takes the steps, can change meanwhile.
        scheduler: For this call alone, after `set_timesteps`.
        latents: Noise of the scheduler's size, `(B, C, f, h, w)` float32.
        prompt_embeds: `(B, L, D)`.
        negative_prompt_embeds: The same shape; None without guidance.
        num_inference_steps: See `TextToVideo.__call__`, as for all below.
        guide: How guidance is done, with what it remembers of this call.
        generators: One for each clip.
        step_cache: What steps take over from earlier ones.
        output_type: Of the output.
        callback_on_step_end: Called after each step.
        callback_tensors: Names of the tensors it is given.

    Raises:
        ValueError: If a callback returns what it should not, or asks for guidance where none was begun.
        BadClipsError: If latents become NaN or infinite, naming the step, or a clip comes out blank; its
            `output` has the other clips.
    """
    start = time.perf_counter()
    timesteps: Tensor = scheduler.timesteps  # type: ignore[attr-defined]
    num_steps = len(timesteps)
    step_extras = step_arguments(scheduler, generators)
    text = pipeline._text_context(prompt_embeds, negative_prompt_embeds)
    cache = None if step_cache is None else FeatureCache(step_cache, num_steps)
    bad_clips: dict[int, str] = {}
    with pipeline.progress_bar(total=num_inference_steps) as bar:
        for step_idx, timestep in enumerate(timesteps):
            if cache is not None:
                cache.start_step(step_idx)
            pipeline._call = call
            noise_pred = pipeline._predict(latents, timestep, text, guide, call.guidance_scale, cache)
            predicted_latents = predict_clean(
                noise_pred, latents, timestep, scheduler, pipeline.prediction_type
            )
            latents = scheduler.step(  # type: ignore[attr-defined]
                noise_pred, timestep, latents, return_dict=False, **step_extras
            )[0]
            if callback_on_step_end is not None:
                tensors = {
                    "latents": latents,
                    "prompt_embeds": prompt_embeds,
                    "negative_prompt_embeds": negative_prompt_embeds,
                    "predicted_latents": predicted_latents,
                }
                offered = {name: tensors[name] for name in callback_tensors}
                with in_callback(pipeline, call):
                    answer = callback_on_step_end(pipeline, step_idx, timestep, offered)
                check_answer(answer, tensors)
                # Guidance by a gradient leaves its graph behind, which no later step needs.
                latents = answer.get("latents", latents).detach()
                prompt_embeds = answer.get("prompt_embeds", prompt_embeds)
                negative_prompt_embeds = answer.get("negative_prompt_embeds", negative_prompt_embeds)
                if not answer.keys().isdisjoint(("prompt_embeds", "negative_prompt_embeds")):
                    text = pipeline._text_context(prompt_embeds, negative_prompt_embeds)
                    guide.memory.clear()
                    if cache is not None:
                        cache.clear()
            for idx in (~latents.isfinite().flatten(1).all(1)).nonzero().flatten().tolist():
                after = f"step {step_idx + 1} of {num_steps} (timestep {timestep:g})"
                bad_clips.setdefault(idx, f"has latents that are not finite after {after}")
            if len(bad_clips) == len(latents):
                break
            if (
                step_idx + 1
            ) * num_inference_steps // num_steps > step_idx * num_inference_steps // num_steps:
                bar.update()
            seconds = time.perf_counter() - start
            step = DenoisingStep(
                step_idx, num_steps, seconds, latents, predicted_latents, None, pipeline.codec
            )
            if step_idx + 1 < num_steps and not call.interrupt:
                yield step
            if call.interrupt:
                break
            if call.guidance_scale > 1 and negative_prompt_embeds is None:
                raise ValueError(
                    f"`guidance_scale` was set to {call.guidance_scale:g} in a call without guidance: "
                    "begin the call with one above 1"
                )
    finished = latents if step_idx + 1 == num_steps else predicted_latents
    output = pipeline._output(finished, output_type, bad_clips)
    yield replace(step, output=output)
