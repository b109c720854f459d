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
            FloatingPointError: If latents are NaN or infinite, or a clip comes out blank.
        """
        temperature = self.defaults.temperature if temperature is None else temperature
        check_temperature(temperature)
        if pixels is not None:
            self.codec.check_pixel_shape(pixels.shape)
            num_frames = arguments.get("num_frames") or self.defaults.num_frames
            if pixels.shape[2] > num_frames:
                raise ValueError(
                    f"`pixels` has {pixels.shape[2]} frames, more than the {num_frames} of `num_frames`"
                )
            for name, side in zip(("height", "width"), pixels.shape[3:], strict=True):
                if arguments.setdefault(name, side) not in (None, side):  # type: ignore[misc]
                    raise ValueError(f"`{name}` must be {side} like that of `pixels`, got {arguments[name]}")  # type: ignore[literal-required]
                arguments[name] = side  # type: ignore[literal-required]
        request = self._begin(prompt, **arguments)
        first_frames = None if pixels is None else self._first_frames(pixels, len(request.generators))
        latents = self.network.sample(
            request.text, request.size, request.generators, temperature, first_frames
        )
        return self._end(latents, request)

    def _first_frames(self, pixels: Tensor, batch_size: int) -> Tensor:
        if len(pixels) not in (1, batch_size):
            raise ValueError(f"`pixels` must be one clip or {batch_size}, got {len(pixels)}")
        latents = self.codec.encode(pixels.to(self.codec.device, self.codec.dtype))
        return latents.expand(batch_size, -1, -1, -1, -1).to(self.execution_device)
