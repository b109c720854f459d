"""Text to video with the generator of a GAN: one step from noise to a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch

from videogen.models.gan import GANGenerator3D
from videogen.pipelines.checks import check_temperature
from videogen.pipelines.network_generation import ClipArguments, NetworkGenerator, SamplingDefaults
from videogen.pipelines.output import VideoPipelineOutput


class GANTextToVideo(NetworkGenerator):
    """Makes clips with a `GANGenerator3D`. It has no guidance: its discriminator asked for the prompt."""

    family = "gan"
    network_class = GANGenerator3D
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
            temperature: Deviation of the noise that clips are made from.
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
