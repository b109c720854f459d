"""Generators that draw a whole clip with one network: what the calls of all families share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from videogen.codec.contract import Codec
from videogen.models.text_context import TextContext
from videogen.pipelines.arguments import read_arguments
from videogen.pipelines.checks import check_prompts, check_seed, check_size
from videogen.pipelines.latent_generation import ClipDefaults, LatentGenerator, RunningCall
from videogen.sampling.noise import clip_generators
from videogen.text.contract import PromptEncoder


@dataclass(frozen=True)
class SamplingDefaults(ClipDefaults):
    """What a call uses where it is not told, beside `ClipDefaults`.

    Attributes:
        temperature: Scales what is random: 1 draws as in training, less is nearer to the most likely clip.
    """

    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class ClipRequest:
    """A call whose arguments have been looked at.

    Attributes:
        size: Of the latents: f, h and w.
        generators: One for each clip.
        text: The prompts, one for each clip; with guidance the negative ones come before them.
        output_type: As given.
        return_dict: As given.
    """

    size: tuple[int, int, int]
    generators: list[torch.Generator]
    text: TextContext
    output_type: str
    return_dict: bool


class NetworkGenerator(LatentGenerator):
    """Makes clips with one network that draws latents, whatever family it belongs to.

    Args:
        vae: The codec.
        text_encoder: Turns prompts into embeddings.
        network: Draws latents; of the family's own class.
        defaults: Fields of the family's defaults that differ from them.
        codec_hash: Of the codec that the network was trained with; None if that is not known.

    Raises:
        ValueError: If the network belongs to another family, or the codec is another one.
    """

    family: ClassVar[str]
    network_class: ClassVar[type[nn.Module]]
    defaults_class: type[ClipDefaults] = SamplingDefaults

    def __init__(
        self,
        vae: Codec,
        text_encoder: PromptEncoder,
        network: Any,
        defaults: dict[str, Any] | None = None,
        codec_hash: str | None = None,
    ) -> None:
        if network is not None and not isinstance(network, self.network_class):
            raise ValueError(
                f"{type(self).__name__} needs a {self.network_class.__name__} of the family {self.family!r}, "
                f"got a {type(network).__name__}"
            )
        super().__init__(vae, text_encoder, self.defaults_class(**(defaults or {})), codec_hash)
        self.network = network

    def _begin(
        self,
        prompt: str | Sequence[str] | None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        negative_prompt_embeds: Tensor | None = None,
        guidance_scale: float = 1.0,
        num_inference_steps: int = 1,
        num_frames: int | None,
        height: int | None,
        width: int | None,
        num_videos_per_prompt: int,
        seed: int | Sequence[int] | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        prompt_embeds: Tensor | None,
        output_type: str,
        return_dict: bool,
    ) -> ClipRequest:
        """Look at the arguments of a call, and encode its prompts."""
        defaults = self.defaults
        given = read_arguments(
            defaults,
            prompt=prompt,
            negative_prompt=negative_prompt,
            negative_prompt_embeds=negative_prompt_embeds,
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
        self._require("network", "vae")
        size = given["num_frames"], given["height"], given["width"]
        text_dim = self.network.config["cross_attention_dim"]
        num_prompts = check_prompts(
            given["prompt"], given["negative_prompt"], prompt_embeds, negative_prompt_embeds, text_dim
        )
        check_size(size, self.codec.compression, (defaults.num_frames, defaults.height, defaults.width))
        batch_size = num_prompts * given["num_videos_per_prompt"]
        check_seed(given["seed"], generator, batch_size)
        self._check_memory(batch_size, size, guidance_scale > 1, given["output_type"])
        generators = clip_generators(given["seed"], given["generator"], batch_size)
        embeds, negative_embeds = self.encode_prompt(
            prompt,
            num_videos_per_prompt=num_videos_per_prompt,
            do_classifier_free_guidance=guidance_scale > 1,
            negative_prompt=negative_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
        )
        self._call = RunningCall(guidance_scale, num_inference_steps)
        return ClipRequest(
            self.latent_size(*size),
            generators,
            self._text_context(embeds, negative_embeds),
            given["output_type"],
            return_dict,
        )

    def _end(self, latents: Tensor, request: ClipRequest) -> Any:
        """What the call returns, of latents `(B, C, f, h, w)`.

        Raises:
            BadClipsError: If latents are NaN or infinite, or a clip comes out blank.
        """
        not_finite = (~latents.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        bad_clips = dict.fromkeys(
            not_finite, f"has latents from {type(self.network).__name__} that are not finite"
        )
        output = self._output(latents.float(), request.output_type, bad_clips)
        return output if request.return_dict else (output.frames,)
