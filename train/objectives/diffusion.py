"""Training of text-conditioned denoisers by flow matching in the latents of a frozen codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.data.shapes.captions import vocabulary
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.loading import EMBEDDED
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.sampling.noise import sample_noise, seeded_generator
from videogen.sampling.schedulers import flow_scheduler
from videogen.text.encoder import TextEncoder
from videogen.train.objectives.base import Objective, ObjectiveConfig

Denoiser = UViT3D | UNet3D


@dataclass(frozen=True)
class UViTConfig:
    """Sizes of a `UViT3D`."""

    conv_dim: int = 128
    num_conv_blocks: int = 2
    hidden_size: int = 256
    num_layers: int = 6
    num_attention_heads: int = 4
    token_convs: bool = False

    def build(self, in_channels: int, cross_attention_dim: int) -> Denoiser:
        """Make the network."""
        return UViT3D(
            in_channels=in_channels,
            conv_dim=self.conv_dim,
            num_conv_blocks=self.num_conv_blocks,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_attention_heads=self.num_attention_heads,
            cross_attention_dim=cross_attention_dim,
            token_convs=self.token_convs,
        )


@dataclass(frozen=True)
class UNet3DConfig:
    """Sizes of a `UNet3D` with two resolutions, attention at both: as large as the default `UViTConfig`."""

    block_out_channels: tuple[int, int] = (64, 128)
    layers_per_block: int = 1
    attention_head_dim: int = 32

    def build(self, in_channels: int, cross_attention_dim: int) -> Denoiser:
        """Make the network."""
        return UNet3D(
            in_channels=in_channels,
            out_channels=in_channels,
            block_out_channels=self.block_out_channels,
            down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
            up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
            layers_per_block=self.layers_per_block,
            attention_head_dim=self.attention_head_dim,
            cross_attention_dim=cross_attention_dim,
        )


@dataclass(frozen=True)
class DiffusionObjectiveConfig(ObjectiveConfig):
    """Settings of `DiffusionObjective`.

    Attributes:
        codec: Folder of the trained codec; None for the embedded one.
        network: Sizes of the denoiser.
        text_dim: Width of the text encoder, which is trained along.
        text_layers: Its blocks.
        time_mean: Mean of the logit of the diffusion time. Above 0 it favours noisy latents, where it is
            decided what is in a clip and where it goes: the cells of a latent say much the same, so that a
            place can be read from them up to t = 0.95.
        time_std: Standard deviation of that logit.
        caption_dropout: Share of clips trained without their caption, for classifier-free guidance.
        init_from: Folder of a pipeline whose denoiser and text encoder are the start; None for a fresh one.
            Its denoiser keeps its own sizes, and gets `token_convs` if the network has them.
        seed: Of times, noise and caption dropout.
    """

    codec: str | None = None
    network: UViTConfig | UNet3DConfig = UViTConfig()
    text_dim: int = 256
    text_layers: int = 2
    time_mean: float = 1.2
    time_std: float = 1.8
    caption_dropout: float = 0.1
    init_from: str | None = None
    seed: int = 0

    def build(self) -> DiffusionObjective:
        """Make the objective: the frozen codec, and a new or given denoiser and text encoder."""
        codec = VideoAutoencoder.from_pretrained(self.codec or EMBEDDED / "vae")
        if self.init_from is not None:
            kind = UViT3D if isinstance(self.network, UViTConfig) else UNet3D
            text_encoder = TextEncoder.from_pretrained(self.init_from, subfolder="text_encoder")
            denoiser = kind.from_pretrained(self.init_from, subfolder="unet")
            if isinstance(self.network, UViTConfig) and self.network.token_convs:
                denoiser = denoiser.with_token_convs()
        else:
            text_encoder = TextEncoder(vocabulary(), hidden_size=self.text_dim, num_layers=self.text_layers)
            denoiser = self.network.build(codec.config["latent_channels"], self.text_dim)
        return DiffusionObjective(codec, text_encoder, denoiser, self)


class DiffusionObjective(Objective):
    """Flow matching on straight paths (Lipman et al. 2022, arXiv:2210.02747; Liu et al., arXiv:2209.03003).

    Noisy latents are `(1 - t) x + t noise`, the target is the velocity `noise - x`, and t has a logit-normal
    distribution (Esser et al. 2024, arXiv:2403.03206, section 3.1). The network sees `1000 t`.
    """

    # Words that do not help yet (of motion, while colours are learned) would be forgotten by a fast encoder.
    # The last layer starts at zero, where steps of full size on a noisy gradient throw the first ones off.
    adamw_scales: ClassVar[Mapping[str, float]] = {"text_encoder": 0.1, "denoiser.conv_out": 0.3}

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder,
        denoiser: Denoiser,
        config: DiffusionObjectiveConfig,
    ) -> None:
        super().__init__()
        self.codec = codec.requires_grad_(False).eval()
        self.text_encoder = text_encoder
        self.denoiser = denoiser
        self.settings = config

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, and its part at high noise, `loss_noisy` (t > 0.8)."""
        latents = batch.latents
        if latents is None:
            with torch.no_grad():
                # In the layout of cached latents, since the order of sums follows the layout.
                latents = self.codec.encode(batch.pixels).float().contiguous()
        generators = [seeded_generator(self.settings.seed, sample_id) for sample_id in batch.sample_ids]
        draws = torch.tensor([self._draw(generator) for generator in generators])
        times = torch.sigmoid(self.settings.time_mean + self.settings.time_std * draws[:, 0]).to(latents)
        captions = [
            caption if keep >= self.settings.caption_dropout else ""
            for caption, keep in zip(batch.captions, draws[:, 1].tolist(), strict=True)
        ]
        noise = sample_noise(latents.shape[1:], generators).to(latents)

        t = times[:, None, None, None, None]
        text = self.text_encoder.encode(captions)
        model_pred = self.denoiser(
            torch.lerp(latents, noise, t),
            times * 1000,
            text.prompt_embeds,
            text.attention_mask,
            return_dict=False,
        )[0]
        errors = (model_pred.float() - (noise - latents)).square().mean((1, 2, 3, 4))
        noisy = times.detach() > 0.8
        loss_noisy = (errors.detach() * noisy).sum() / noisy.sum().clamp(min=1)
        return {"loss": errors.mean(), "loss_noisy": loss_noisy}

    def save(self, folder: Path) -> None:
        """Write the whole pipeline, with the scheduler that fits."""
        self.pipeline().save_pretrained(folder)

    def preview(self) -> list[tuple[str, np.ndarray]]:
        """Clips of a few fixed prompts."""
        prompts = [
            "a large red circle moves left on a black background",
            "a large blue square moves up on a white background",
            "a large yellow triangle moves right on a black background",
            "a medium purple star rotates on a gray background",
            "a large green ring bounces on a navy background",
            "a small orange cross moves down-right on a beige background",
        ]
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        frames = pipeline(prompts, seed=0, output_type="pt", return_dict=False)[0]
        return list(zip(prompts, (frames * 255).round().byte().numpy(), strict=True))

    def pipeline(self) -> TextToVideoPipeline:
        """The pipeline around the networks as they are now."""
        return TextToVideoPipeline(self.codec, self.text_encoder, self.denoiser, flow_scheduler())

    @staticmethod
    def _draw(generator: torch.Generator) -> tuple[float, float]:
        normal = torch.randn((), generator=generator).item()
        return normal, torch.rand((), generator=generator).item()
