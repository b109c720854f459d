"""Training of text-conditioned denoisers over a noise process, in the latents of a frozen codec."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import Codec
from videogen.conditioning.condition import make_condition, num_condition_channels
from videogen.conditioning.masks import draw_masks
from videogen.data.batch import Batch
from videogen.models.dit import DiT3D
from videogen.models.growing import grown
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.sampling.noise import sample_noise
from videogen.sampling.schedulers import flow_scheduler
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder
from videogen.train.objectives.base import check_result
from videogen.train.objectives.latents import (
    LatentObjective,
    LatentObjectiveConfig,
    TreatmentConfig,
    draw_uniform,
    read_text_encoder,
)
from videogen.train.objectives.noise_process import FlowProcess, NoiseProcess, NoisyLatents
from videogen.train.objectives.word_attention import LAST_TIME, attention_losses, find_regions

Denoiser = UViT3D | UNet3D | DiT3D


@dataclass(frozen=True)
class UViTConfig:
    """Sizes of a `UViT3D`."""

    conv_dim: int = 128
    num_conv_blocks: int = 2
    hidden_size: int = 256
    num_layers: int = 6
    num_attention_heads: int = 4
    token_convs: bool = False
    step_size_embedding: bool = False

    def build(self, in_channels: int, cross_attention_dim: int, condition_channels: int = 0) -> Denoiser:
        """Make the network."""
        return UViT3D(
            in_channels=in_channels,
            cross_attention_dim=cross_attention_dim,
            condition_channels=condition_channels,
            **dataclasses.asdict(self),
        )


@dataclass(frozen=True)
class UNet3DConfig:
    """Sizes of a `UNet3D` with two resolutions, attention at both: as large as the default `UViTConfig`."""

    block_out_channels: tuple[int, int] = (64, 128)
    layers_per_block: int = 1
    attention_head_dim: int = 32
    step_size_embedding: bool = False

    def build(self, in_channels: int, cross_attention_dim: int, condition_channels: int = 0) -> Denoiser:
        """Make the network."""
        return UNet3D(
            in_channels=in_channels,
            out_channels=in_channels,
            down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
            up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
            cross_attention_dim=cross_attention_dim,
            condition_channels=condition_channels,
            **dataclasses.asdict(self),
        )


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a `DiT3D`, in all as large as the default `UViTConfig`."""

    hidden_size: int = 256
    num_layers: int = 6
    num_attention_heads: int = 4
    token_convs: bool = False
    step_size_embedding: bool = False

    def build(self, in_channels: int, cross_attention_dim: int, condition_channels: int = 0) -> Denoiser:
        """Make the network."""
        return DiT3D(
            in_channels=in_channels,
            cross_attention_dim=cross_attention_dim,
            condition_channels=condition_channels,
            **dataclasses.asdict(self),
        )


DenoiserConfig = UViTConfig | UNet3DConfig | DiTConfig
_DENOISERS: dict[type, type[Denoiser]] = {UViTConfig: UViT3D, UNet3DConfig: UNet3D, DiTConfig: DiT3D}


@dataclass(frozen=True)
class DenoisingConfig(TreatmentConfig):
    """Settings of any `DiffusionObjective`, beside those of `TreatmentConfig`.

    Attributes:
        time_mean: Mean of the logit of the diffusion time. Above 0 it favours noisy latents, where it is
            decided what is in a clip and where it goes: the cells of a latent say much the same, so that a
            place can be read from them up to t = 0.95.
        time_std: Standard deviation of that logit.
        condition_rate: Share of clips of which pixels are known as `draw_masks` has it (of nearly a third of
            them none). Above 0 the clips must have pixels, and a network without channels for conditions is
            given them.
        condition_dropout: Share of the conditions that are left out, for a guidance scale of their own beside
            that of the caption (Brooks et al. 2022, arXiv:2211.09800, section 3.2.1).
        attention_weight: Weight of a loss that keeps the attention of an object's words on the pixels that
            show it; see `attention_losses`. 0 leaves it out. Above 0 the network must be a `UViT3D` and the
            clips annotated.
        attention_layers: Indices of the blocks of the network whose attention it is; all of them if empty.
    """

    time_mean: float = 1.2
    time_std: float = 1.8
    condition_rate: float = 0.0
    condition_dropout: float = 0.1
    attention_weight: float = 0.0
    attention_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        if not math.isfinite(self.time_mean):
            raise ValueError(f"`time_mean` must be a number, got {self.time_mean}")
        if not 0 <= self.time_std < math.inf:
            raise ValueError(f"`time_std` must be at least 0, got {self.time_std}")
        for name in ("condition_rate", "condition_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.attention_weight < math.inf:
            raise ValueError(f"`attention_weight` must be at least 0, got {self.attention_weight}")

    def condition_channels(self, latent_channels: int, codec: Codec) -> int:
        """Channels for conditions that a denoiser of latents of this codec needs; 0 where there are none."""
        return num_condition_channels(latent_channels, codec) if self.condition_rate else 0

    def check_attention(self, denoiser: Denoiser) -> None:
        """Raise ValueError unless a denoiser gives the attention that is to be trained."""
        if self.attention_weight and not isinstance(denoiser, UViT3D):
            raise ValueError(
                f"`attention_weight` must be 0 for a {type(denoiser).__name__}, got {self.attention_weight}: "
                "of all networks a UViT3D alone gives its attention to words"
            )
        num_layers = denoiser.config.get("num_layers", 0)
        if any(not 0 <= layer < num_layers for layer in self.attention_layers):
            raise ValueError(
                f"`attention_layers` must be between 0 and {num_layers - 1} for this network, "
                f"got {self.attention_layers}"
            )


@dataclass(frozen=True)
class DiffusionObjectiveConfig(DenoisingConfig, LatentObjectiveConfig):
    """Settings of flow matching with a new denoiser, beside those of the two it extends.

    Attributes:
        network: Sizes of the denoiser, and which one.
        init_from: Folder of a pipeline whose denoiser is the start, and whose text encoder is unless
            `text_encoder` names another; None for a fresh one.
            Its denoiser keeps its own sizes, and gets `token_convs` and `step_size_embedding` if the network
            has them, and channels for conditions if there are any. The clips may be longer or larger than
            those that it has learned from.
    """

    network: DenoiserConfig = UViTConfig()
    init_from: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        if self.attention_weight and not isinstance(self.network, UViTConfig):
            raise ValueError(
                f"`attention_weight` must be 0 for a {type(self.network).__name__}, got "
                f"{self.attention_weight}: of all networks a UViT3D alone gives its attention to words"
            )

    def build(self) -> DiffusionObjective:
        """Make the objective: the frozen codec, and a new or given denoiser and text encoder.

        Raises:
            ValueError: If `codec`, `init_from` or `text_encoder` is not there or does not fit, or the
                denoiser of `init_from` takes conditions of another number of channels, or has not as many
                blocks as `attention_layers` names.
        """
        check_result("init_from", self.init_from)
        codec = self.load_codec()
        if self.init_from is not None and self.text_encoder is None:
            text_encoder = read_text_encoder(Path(self.init_from) / "text_encoder")
        else:
            text_encoder = self.make_text_encoder()
        latent_channels = int(codec.config["latent_channels"])
        channels = self.condition_channels(latent_channels, codec)
        if self.init_from is not None:
            kind = _DENOISERS[type(self.network)]
            denoiser = kind.from_pretrained(self.init_from, subfolder="unet")
            parts = {
                "token_convs": not isinstance(self.network, UNet3DConfig) and self.network.token_convs,
                "condition_channels": channels,
                "step_size_embedding": self.network.step_size_embedding,
            }
            asked = {name: value for name, value in parts.items() if value}
            if asked:
                denoiser = grown(denoiser, **asked)
        else:
            denoiser = self.network.build(latent_channels, self.text_dim, channels)
        return DiffusionObjective(codec, text_encoder, denoiser, self)


class DiffusionObjective(LatentObjective):
    """A denoiser learns to undo a noise process: by default flow matching on straight paths, `FlowProcess`.

    Args:
        codec: Frozen here.
        text_encoder: Trained, unless `text_rate` is 0.
        denoiser: Trained.
        config: Settings.
        process: Puts noise on the latents; None for flow matching at the times of `config`.

    Raises:
        ValueError: If attention is to be trained that the denoiser does not give.
    """

    # The last layer starts at zero, where steps of full size on a noisy gradient throw the first ones off.
    adamw_scales: Mapping[str, float] = {"denoiser.conv_out": 0.3, "denoiser.proj_latents": 0.3}

    settings: DenoisingConfig

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
        denoiser: Denoiser,
        config: DenoisingConfig,
        process: NoiseProcess | None = None,
    ) -> None:
        super().__init__(codec, text_encoder, config)
        config.check_attention(denoiser)
        self.denoiser = denoiser
        self.settings = config
        self.process = process or FlowProcess(config.time_mean, config.time_std)
        if not config.condition_rate:
            # No clip says anything about these weights, so nothing would stand against their decay.
            self.undecayed = ("conv_condition", "proj_condition")

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, and those of `logged`.

        Where there are conditions, also that of the cells of latents that are known, `loss_known`. With an
        `attention_weight`, `loss_attention` before it is weighted, of the clips that have one.

        Raises:
            ValueError: If there are to be conditions, and the batch has no pixels to make them of, or the
                attention is to be trained, and the batch is not annotated.
        """
        settings = self.settings
        latents = self.latents(batch)
        generators = self.generators(batch)
        times = self.process.draw_times(generators)
        draws = draw_uniform(generators)
        text = self.encode_captions(batch, draws)
        noise = self.draw_noise(latents.shape[1:], generators).to(latents)
        condition = None
        if settings.condition_rate:
            condition = self._draw_conditions(batch, generators).to(latents)

        noisy = self.process.add_noise(latents, noise, times)
        asked = {"output_attentions": True} if settings.attention_weight else {}
        model_pred, *attentions = self.denoiser(
            noisy.sample,
            noisy.timesteps,
            text.prompt_embeds,
            text.attention_mask,
            return_dict=False,
            condition=condition,
            **asked,
        )
        squares = (model_pred.float() - noisy.target).square()
        errors = squares.mean((1, 2, 3, 4))
        losses = {"loss": (noisy.weights * errors).mean(), **self.logged(errors.detach(), noisy)}
        if condition is not None:
            known = (condition[:, latents.shape[1] :] == 1).all(1)  # (B, f, h, w)
            losses["loss_known"] = (squares.detach().mean(1) * known).sum() / known.sum().clamp(min=1)
        if attentions:
            captions = self.kept_captions(batch, draws)
            found, counted = self._attention_losses(batch, captions, attentions[0], noisy.levels)
            losses["loss"] = losses["loss"] + settings.attention_weight * found.mean()
            losses["loss_attention"] = found.detach().sum() / counted.sum().clamp(min=1)
        return losses

    def draw_noise(self, shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """Noise `(B, C, f, h, w)` for latents of this shape `(C, f, h, w)`, one clip from each generator."""
        return sample_noise(shape, generators)

    def logged(self, errors: Tensor, noisy: NoisyLatents) -> dict[str, Tensor]:
        """What is logged of the errors `(B,)` of clips: `loss_noisy`, the mean where noise is above 0.8."""
        high = noisy.levels > 0.8
        return {"loss_noisy": (errors * high).sum() / high.sum().clamp(min=1)}

    def _attention_losses(
        self, batch: Batch, captions: Sequence[str], attentions: Sequence[Tensor], levels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`attention_losses` of the chosen blocks, for clips that are not too noisy."""
        num_words = attentions[0].shape[-1]
        compression = self.codec_contract.compression
        regions = find_regions(batch, captions, self.text_encoder.tokenizer, num_words, compression)
        layers = self.settings.attention_layers or range(len(attentions))
        losses, counted = attention_losses([attentions[layer] for layer in layers], regions)
        early = levels <= LAST_TIME
        return losses * early, counted & early

    @torch.no_grad()
    def _draw_conditions(self, batch: Batch, generators: Sequence[torch.Generator]) -> Tensor:
        """What is known of each clip, `(B, C + t, f, h, w)`: zeros where it is to have no condition."""
        if batch.pixels_or_none is None:
            raise ValueError(
                f"`condition_rate` must be 0 for cached latents, got {self.settings.condition_rate}: they "
                "have no pixels of which some could be known; train on a source of pixels"
            )
        codec = self.codec_contract
        kept_rate = self.settings.condition_rate * (1 - self.settings.condition_dropout)
        num_frames, height, width = batch.pixels.shape[2:]
        masks = draw_masks((num_frames, height, width), generators)
        kept = torch.tensor(draw_uniform(generators)) < kept_rate
        masks = masks * kept[:, None, None, None, None]
        return make_condition(codec, batch.pixels.to(codec.dtype), masks)

    def pipeline(self) -> TextToVideoPipeline:
        """The pipeline around the networks as they are now, with the scheduler that fits."""
        return TextToVideoPipeline(
            self.codec, self.text_encoder, self.denoiser, flow_scheduler(), codec_hash=self.codec_hash
        )
