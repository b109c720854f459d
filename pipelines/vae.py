"""Text to video with a hierarchical variational autoencoder, and reconstruction of clips with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from videogen.models.vae import HierarchicalVAE3D
from videogen.pipelines.arguments import read_arguments
from videogen.pipelines.network_generation import NetworkGenerator, SamplingDefaults
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
        """Generate clips.

        Args:
            prompt: One or several; the empty one generates without condition.
            temperature: Scales the deviations of the prior.
            num_frames: Frames per clip, a multiple of the codec's compression in time.
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
        scale = read_arguments(self.defaults, temperature=temperature)["temperature"]
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
        latents = self.network.sample(request.text, request.size, request.generators, scale)
        return self._end(latents, request)

    @torch.no_grad()
    def reconstruct(
        self, pixels: Tensor, prompt: str | Sequence[str], seed: int | Sequence[int] = 0
    ) -> Tensor:
        """What the network keeps of clips.

        Args:
            pixels: `(B, 3, F, H, W)` in [-1, 1].
            prompt: What they show: one for all, or one for each.
            seed: Clip k is coded with the draws of `seed + k`, or of the k-th of a list.

        Returns:
            Frames `(B, F, H, W, 3)` in [0, 1].

        Raises:
            ValueError: If the codec cannot encode clips of this shape, prompts are not one or B, or an
                argument is of a wrong type.
        """
        given = read_arguments(pixels=pixels, prompt=prompt, seed=seed)
        self.codec.check_pixel_shape(pixels.shape)
        prompts = given["prompt"] * len(pixels) if isinstance(prompt, str) else given["prompt"]
        if len(prompts) != len(pixels):
            raise ValueError(f"`prompt` must be one or {len(pixels)}, one per clip, got {len(prompts)}")
        latents = self.codec.encode(pixels.to(self.execution_device, self.codec.dtype))
        text = self._text_context(*self.encode_prompt(prompts, do_classifier_free_guidance=False))
        generators = clip_generators(given["seed"], None, len(pixels))
        coded = self.network(latents.to(self.network.dtype), text, generators=generators)
        return self.decode_latents(coded.sample.float())
