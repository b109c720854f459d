"""Text to video with a hierarchical variational autoencoder, and reconstruction of clips with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from videogen.models.vae import HierarchicalVAE3D
from videogen.pipelines.checks import check_temperature
from videogen.pipelines.network_generation import ClipArguments, NetworkGenerator, SamplingDefaults
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.noise import clip_generators


class VAETextToVideo(NetworkGenerator):
    """Makes clips with a `HierarchicalVAE3D`. It has no guidance: its prior is that of the prompt."""

    family = "vae"
    network_class = HierarchicalVAE3D
    defaults: SamplingDefaults

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        temperature: float | None = None,
        **arguments: Unpack[ClipArguments],
    ) -> VideoPipelineOutput | tuple[Any]:
        """Generate clips.

        Args:
            prompt: One or several; the empty one generates without condition.
            temperature: Scales the deviations of the prior.
            **arguments: See `ClipArguments`.

        Raises:
            ValueError: If an argument is out of range or does not fit the model; before any computation.
            BadClipsError: If latents are NaN or infinite, or a clip comes out blank; it has the others.
        """
        temperature = self.defaults.temperature if temperature is None else temperature
        check_temperature(temperature)
        request = self._begin(prompt, **arguments)
        latents = self.network.sample(request.text, request.size, request.generators, temperature)
        return self._end(latents, request)

    @torch.no_grad()
    def reconstruct(self, pixels: Tensor, prompt: str | Sequence[str], seed: int = 0) -> Tensor:
        """What the network keeps of clips.

        Args:
            pixels: `(B, 3, F, H, W)` in [-1, 1].
            prompt: What they show: one for all, or one for each.
            seed: Clip k is coded with the draws of `seed + k`.

        Returns:
            Frames `(B, F, H, W, 3)` in [0, 1].

        Raises:
            ValueError: If the codec cannot encode clips of this shape, or prompts are not one or B.
        """
        self.codec.check_pixel_shape(pixels.shape)
        prompts = [prompt] * len(pixels) if isinstance(prompt, str) else list(prompt)
        if len(prompts) != len(pixels):
            raise ValueError(f"`prompt` must be one or {len(pixels)}, one per clip, got {len(prompts)}")
        latents = self.codec.encode(pixels.to(self.codec.device, self.codec.dtype))
        text = self._text_context(*self.encode_prompt(prompts, do_classifier_free_guidance=False))
        generators = clip_generators(seed, None, len(pixels))
        coded = self.network(latents.to(self.network.dtype), text, generators=generators)
        return self.decode_latents(coded.sample.float())
