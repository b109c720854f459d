"""Training of the latent video codec: reconstruction under noise, with latents kept at a steady scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.pixels import pixels_to_uint8
from videogen.data.batch import Batch, ClipSource
from videogen.data.shapes.dataset import ShapesClips
from videogen.sampling.noise import sample_noise, seeded_generator
from videogen.train.objectives.base import Objective, ObjectiveConfig, check_result


@dataclass(frozen=True)
class CodecObjectiveConfig(ObjectiveConfig):
    """Settings of `CodecObjective`.

    Attributes:
        latent_channels: Of the codec.
        encoder_dims: Of the codec.
        decoder_dims: Of the codec.
        encoder_depths: Of the codec.
        decoder_depths: Of the codec.
        edge_weight: How much more than elsewhere an error counts where the picture is not flat.
        penalty: Weight of the L2 penalty on the latents, the part of the KL term that a fixed variance
            leaves.
        statistics_momentum: Of the running mean and variance of the latents.
        init_from: Folder of a codec to start from, whose sizes replace those above; None for a fresh one.
        train_encoder: Whether the encoder is trained too; otherwise the latents, and all that was trained on
            them, stay valid.
        new_decoder: Whether only the encoder is taken from `init_from`, beside a fresh decoder of the sizes
            above.
        latent_bound: Of the codec.
        pixel_margin: Of the codec.
        normalize_branches: Of the codec.
        clips: Over which the saved latents have unit variance, and that previews show; clips of the world
            `shapes` if None.
        max_noise_std: If above 0, the noise of each clip has a deviation drawn from 0 to this, in place of
            the codec's `posterior_std`: a decoder trained so forgives larger errors of a generator.
        error_floor: If given, the loss of a clip is the logarithm of its error plus this (pixels in [-1, 1],
            squared), so that the mean PSNR is trained and plain material counts as much as rich. Without it,
            the clips that are hardest to code decide.
        seed: Of the posterior noise.
    """

    latent_channels: int = 16
    encoder_dims: tuple[int, int] = (32, 96)
    decoder_dims: tuple[int, int] = (48, 128)
    encoder_depths: tuple[int, int] = (1, 2)
    decoder_depths: tuple[int, int] = (2, 3)
    edge_weight: float = 4.0
    penalty: float = 1e-5
    statistics_momentum: float = 0.01
    init_from: str | None = None
    train_encoder: bool = True
    new_decoder: bool = False
    latent_bound: float | None = None
    pixel_margin: float | None = None
    normalize_branches: bool = False
    clips: ClipSource | None = None
    max_noise_std: float = 0.0
    error_floor: float | None = None
    seed: int = 0

    def build(self) -> CodecObjective:
        """Make the objective, with a new or a given codec.

        Raises:
            ValueError: If `init_from` is not there, or missing where a part of it shall be kept.
        """
        check_result("init_from", self.init_from)
        if self.init_from is None and (self.new_decoder or not self.train_encoder):
            raise ValueError("`init_from` must be given where an encoder is kept or not trained, got None")
        if self.init_from is not None:
            codec = VideoAutoencoder.from_pretrained(self.init_from)
            if self.new_decoder:
                codec = self._with_new_decoder(codec)
            codec.encoder.requires_grad_(self.train_encoder)
            return CodecObjective(codec, self)
        codec = VideoAutoencoder(
            latent_channels=self.latent_channels,
            encoder_dims=self.encoder_dims,
            decoder_dims=self.decoder_dims,
            encoder_depths=self.encoder_depths,
            decoder_depths=self.decoder_depths,
            latent_bound=self.latent_bound,
            pixel_margin=self.pixel_margin,
            normalize_branches=self.normalize_branches,
        )
        return CodecObjective(codec, self)

    def _with_new_decoder(self, codec: VideoAutoencoder) -> VideoAutoencoder:
        sizes = {**codec.config, "decoder_dims": self.decoder_dims, "decoder_depths": self.decoder_depths}
        renewed = cast(VideoAutoencoder, VideoAutoencoder.from_config(sizes))
        kept = {name: value for name, value in codec.state_dict().items() if not name.startswith("decoder.")}
        renewed.load_state_dict(kept, strict=False)
        return renewed


class CodecObjective(Objective):
    """Squared error of the reconstruction, weighted towards edges.

    Posterior noise is scaled by the running deviation of the latents, so that no scale of the latents escapes
    it.
    """

    def __init__(self, codec: VideoAutoencoder, config: CodecObjectiveConfig) -> None:
        super().__init__()
        self.codec = codec
        self.settings = config

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, and `psnr` in dB over the batch."""
        latents = self.codec.encoder(batch.pixels).float()
        if self.settings.train_encoder:
            self._update_statistics(latents.detach())
        normalized = self.codec.normalize(latents)
        reconstruction = self.codec.decode(normalized + self._noise(normalized, batch)).float()
        squared_error = (reconstruction - batch.pixels).square()
        weights = 1 + self.settings.edge_weight * detail_mask(batch.pixels)
        loss = self._error(squared_error, weights)
        mean_square = latents.square().mean()
        loss = loss + self.settings.penalty * mean_square + 1e-3 * (mean_square - 1).clamp(min=0)
        return {"loss": loss, "psnr": -10 * torch.log10(squared_error.detach().mean() / 4)}

    def _error(self, squared_error: Tensor, weights: Tensor) -> Tensor:
        """Weighted error of `(B, 3, F, H, W)` by `(B, 1, F, H, W)`: its mean, or the mean of its logs."""
        if self.settings.error_floor is None:
            return (squared_error * weights).sum() / weights.sum() / squared_error.shape[1]
        clips = (squared_error * weights).mean((1, 2, 3, 4)) / weights.mean((1, 2, 3, 4))
        return (clips + self.settings.error_floor).log().mean()

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Write the codec as config.json + safetensors, its latents of unit variance over whole clips."""
        if not self.settings.train_encoder:
            self.codec.save_pretrained(folder)
            return
        running = self.codec.latents_mean.clone(), self.codec.latents_std.clone()
        clips = self.settings.clips or ShapesClips(seed=2)
        latents = self.codec.encoder(clips.batch(range(128), self.codec.device).pixels)
        self.codec.latents_mean.copy_(latents.mean((0, 2, 3, 4)))
        self.codec.latents_std.copy_(latents.std((0, 2, 3, 4)))
        self.codec.save_pretrained(folder)
        self.codec.latents_mean.copy_(running[0])
        self.codec.latents_std.copy_(running[1])

    @torch.no_grad()
    def preview(self) -> list[tuple[str, np.ndarray]]:
        """Clips beside their reconstructions."""
        clips = self.settings.clips or ShapesClips(seed=1)
        pixels = clips.batch(range(4)).pixels.to(self.codec.device)
        both = torch.cat([pixels, self.codec.decode(self.codec.encode(pixels))], dim=4)
        return [("clip | reconstruction", clip) for clip in pixels_to_uint8(both)]

    @torch.no_grad()
    def _noise(self, latents: Tensor, batch: Batch) -> Tensor:
        """Noise `(B, C, f, h, w)` for latents of unit variance."""
        generators = [seeded_generator(self.settings.seed, sample_id) for sample_id in batch.sample_ids]
        noise = sample_noise(latents.shape[1:], generators).to(latents)
        strengths = torch.full((len(noise),), self.codec.config["posterior_std"])
        if self.settings.max_noise_std > 0:
            draws = [torch.rand((), generator=generator) for generator in generators]
            strengths = self.settings.max_noise_std * torch.stack(draws)
        return noise * strengths.to(latents)[:, None, None, None, None]

    @torch.no_grad()
    def _update_statistics(self, latents: Tensor) -> None:
        momentum = self.settings.statistics_momentum
        mean, variance = latents.mean((0, 2, 3, 4)), latents.var((0, 2, 3, 4))
        variance = torch.lerp(self.codec.latents_std.square(), variance, momentum)
        self.codec.latents_mean.lerp_(mean, momentum)
        self.codec.latents_std.copy_(variance.sqrt())


def detail_mask(pixels: Tensor, radius: int = 2, threshold: float = 0.02) -> Tensor:
    """`(B, 1, F, H, W)`: 1 where a pixel differs from the mean around it, 0 where the picture is flat."""
    kernel, padding = (1, 2 * radius + 1, 2 * radius + 1), (0, radius, radius)
    local_mean = F.avg_pool3d(pixels, kernel, stride=1, padding=padding, count_include_pad=False)
    return ((pixels - local_mean).abs().mean(1, keepdim=True) > threshold).to(pixels)
