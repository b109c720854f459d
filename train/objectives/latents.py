"""What objectives in the latents of a frozen codec share: codec, captions, previews, the saved pipeline."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import Codec, codec_hash
from videogen.data.batch import Batch
from videogen.data.shapes.captions import vocabulary
from videogen.files import read_json
from videogen.io import rounded_to_uint8
from videogen.pipelines.loading import EMBEDDED
from videogen.pipelines.output import BadClipsError
from videogen.sampling.noise import seeded_generator
from videogen.text.contract import EncodedText
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder
from videogen.train.objectives.base import Objective, ObjectiveConfig, check_result

PREVIEW_PROMPTS = (
    "a large red circle moves left on a black background",
    "a large blue square moves up on a white background",
    "a large yellow triangle moves right on a black background",
    "a medium purple star rotates on a gray background",
    "a large green ring bounces on a navy background",
    "a small orange cross moves down-right on a beige background",
)


@dataclass(frozen=True)
class TreatmentConfig(ObjectiveConfig):
    """How a `LatentObjective` treats clips, wherever its networks come from.

    Attributes:
        text_rate: How fast the text encoder learns, as a multiple of the learning rate; 0 leaves it as it is.
            Words that do not help yet (of motion, while colours are learned) would be forgotten by a fast
            encoder.
        caption_dropout: Share of clips trained without their caption: for classifier-free guidance where a
            family has it, and for the empty prompt.
        seed: Of everything random in the treatment of a clip.
    """

    text_rate: float = 0.1
    caption_dropout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(f"`caption_dropout` must be between 0 and 1, got {self.caption_dropout}")
        if not 0 <= self.text_rate < math.inf:
            raise ValueError(f"`text_rate` must be a number of at least 0, got {self.text_rate}")


@dataclass(frozen=True)
class LatentObjectiveConfig(TreatmentConfig):
    """Settings of a `LatentObjective` of a new generator, beside those of `TreatmentConfig`.

    Attributes:
        codec: Folder of the trained codec; None for the embedded one.
        text_encoder: Folder of a trained text encoder, of either kind, to start from; None for a fresh one.
        text_dim: Width of the text encoder, which is trained along.
        text_layers: Blocks of a fresh one.
        preview_prompts: Of the clips that are made on the way.
        preview_frames: Frames of these clips; the pipeline's own number if None.
    """

    codec: str | None = None
    text_encoder: str | None = None
    text_dim: int = 256
    text_layers: int = 2
    preview_prompts: tuple[str, ...] = PREVIEW_PROMPTS
    preview_frames: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        if not self.preview_prompts:
            raise ValueError("`preview_prompts` must hold a prompt, got ()")

    def load_codec(self) -> VideoAutoencoder:
        """The codec.

        Raises:
            ValueError: If its folder is not there.
        """
        check_result("codec", self.codec)
        return VideoAutoencoder.from_pretrained(self.codec or EMBEDDED / "vae")

    def make_text_encoder(self) -> TextEncoder | OpenTextEncoder:
        """The text encoder to start from: the given one, or a fresh one for the words of the world `shapes`.

        Raises:
            ValueError: If its folder is not there, or it has another width than `text_dim`.
        """
        check_result("text_encoder", self.text_encoder)
        if self.text_encoder is not None:
            encoder = read_text_encoder(Path(self.text_encoder))
            if encoder.hidden_size != self.text_dim:
                raise ValueError(
                    f"`text_dim` must be {encoder.hidden_size}, the width of {self.text_encoder}, "
                    f"got {self.text_dim}"
                )
            return encoder
        return TextEncoder(vocabulary(), hidden_size=self.text_dim, num_layers=self.text_layers)


class LatentObjective(Objective):
    """Training of a generator in the latents of a frozen codec, with a text encoder trained along.

    Args:
        codec: Frozen here.
        text_encoder: Trained, unless a subclass freezes it.
        config: Settings.
    """

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
        config: TreatmentConfig,
    ) -> None:
        super().__init__()
        self.codec = codec.requires_grad_(False).eval()
        self.text_encoder = text_encoder.requires_grad_(config.text_rate > 0)
        if isinstance(text_encoder, OpenTextEncoder):
            text_encoder.reader.requires_grad_(False)  # no caption is read back here
        self.latent_settings = config
        self.adamw_scales = {**self.adamw_scales, "text_encoder": config.text_rate}

    @abstractmethod
    def pipeline(self) -> Any:
        """The pipeline around the networks as they are now."""

    @property
    def codec_contract(self) -> Codec:
        """The contract around `codec`, which one of ours keeps itself."""
        return self.codec

    @cached_property
    def codec_hash(self) -> str:
        """Of the codec, whose latents are trained on."""
        return codec_hash(self.codec)

    def latents(self, batch: Batch) -> Tensor:
        """Latents `(B, C, f, h, w)` float32 of a batch: its own, or encoded now.

        Raises:
            ValueError: If they were made by another codec.
        """
        if batch.latents is None:
            codec = self.codec_contract
            with torch.no_grad():
                # In the layout of cached latents, since the order of sums follows the layout.
                return codec.encode(batch.pixels.to(codec.dtype)).float().contiguous()
        if batch.codec_hash is not None and batch.codec_hash != self.codec_hash:
            raise ValueError(
                f"the clips are latents of a codec with the hash {batch.codec_hash[:12]}, but the "
                f"objective's has {self.codec_hash[:12]}: prepare them with it, or train with their codec"
            )
        return batch.latents

    def generators(self, batch: Batch) -> list[torch.Generator]:
        """A generator for each clip, which follows from its position in the stream."""
        return [seeded_generator(self.latent_settings.seed, sample_id) for sample_id in batch.sample_ids]

    def encode_captions(self, batch: Batch, draws: Sequence[float]) -> EncodedText:
        """`kept_captions`, encoded."""
        return self.text_encoder.encode(self.kept_captions(batch, draws))

    def kept_captions(self, batch: Batch, draws: Sequence[float]) -> list[str]:
        """Captions, the empty one in place of those whose draw in [0, 1) is below the dropout."""
        return [
            caption if draw >= self.latent_settings.caption_dropout else ""
            for caption, draw in zip(batch.captions, draws, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write the whole pipeline."""
        self.pipeline().save_pretrained(folder)

    def preview(self) -> list[tuple[str, np.ndarray]]:
        """Clips of `preview_prompts`."""
        settings = self.latent_settings
        assert isinstance(settings, LatentObjectiveConfig)  # of what has other settings it is overridden
        prompts, frames_wanted = settings.preview_prompts, settings.preview_frames
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        length = {} if frames_wanted is None else {"num_frames": frames_wanted}
        return list(zip(prompts, preview_frames(pipeline, prompts, seed=0, **length), strict=True))


def preview_frames(pipeline: Any, prompts: str | Sequence[str], **options: Any) -> np.ndarray:
    """Frames `(B, F, H, W, 3)` uint8 of a call; a bad clip is named in a warning and does not stop a run."""
    try:
        frames = pipeline(prompts, **options).frames
    except BadClipsError as error:
        warnings.warn(f"a preview came out bad: {error}", stacklevel=2)
        frames = error.output.frames
    return rounded_to_uint8(frames)


def read_text_encoder(folder: Path) -> TextEncoder | OpenTextEncoder:
    """A text encoder of ours in float32, of the kind that its config names.

    Raises:
        ValueError: If there is none in the folder.
    """
    kinds: dict[str, type[TextEncoder] | type[OpenTextEncoder]] = {
        "TextEncoder": TextEncoder,
        "OpenTextEncoder": OpenTextEncoder,
    }
    name = read_json(folder / "config.json").get("_class_name")
    if name not in kinds:
        raise ValueError(f"{folder} must hold a text encoder of {', '.join(kinds)}, got {name}")
    return kinds[name].from_pretrained(folder, torch_dtype=torch.float32)


def draw_uniform(generators: Sequence[torch.Generator]) -> list[float]:
    """A number in [0, 1) from each generator."""
    return [torch.rand((), generator=generator).item() for generator in generators]
