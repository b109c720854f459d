"""Text to video with a recurrent generator: frame after frame, from nothing or going on from given frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from videogen.models.rnn import RecurrentVAE3D
from videogen.pipelines.arguments import read_arguments
from videogen.pipelines.network_generation import NetworkGenerator, SamplingDefaults
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
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_videos_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> VideoPipelineOutput | Any:  # or a tuple, where `return_dict` is False
        """Generate clips, or go on with given ones.

        Args:
            prompt: One or several; the empty one generates without condition.
            pixels: First frames of the clips, `(B, 3, K, H, W)` or `(1, 3, K, H, W)` for all, in [-1, 1]; K
                at most `num_frames`. They give height and width, and stay in the clip as the codec decodes
                them.
            temperature: Scales the deviations of the prior.
            num_frames: Frames per clip, a multiple of the codec's compression in time. May be more than in
                training; those of `pixels` are counted.
            height: In pixels, a multiple of the codec's compression in space.
            width: In pixels, likewise.
            num_videos_per_prompt: Clips per prompt; those of one prompt follow each other.
            seed: Clip k of the call is made from `seed + k`, and equals one made alone with that seed up to
                rounding; or a list with the seed of each clip.
            generator: In place of `seed`: one per clip, or one that is drawn from clip by clip.
            prompt_embeds: In place of `prompt`, `(P, L, D)` as `encode_prompt` returns them.
            output_type: `np`, `pt`, `pil` or `latent`; see `VideoPipelineOutput`.
            return_dict: Whether to return a `VideoPipelineOutput` rather than a tuple.

        Raises:
            ValueError: If an argument is of a wrong type, out of range or does not fit the model; before any
                computation.
            BadClipsError: If latents are NaN or infinite, or a clip comes out blank; it has the others.
        """
        given = read_arguments(
            self.defaults,
            pixels=pixels,
            temperature=temperature,
            num_frames=num_frames,
            height=height,
            width=width,
        )
        if pixels is not None:
            height, width = self._size_of(pixels, given["num_frames"], height, width)
        request = self._begin(
            prompt,
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
        first_frames = None if pixels is None else self._first_frames(pixels, len(request.generators))
        latents = self.network.sample(
            request.text, request.size, request.generators, given["temperature"], first_frames
        )
        return self._end(latents, request)

    def _size_of(
        self, pixels: Tensor, num_frames: int, height: int | None, width: int | None
    ) -> tuple[int, int]:
        """Height and width of given frames.

        Raises:
            ValueError: If the frames do not fit the codec, or what else is asked for.
        """
        self._require("vae")
        self.codec.check_pixel_shape(pixels.shape)
        given, own_height, own_width = pixels.shape[2:]
        if given > num_frames:
            raise ValueError(f"`num_frames` must be at least {given}, those of `pixels`, got {num_frames}")
        if height not in (None, own_height) or width not in (None, own_width):
            raise ValueError(
                f"`height` and `width` must be {own_height} and {own_width}, those of `pixels`, "
                f"got {height} and {width}"
            )
        return own_height, own_width

    def _first_frames(self, pixels: Tensor, batch_size: int) -> Tensor:
        if len(pixels) not in (1, batch_size):
            raise ValueError(f"`pixels` must be one clip or {batch_size}, got {len(pixels)}")
        latents = self.codec.encode(pixels.to(self.execution_device, self.codec.dtype))
        return latents.expand(batch_size, -1, -1, -1, -1).to(self.execution_device)
