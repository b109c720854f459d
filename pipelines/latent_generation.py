"""What all ways to make clips in latents share: prompts to embeddings, seeds to noise, latents to frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from videogen.codec.contract import Codec, check_codec_hash
from videogen.codec.pixels import pixels_to_frames
from videogen.models.text_context import TextContext
from videogen.pipelines.arguments import ARGUMENTS, read_arguments
from videogen.pipelines.checks import find_bad_clips, warn_of_unknown_words
from videogen.pipelines.memory import MemoryPlan
from videogen.pipelines.output import BadClipsError, VideoPipelineOutput, as_output_type
from videogen.sampling.noise import sample_noise
from videogen.text.contract import PromptEncoder


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


@dataclass(eq=False)
class RunningCall:
    """What can be read, and changed, of a call while it runs.

    Attributes:
        guidance_scale: Of the steps to come.
        num_timesteps: Evaluations of the network in the whole call; 0 before the first call.
        interrupt: Whether the call ends with the step that is being made.
    """

    guidance_scale: float
    num_timesteps: int = 0
    interrupt: bool = False


# Numbers kept at a time within a layer for each of its channels, at the peak of what processes took.
_KEPT_PER_CHANNEL = 30.0
_KEPT_PER_HIDDEN = 18.0

_of_callback: ContextVar[tuple[object, RunningCall] | None] = ContextVar("call_of_callback", default=None)


@contextmanager
def in_callback(pipeline: object, call: RunningCall) -> Iterator[None]:
    """Within, what a pipeline shows of its running call is this one, whatever calls other threads make."""
    token = _of_callback.set((pipeline, call))
    try:
        yield
    finally:
        _of_callback.reset(token)


class LatentGenerator:
    """Makes clips in the latents of a codec, from prompts; what makes the latents is up to the subclass.

    Args:
        vae: The codec.
        text_encoder: Turns prompts into embeddings.
        defaults: What a call uses where it is not told.
        codec_hash: Of the codec that the network was trained with, see `videogen.codec.contract.codec_hash`;
            None if that is not known.

    Components may be None; a call that needs one that is says so.

    Raises:
        ValueError: If the codec is another one.
    """

    vae: Codec
    text_encoder: PromptEncoder
    network: Any  # what makes latents; its config has their `in_channels`, and `cross_attention_dim`
    defaults: ClipDefaults
    defaults_class: type[ClipDefaults] = ClipDefaults
    codec_hash: str | None
    check_memory: bool = True
    """Whether a call is refused that needs more memory than there is, see `MemoryPlan`."""

    def __init__(
        self, vae: Codec, text_encoder: PromptEncoder, defaults: ClipDefaults, codec_hash: str | None
    ) -> None:
        check_codec_hash(vae, codec_hash)
        self.vae, self.text_encoder = vae, text_encoder
        self.defaults, self.codec_hash = defaults, codec_hash
        self._last_call = RunningCall(dataclasses.asdict(defaults).get("guidance_scale", 1.0))

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
    def _call(self) -> RunningCall:
        """The call of the callback that asks; for all others the one that ran last.

        Streams that take turns each put theirs here before they let go.
        """
        asking = _of_callback.get()
        return asking[1] if asking is not None and asking[0] is self else self._last_call

    @_call.setter
    def _call(self, call: RunningCall) -> None:
        self._last_call = call

    @property
    def guidance_scale(self) -> float:
        """Of the running call; a callback that sets it changes the steps to come."""
        return self._call.guidance_scale

    @guidance_scale.setter
    def guidance_scale(self, value: float) -> None:
        self._call.guidance_scale = ARGUMENTS["guidance_scale"]("guidance_scale", value)

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the running call is guided."""
        return self.guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """Evaluations of the network in the running call; 0 before the first call."""
        return self._call.num_timesteps

    # The names that callbacks written for diffusers use.
    _guidance_scale = guidance_scale
    _num_timesteps = num_timesteps

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

        Only the text encoder is used, and not even that where embeddings are given.

        Returns:
            prompt_embeds and, with guidance, negative_prompt_embeds: `(P * num_videos_per_prompt, L, D)`.

        Raises:
            ValueError: If an argument is of a wrong type, prompts and negative prompts do not fit each other,
                or there is no text encoder.
        """
        given = read_arguments(
            prompt=prompt,
            negative_prompt=negative_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            num_videos_per_prompt=num_videos_per_prompt,
        )
        num_videos_per_prompt = given["num_videos_per_prompt"]
        if prompt_embeds is None:
            prompts = given["prompt"] or []
            if not prompts:
                raise ValueError("`prompt` is missing: give at least one prompt, or `prompt_embeds`")
            self._require("text_encoder")
            warn_of_unknown_words(self.prompt_encoder, prompts)
            prompt_embeds = self._embed(prompts)
        num_prompts = len(prompt_embeds)
        if not do_classifier_free_guidance:
            return prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0), None
        if negative_prompt_embeds is None:
            negative = given["negative_prompt"] or ""
            negatives = [negative] * num_prompts if isinstance(negative, str) else list(negative)
            warn_of_unknown_words(self.prompt_encoder, negatives, "the negative prompt")
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
            BadClipsError: If a clip is not finite, or blank: of one colour in all its pixels.
        """
        frames = decode_frames(self.codec, latents)
        bad_clips = find_bad_clips(frames)
        if bad_clips:
            raise BadClipsError(bad_clips, VideoPipelineOutput(frames.nan_to_num(0)))
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

    def _output(self, latents: Tensor, output_type: str, bad_clips: dict[int, str]) -> VideoPipelineOutput:
        """What a call returns, of latents `(B, C, f, h, w)`.

        Args:
            latents: Of all clips.
            output_type: See `VideoPipelineOutput`.
            bad_clips: Those that are known to be bad already, as in `BadClipsError`.

        Raises:
            BadClipsError: If a clip is bad.
        """
        if output_type == "latent":
            output = VideoPipelineOutput(latents)
        else:
            with torch.no_grad():
                frames = decode_frames(self.codec, latents)
            bad_clips = find_bad_clips(frames) | bad_clips
            output = VideoPipelineOutput(as_output_type(frames.nan_to_num(0), output_type))
        if bad_clips:
            raise BadClipsError(bad_clips, output)
        return output

    def _check_memory(
        self, num_clips: int, size: tuple[int, int, int], guided: bool, output_type: str
    ) -> None:
        """Raise ValueError if a call needs more memory than there is, unless `check_memory` is False."""
        if not self.check_memory:
            return
        config = self.network.config
        if "block_out_channels" in config:
            width = _KEPT_PER_CHANNEL * config["block_out_channels"][0]
        else:  # tokens are 2x2 places
            width = _KEPT_PER_HIDDEN * config["hidden_size"] / 4
        plan = MemoryPlan.of(
            num_clips,
            size,
            self.latent_size(*size),
            config["in_channels"],
            width,
            2 * num_clips if guided else num_clips,
            output_type != "latent",
        )
        asked = f"`num_frames` {size[0]}, `height` {size[1]} and `width` {size[2]} for {num_clips} clips"
        plan.check(asked, self.execution_device)

    def _require(self, *components: str) -> None:
        """Raise ValueError if a component is None."""
        for name in components:
            if getattr(self, name) is None:
                raise ValueError(f"`{name}` of this pipeline is None, and this call needs it: load it too")

    def _embed(self, prompts: Sequence[str]) -> Tensor:
        self._require("text_encoder")
        encoded = self.prompt_encoder.encode(prompts)
        return encoded.prompt_embeds * encoded.attention_mask[..., None]


def decode_frames(codec: Codec, latents: Tensor) -> Tensor:
    """Frames `(B, F, H, W, 3)` float32 in [0, 1] on the CPU, of latents `(B, C, f, h, w)`, piece by piece."""
    chunks = codec.iter_decode(latents.to(codec.dtype))
    return torch.cat([pixels_to_frames(chunk).cpu() for chunk in chunks], dim=1)
