"""What all ways to make clips in latents share: prompts to embeddings, seeds to noise, latents to frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from videogen.codec.contract import Codec, check_codec_hash
from videogen.codec.pixels import pixels_to_frames
from videogen.models.text_context import TextContext
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.noise import sample_noise, seeded_generator
from videogen.text.contract import PromptEncoder
from videogen.text.encoder import TextEncoder

_LEAST_CONTRAST = 2 / 255  # of any clip that shows something


@dataclass(frozen=True)
class ClipDefaults:
    """What a call uses where it is not told; the clips that the model was trained on.

    Attributes:
        num_frames: Frames per clip.
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        fps: Frames per second.
    """

    num_frames: int = 16
    height: int = 64
    width: int = 64
    fps: float = 8.0


class LatentGenerator:
    """Makes clips in the latents of a codec, from prompts; what makes the latents is up to the subclass.

    Args:
        vae: The codec.
        text_encoder: Turns prompts into embeddings.
        defaults: What a call uses where it is not told.
        codec_hash: Of the codec that the network was trained with, see `videogen.codec.contract.codec_hash`;
            None if that is not known.

    Raises:
        ValueError: If the codec is another one.
    """

    vae: Codec
    text_encoder: PromptEncoder
    network: Any  # what makes latents; its config has their `in_channels`, and `cross_attention_dim`
    defaults: ClipDefaults
    defaults_class: type[ClipDefaults] = ClipDefaults
    codec_hash: str | None

    def __init__(
        self, vae: Codec, text_encoder: PromptEncoder, defaults: ClipDefaults, codec_hash: str | None
    ) -> None:
        check_codec_hash(vae, codec_hash)
        self.vae, self.text_encoder = vae, text_encoder
        self.defaults, self.codec_hash = defaults, codec_hash

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Generate clips; each subclass says what its call takes."""
        raise NotImplementedError

    @property
    def codec(self) -> Codec:
        """The codec; `vae` itself, unless a subclass keeps a foreign network there."""
        return self.vae

    @property
    def prompt_encoder(self) -> PromptEncoder:
        """What encodes prompts; `text_encoder` itself, unless a subclass keeps a foreign network there."""
        return self.text_encoder

    @property
    def execution_device(self) -> torch.device:
        """Where the networks run."""
        return next(self.network.parameters()).device  # ModelMixin.device would import torch's compiler

    def progress_bar(self, total: int) -> AbstractContextManager[Any]:
        """A bar over the steps of a call."""
        return tqdm(total=total)

    def latent_size(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip."""
        per_time, per_space = self.codec.compression
        return num_frames // per_time, height // per_space, width // per_space

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        *,
        num_videos_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embed prompts, repeated for the clips of each.

        Embeddings at padding are exactly zero, which is how the denoiser's attention mask is found again, so
        that embeddings can be passed around alone.

        Returns:
            prompt_embeds and, with guidance, negative_prompt_embeds: `(P * num_videos_per_prompt, L, D)`.
        """
        if prompt_embeds is None:
            prompts = [prompt] if isinstance(prompt, str) else list(prompt or [])
            self._warn_of_unknown_words(prompts)
            prompt_embeds = self._embed(prompts)
        num_prompts = len(prompt_embeds)
        if not do_classifier_free_guidance:
            return prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0), None
        if negative_prompt_embeds is None:
            negative = negative_prompt or ""
            negatives = [negative] * num_prompts if isinstance(negative, str) else list(negative)
            negative_prompt_embeds = self._embed(negatives)
        if negative_prompt_embeds.shape != prompt_embeds.shape:
            raise ValueError(
                f"negative prompt embeddings must be {tuple(prompt_embeds.shape)} like those of the prompt, "
                f"got {tuple(negative_prompt_embeds.shape)}"
            )
        return (
            prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0),
            negative_prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0),
        )

    def prepare_latents(
        self,
        batch_size: int,
        num_frames: int,
        height: int,
        width: int,
        generators: Sequence[torch.Generator],
        latents: Tensor | None = None,
    ) -> Tensor:
        """Noise `(B, C, f, h, w)` of unit variance, drawn per clip, or what is given if its shape fits."""
        shape = (self.network.config["in_channels"], *self.latent_size(num_frames, height, width))
        if latents is None:
            latents = sample_noise(shape, generators)
        elif latents.shape != (batch_size, *shape):
            raise ValueError(f"`latents` must be {(batch_size, *shape)}, got {tuple(latents.shape)}")
        return latents.to(self.execution_device, torch.float32)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Frames `(B, F, H, W, 3)` in [0, 1] on the CPU, decoded piece by piece.

        Raises:
            FloatingPointError: If a clip is not finite, or blank: of one colour in all its pixels.
        """
        codec = self.codec
        chunks = codec.iter_decode(latents.to(codec.dtype))
        frames = torch.cat([pixels_to_frames(chunk).cpu() for chunk in chunks], dim=1)
        for number, clip in enumerate(frames):
            if not bool(torch.isfinite(clip).all()):
                raise FloatingPointError(f"the frames of clip {number} hold NaN or infinity")
            darkest, brightest = torch.aminmax(clip.flatten(0, 2), dim=0)
            if float((brightest - darkest).max()) < _LEAST_CONTRAST:
                raise FloatingPointError(f"clip {number} is blank: all its pixels have one colour")
        return frames

    def _text_context(self, prompt_embeds: Tensor, negative_prompt_embeds: Tensor | None) -> TextContext:
        """Prompts prepared for all steps, the negative ones first: embeddings of zero are padding."""
        embeds = (
            [prompt_embeds] if negative_prompt_embeds is None else [negative_prompt_embeds, prompt_embeds]
        )
        together = torch.cat(embeds)
        mask = together.ne(0).any(-1)
        # Without a mask, attention has faster kernels.
        dtype = self.network.dtype
        return self.network.text_context(together.to(dtype), None if bool(mask.all()) else mask)

    def _output(
        self, latents: Tensor, output_type: str, return_dict: bool
    ) -> VideoPipelineOutput | tuple[Any]:
        """What a call returns, of latents `(B, C, f, h, w)`."""
        frames = self._finish(latents, output_type)
        return VideoPipelineOutput(frames=frames) if return_dict else (frames,)

    def _finish(self, latents: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        frames = self.decode_latents(latents)
        if output_type == "pt":
            return frames
        array = frames.numpy()
        if output_type == "np":
            return array
        return [[Image.fromarray(frame) for frame in clip] for clip in (array * 255).round().astype("uint8")]

    def _embed(self, prompts: Sequence[str]) -> Tensor:
        encoded = self.prompt_encoder.encode(prompts)
        return encoded.prompt_embeds * encoded.attention_mask[..., None]

    def _warn_of_unknown_words(self, prompts: Sequence[str]) -> None:
        encoder = self.prompt_encoder
        if not isinstance(encoder, TextEncoder):
            return  # its vocabulary is open, and it says itself what it cuts off
        for prompt in prompts:
            report = encoder.tokenizer.report(prompt)
            if report.unknown:
                shown = ", ".join(repr(word) for word in report.unknown[:10])
                warnings.warn(f"the model does not know these words of the prompt: {shown}", stacklevel=3)
            if report.corrected:
                shown = ", ".join(f"{wrong!r} as {right!r}" for wrong, right in report.corrected[:10])
                warnings.warn(f"words of the prompt read as others: {shown}", stacklevel=3)
            if report.num_truncated:
                warnings.warn(
                    f"the prompt is too long: its last {report.num_truncated} words are ignored", stacklevel=3
                )

    def _generators(
        self, seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None, batch_size: int
    ) -> list[torch.Generator]:
        if seed is None and generator is None:
            seed = torch.Generator().seed()  # fresh, and without a touch on torch's global generator
        if seed is not None:
            return [seeded_generator(seed + item) for item in range(batch_size)]
        if isinstance(generator, torch.Generator):
            return [generator] * batch_size
        generators = list(generator or [])
        if len(generators) != batch_size:
            raise ValueError(f"`generator` must be one or {batch_size}, one per clip, got {len(generators)}")
        return generators
