"""Text to video with a masked Transformer: a clip is completed in a few decoding steps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videogen.models.transformer import MaskedTransformer3D
from videogen.pipelines.arguments import read_arguments
from videogen.pipelines.network_generation import NetworkGenerator, SamplingDefaults
from videogen.pipelines.output import VideoPipelineOutput


@dataclass(frozen=True)
class DecodingDefaults(SamplingDefaults):
    """What a call uses where it is not told, beside `SamplingDefaults`.

    Attributes:
        num_inference_steps: Decoding steps, each of which completes a part of the clip.
        guidance_scale: Of classifier-free guidance, on the flow that draws a token.
        num_flow_steps: Steps of that flow.
    """

    num_inference_steps: int = 16
    guidance_scale: float = 2.0
    num_flow_steps: int = 8


class TransformerTextToVideo(NetworkGenerator):
    """Makes clips with a `MaskedTransformer3D`."""

    family = "transformer"
    network_class = MaskedTransformer3D
    defaults: DecodingDefaults
    defaults_class = DecodingDefaults

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_flow_steps: int | None = None,
        temperature: float | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_videos_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> VideoPipelineOutput | Any:  # or a tuple, where `return_dict` is False
        """Generate clips.

        Args:
            prompt: One or several; the empty one generates without condition.
            negative_prompt: What to steer away from, one for all or one per prompt; needs guidance.
            num_inference_steps: Decoding steps; more than there are tokens are as many as there are.
            guidance_scale: Of classifier-free guidance; 1 and below is none, at half the cost.
            num_flow_steps: Steps of the flow that draws a token.
            temperature: Deviation of the noise that tokens are drawn from.
            num_frames: Frames per clip, a multiple of the codec's compression in time.
            height: In pixels, a multiple of the codec's compression in space.
            width: In pixels, likewise.
            num_videos_per_prompt: Clips per prompt; those of one prompt follow each other.
            seed: Clip k of the call is made from `seed + k`, and equals one made alone with that seed up to
                rounding; or a list with the seed of each clip.
            generator: In place of `seed`: one per clip, or one that is drawn from clip by clip.
            prompt_embeds: In place of `prompt`, `(P, L, D)` as `encode_prompt` returns them.
            negative_prompt_embeds: In place of `negative_prompt`, `(P, L, D)`.
            output_type: `np`, `pt`, `pil` or `latent`; see `VideoPipelineOutput`.
            return_dict: Whether to return a `VideoPipelineOutput` rather than a tuple.

        Raises:
            ValueError: If an argument is of a wrong type, out of range or does not fit the model; before any
                computation.
            BadClipsError: If latents are NaN or infinite, or a clip comes out blank; it has the others.
        """
        given = read_arguments(
            self.defaults,
            negative_prompt=negative_prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_flow_steps=num_flow_steps,
            temperature=temperature,
        )
        steps, scale = given["num_inference_steps"], given["guidance_scale"]
        if (given["negative_prompt"] or negative_prompt_embeds is not None) and scale <= 1:
            warnings.warn("the negative prompt is ignored: it needs a guidance above 1", stacklevel=2)
        request = self._begin(
            prompt,
            negative_prompt=negative_prompt,
            negative_prompt_embeds=negative_prompt_embeds,
            guidance_scale=scale,
            num_inference_steps=steps,
            num_frames=num_frames,
            height=height,
            width=width,
            num_videos_per_prompt=num_videos_per_prompt,
            seed=seed,
            generator=generator,
            prompt_embeds=prompt_embeds,
            output_type=output_type,
            return_dict=return_dict,
        )
        with self.progress_bar(total=steps) as bar:
            latents = self.network.sample(
                request.text,
                request.size,
                request.generators,
                num_inference_steps=steps,
                num_flow_steps=given["num_flow_steps"],
                guidance_scale=scale,
                temperature=given["temperature"],
                on_step=bar.update,
            )
        return self._end(latents, request)
