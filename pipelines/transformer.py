"""Text to video with a masked Transformer: a clip is completed in a few decoding steps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch

from videogen.models.transformer import MaskedTransformer3D
from videogen.pipelines.checks import check_temperature
from videogen.pipelines.network_generation import ClipArguments, NetworkGenerator, SamplingDefaults
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
        **arguments: Unpack[ClipArguments],
    ) -> VideoPipelineOutput | tuple[Any]:
        """Generate clips.

        Args:
            prompt: One or several; the empty one generates without condition.
            negative_prompt: What to steer away from, one for all or one per prompt; needs guidance.
            num_inference_steps: Decoding steps; more than there are tokens are as many as there are.
            guidance_scale: Of classifier-free guidance; 1 and below is none, at half the cost.
            num_flow_steps: Steps of the flow that draws a token.
            temperature: Deviation of the noise that tokens are drawn from.
            **arguments: See `ClipArguments`.

        Raises:
            ValueError: If an argument is out of range or does not fit the model; before any computation.
            BadClipsError: If latents are NaN or infinite, or a clip comes out blank; it has the others.
        """
        defaults = self.defaults
        steps = defaults.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance_scale = defaults.guidance_scale if guidance_scale is None else guidance_scale
        flow_steps = defaults.num_flow_steps if num_flow_steps is None else num_flow_steps
        temperature = defaults.temperature if temperature is None else temperature
        check_temperature(temperature)
        if flow_steps < 1:
            raise ValueError(f"`num_flow_steps` must be at least 1, got {flow_steps}")
        if negative_prompt and guidance_scale <= 1:
            warnings.warn("the negative prompt is ignored: it needs a guidance above 1", stacklevel=2)
        request = self._begin(
            prompt,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
            **arguments,
        )
        with self.progress_bar(total=steps) as bar:
            latents = self.network.sample(
                request.text,
                request.size,
                request.generators,
                num_inference_steps=steps,
                num_flow_steps=flow_steps,
                guidance_scale=guidance_scale,
                temperature=temperature,
                on_step=bar.update,
            )
        return self._end(latents, request)
