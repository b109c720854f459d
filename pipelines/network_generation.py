"""Generators that draw a whole clip with one network: what the calls of all families share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from videogen.codec.contract import Codec
from videogen.models.text_context import TextContext
from videogen.pipelines.checks import check_choices, check_numbers, check_prompts, check_size
from videogen.pipelines.latent_generation import ClipDefaults, LatentGenerator
from videogen.sampling.noise import clip_generators
from videogen.text.contract import PromptEncoder


@dataclass(frozen=True)
class SamplingDefaults(ClipDefaults):
    """What a call uses where it is not told, beside `ClipDefaults`.

    Attributes:
        temperature: Scales what is random: 1 draws as in training, less is nearer to the most likely clip.
    """

    temperature: float = 1.0


class ClipArguments(TypedDict, total=False):
    """What the call of every family takes beside the prompt and its own settings.

    Attributes:
        num_frames: Frames per clip, a multiple of the codec's compression in time.
        height: In pixels, a multiple of the codec's compression in space.
        width: In pixels, likewise.
        num_videos_per_prompt: Clips per prompt, 1 by default; those of one prompt follow each other.
        seed: Clip k of the call is made from `seed + k`: the one made alone with that seed, up to
            rounding.
        generator: In place of `seed`: one per clip, or one that is drawn from clip by clip.
        prompt_embeds: In place of `prompt`, `(P, L, D)` as `encode_prompt` returns them.
        output_type: `np`, `pt`, `pil` or `latent`; see `VideoPipelineOutput`.
        return_dict: Whether to return a `VideoPipelineOutput`, as is the default, rather than a tuple.
    """

    num_frames: int | None
    height: int | None
    width: int | None
    num_videos_per_prompt: int
    seed: int | None
    generator: torch.Generator | Sequence[torch.Generator] | None
    prompt_embeds: Tensor | None
    output_type: str
    return_dict: bool


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
        if not isinstance(network, self.network_class):
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
        guidance_scale: float = 1.0,
        num_inference_steps: int = 1,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_videos_per_prompt: int = 1,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> ClipRequest:
        """Look at the arguments of a call, and encode its prompts."""
        defaults = self.defaults
        num_frames = defaults.num_frames if num_frames is None else num_frames
        height = defaults.height if height is None else height
        width = defaults.width if width is None else width
        prompts = [prompt] if isinstance(prompt, str) else prompt
        text_dim = self.network.config["cross_attention_dim"]
        num_prompts = check_prompts(prompts, negative_prompt, prompt_embeds, None, text_dim)
        trained_size = (defaults.num_frames, defaults.height, defaults.width)
        check_size((num_frames, height, width), self.codec.compression, trained_size)
        check_numbers(num_inference_steps, num_videos_per_prompt, guidance_scale)
        check_choices(output_type, seed, generator, ())
        generators = clip_generators(seed, generator, num_prompts * num_videos_per_prompt)
        embeds, negative_embeds = self.encode_prompt(
            prompts,
            num_videos_per_prompt=num_videos_per_prompt,
            do_classifier_free_guidance=guidance_scale > 1,
            negative_prompt=negative_prompt,
            prompt_embeds=prompt_embeds,
        )
        size = self.latent_size(num_frames, height, width)
        return ClipRequest(
            size, generators, self._text_context(embeds, negative_embeds), output_type, return_dict
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
