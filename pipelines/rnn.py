"""Text to video with a recurrent generator: frame after frame, from nothing or going on from given frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from videogen.models.rnn import RecurrentVAE3D
from videogen.pipelines.checks import check_temperature
from videogen.pipelines.network_generation import ClipArguments, NetworkGenerator, SamplingDefaults
from videogen.pipelines.output import VideoPipelineOutput


class RNNTextToVideo(NetworkGenerator):
    """Makes clips with a `RecurrentVAE3D`. It has no guidance: its prior is that of the prompt."""

    family = "rnn"
    network_class = RecurrentVAE3D
    defaults: SamplingDefaults

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        pixels: Tensor | None = None,
        temperature: float | None = None,
        **arguments: Unpack[ClipArguments],
    ) -> VideoPipelineOutput | tuple[Any]:
        """Generate clips, or go on with given ones.

        Args:
            prompt: One or several; the empty one generates without condition.
            pixels: First frames of the clips, `(B, 3, K, H, W)` or `(1, 3, K, H, W)` for all, in [-1, 1]; K
                at most `num_frames`. They give height and width, and stay in the clip as the codec decodes
                them.
            temperature: Scales the deviations of the prior.
            **arguments: See `ClipArguments`. `num_frames` may be larger than in training; it counts those
                given.

        Raises:
            ValueError: If an argument is out of range or does not fit the model; before any computation.
            BadClipsError: If latents are NaN or infinite, or a clip comes out blank; it has the others.
        """
        temperature = self.defaults.temperature if temperature is None else temperature
        check_temperature(temperature)
        if pixels is not None:
            arguments = self._sized_like(pixels, arguments)
        request = self._begin(prompt, **arguments)
        first_frames = None if pixels is None else self._first_frames(pixels, len(request.generators))
        latents = self.network.sample(
            request.text, request.size, request.generators, temperature, first_frames
        )
        return self._end(latents, request)

    def _sized_like(self, pixels: Tensor, arguments: ClipArguments) -> ClipArguments:
        """Arguments with the height and the width of given frames.

        Raises:
            ValueError: If the frames do not fit the codec, or the arguments.
        """
        self.codec.check_pixel_shape(pixels.shape)
        given, height, width = pixels.shape[2:]
        num_frames = arguments.get("num_frames")
        num_frames = self.defaults.num_frames if num_frames is None else num_frames
        if given > num_frames:
            raise ValueError(f"`num_frames` must be at least {given}, those of `pixels`, got {num_frames}")
        asked = (arguments.get("height"), arguments.get("width"))
        if asked[0] not in (None, height) or asked[1] not in (None, width):
            raise ValueError(
                f"`height` and `width` must be {height} and {width}, those of `pixels`, "
                f"got {asked[0]} and {asked[1]}"
            )
        return {**arguments, "height": height, "width": width}

    def _first_frames(self, pixels: Tensor, batch_size: int) -> Tensor:
        if len(pixels) not in (1, batch_size):
            raise ValueError(f"`pixels` must be one clip or {batch_size}, got {len(pixels)}")
        latents = self.codec.encode(pixels.to(self.codec.device, self.codec.dtype))
        return latents.expand(batch_size, -1, -1, -1, -1).to(self.execution_device)
