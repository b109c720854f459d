"""Fine-tuning of a model's codec on footage: a decoder that shows more of the same latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import check_pixel_shape
from videogen.codec.pixels import frames_to_pixels, pixels_to_uint8
from videogen.data.footage.dataset import FootageDataset, load_dataset
from videogen.metrics.intervals import bootstrap_mean
from videogen.metrics.reconstruction import psnr
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.train.objectives.base import ObjectiveConfig
from videogen.train.objectives.codec import CodecObjective, CodecObjectiveConfig

_MOST_SHOWN, _MOST_MEASURED = 4, 256  # clips of a preview, and of a measurement


@dataclass(frozen=True)
class CodecFinetuneObjectiveConfig(ObjectiveConfig):
    """Settings of `CodecFinetuneObjective`.

    Attributes:
        dataset: Folder of the prepared dataset, with pixels.
        held_out: Videos of it that are not trained on, and that previews and measures are made of.
        model: Folder or hub id of the model whose codec is trained; None for the embedded one.
        max_noise_std: The noise on the latents of a clip has a deviation drawn from 0 to this; see
            `CodecObjectiveConfig`.
        seed: Of the noise.
    """

    dataset: str
    held_out: tuple[str, ...]
    model: str | None = None
    max_noise_std: float = 0.08
    seed: int = 0

    def build(self) -> CodecFinetuneObjective:
        """Load the model and make the objective.

        Raises:
            ValueError: If model or dataset cannot be loaded, or the codec cannot be trained on these clips.
        """
        return CodecFinetuneObjective(load(self.model), load_dataset(self.dataset), self)


class CodecFinetuneObjective(CodecObjective):
    """Reconstruction by the decoder alone: the encoder, and so all latents, stay as they are.

    So what was trained on these latents, such as the denoiser, goes on to fit.

    Args:
        pipeline: The model; its decoder is trained in place.
        dataset: The footage; see `CodecFinetuneObjectiveConfig`.
        config: Settings.

    Raises:
        ValueError: If the codec is not one of ours, or cannot encode clips of the dataset's shapes.
    """

    preview_first: ClassVar[bool] = True

    def __init__(
        self, pipeline: TextToVideoPipeline, dataset: FootageDataset, config: CodecFinetuneObjectiveConfig
    ) -> None:
        codec = pipeline.vae
        if not isinstance(codec, VideoAutoencoder):
            raise ValueError(
                f"`model` {str(config.model or 'embedded')!r} has the codec {type(codec).__name__}: only a "
                "VideoAutoencoder can be fine-tuned here"
            )
        for bucket in dataset.buckets:
            check_pixel_shape((1, 3, bucket.num_frames, bucket.height, bucket.width), codec.compression)
        super().__init__(
            codec,
            CodecObjectiveConfig(train_encoder=False, max_noise_std=config.max_noise_std, seed=config.seed),
        )
        codec.encoder.requires_grad_(False)
        codec.decoder.requires_grad_(True)
        self.dataset = dataset
        self.held_out_idxs = [
            idx for idx, clip in enumerate(dataset.clips) if clip.source in set(config.held_out)
        ]
        self._pipeline = pipeline

    def save(self, folder: Path) -> None:
        """Write the whole pipeline around the codec."""
        self._pipeline.save_pretrained(folder)

    @torch.no_grad()
    def preview(self) -> list[tuple[str, np.ndarray]]:
        """A few held-out clips beside their reconstructions."""
        clips = []
        for idx in self.held_out_idxs[:_MOST_SHOWN]:
            pixels, reconstruction = self._reconstruct(idx)
            both = pixels_to_uint8(torch.cat([pixels, reconstruction], dim=4))[0]
            clips.append((f"{self.dataset.clips[idx].caption} | reconstruction", both))
        return clips

    def measure(self, previews: Sequence[tuple[str, np.ndarray]]) -> dict[str, float]:
        """`psnr` of held-out clips in dB, with the ends of the 95 % interval of the mean."""
        values = self.held_out_psnr()
        if not values:
            return {}
        interval = bootstrap_mean(values)
        return {"psnr": interval.mean, "psnr_low": interval.low, "psnr_high": interval.high}

    @torch.no_grad()
    def held_out_psnr(self) -> list[float]:
        """PSNR in dB of each held-out clip, of what is seen: pixels clamped to [-1, 1]."""
        values = []
        for idx in self.held_out_idxs[:_MOST_MEASURED]:
            pixels, reconstruction = self._reconstruct(idx)
            values.append(psnr(reconstruction.clamp(-1, 1), pixels).item())
        return values

    def _reconstruct(self, idx: int) -> tuple[Tensor, Tensor]:
        """Pixels `(1, 3, F, H, W)` of a clip, and what the codec makes of them."""
        codec = self.codec
        pixels = frames_to_pixels(self.dataset.frames(idx)[None]).to(codec.device, codec.dtype)
        return pixels, codec.decode(codec.encode(pixels))
