"""Adversarial training of the generator of latent clips, with a discriminator of its own and two phases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.models.gan import GANDiscriminator3D, GANGenerator3D
from videogen.pipelines.family_pipelines import GANPipeline
from videogen.sampling.noise import sample_noise
from videogen.text.contract import EncodedText
from videogen.text.encoder import TextEncoder
from videogen.train.objectives.latents import LatentObjective, LatentObjectiveConfig, draw_uniform


@dataclass(frozen=True)
class GANObjectiveConfig(LatentObjectiveConfig):
    """Settings of `GANObjective`, beside those of `LatentObjectiveConfig`.

    Attributes:
        noise_dim: Of the generator.
        hidden_size: Of the generator.
        num_layers: Of the generator.
        num_attention_heads: Of the generator.
        conv_dim: Of the generator.
        discriminator_size: The `hidden_size` of the discriminator.
        discriminator_layers: Its `num_layers`.
        gamma: Weight of the gradient penalties.
        penalty_rate: Share of a batch that they are computed on.
        contrast_weight: Weight of telling captions apart, of both phases.
    """

    caption_dropout: float = 0.0
    noise_dim: int = 32
    hidden_size: int = 128
    num_layers: int = 4
    num_attention_heads: int = 4
    conv_dim: int = 64
    discriminator_size: int = 128
    discriminator_layers: int = 3
    gamma: float = 10.0
    penalty_rate: float = 0.25
    contrast_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("gamma", "contrast_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}")
        if not 0 < self.penalty_rate <= 1:
            raise ValueError(f"`penalty_rate` must be above 0 and at most 1, got {self.penalty_rate}")

    def build(self) -> GANObjective:
        """Make the objective."""
        codec = self.load_codec()
        channels = codec.config["latent_channels"]
        generator = GANGenerator3D(
            in_channels=channels,
            noise_dim=self.noise_dim,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_attention_heads=self.num_attention_heads,
            cross_attention_dim=self.text_dim,
            conv_dim=self.conv_dim,
        )
        discriminator = GANDiscriminator3D(
            in_channels=channels,
            hidden_size=self.discriminator_size,
            num_layers=self.discriminator_layers,
            cross_attention_dim=self.text_dim,
        )
        return GANObjective(codec, self.make_text_encoder(), generator, discriminator, self)


class GANObjective(LatentObjective):
    """The relativistic pairing GAN with two gradient penalties (R3GAN, Huang et al. 2024, arXiv:2501.05441).

    Phase `discriminator` minimises `softplus(-(D(real) - D(fake)))` (eq. 2, with f the logistic loss), plus
    `gamma / 2` times the squared gradients of D at real and at generated clips (eq. 4 and 5). Phase
    `generator` minimises the same with real and fake exchanged. D sees the caption; that it must, a contrast
    makes sure (XMC-GAN, Zhang et al. 2021, arXiv:2101.04702): among the captions of the batch D has to
    find that of a real clip, and the generator's clips are to be found by theirs. Against a single wrong
    caption, which most often differs in colour, D never learned to see motion. The rivals are those of a
    process's part of the batch. D has a text encoder of its own, which is not saved with the pipeline.
    """

    phases = ("discriminator", "generator")
    # Not Muon for the generator: its steps have one size whatever D says, and drive the clips out of range.
    adamw_scales: ClassVar[Mapping[str, float]] = {"generator": 1.0, "text_encoder": 0.3}
    adam_betas = (0.0, 0.99)  # without momentum, as in R3GAN

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder,
        generator: GANGenerator3D,
        discriminator: GANDiscriminator3D,
        config: GANObjectiveConfig,
    ) -> None:
        super().__init__(codec, text_encoder, config)
        self.generator = generator
        self.discriminator = discriminator
        self.discriminator_text_encoder = config.make_text_encoder()
        self.settings = config
        self._encoded: tuple[Batch, Tensor] | None = None

    def trained_parameters(self, phase: str) -> list[tuple[str, nn.Parameter]]:
        """Of the discriminator with its text encoder, or of the generator with the one that is saved."""
        return [
            (name, parameter)
            for name, parameter in super().trained_parameters(phase)
            if name.startswith("discriminator") == (phase == "discriminator")
        ]

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of one phase: `loss`; of the discriminator also its parts, and how often it is right."""
        real = self._latents_of(batch)
        generators = self.generators(batch)
        draws = draw_uniform(generators)
        noise = sample_noise((self.settings.noise_dim,), generators).to(real)
        text = self.encode_captions(batch, draws)
        size = (real.shape[2], real.shape[3], real.shape[4])
        if phase == "generator":
            fake = self.generator(noise, size, text.prompt_embeds, text.attention_mask).float()
            return self._generator_loss(batch, real, fake, self._discriminator_text(batch, draws).detach())
        with torch.no_grad():
            fake = self.generator(noise, size, text.prompt_embeds, text.attention_mask).float()
        return self._discriminator_loss(batch, real, fake, self._discriminator_text(batch, draws))

    def _generator_loss(
        self, batch: Batch, real: Tensor, fake: Tensor, captions: Tensor
    ) -> dict[str, Tensor]:
        discriminator = self.discriminator
        with torch.no_grad():
            real_scores = discriminator(real, captions).float()
        with _frozen(discriminator):
            features = discriminator.features(fake)
            fake_scores = discriminator.scores(features, captions).float()
            contrast = self._contrast(batch, features, captions)
        adversarial = F.softplus(real_scores - fake_scores).mean()
        return {
            "loss": adversarial + self.settings.contrast_weight * contrast,
            "adversarial": adversarial.detach(),
            "contrast": contrast.detach(),
        }

    def _discriminator_loss(
        self, batch: Batch, real: Tensor, fake: Tensor, captions: Tensor
    ) -> dict[str, Tensor]:
        settings, discriminator = self.settings, self.discriminator
        features = discriminator.features(torch.cat([real, fake]))
        real_features, fake_features = features.chunk(2)
        real_scores = discriminator.scores(real_features, captions).float()
        fake_scores = discriminator.scores(fake_features, captions).float()
        adversarial = F.softplus(fake_scores - real_scores).mean()
        contrast = self._contrast(batch, real_features, captions)
        count = math.ceil(settings.penalty_rate * len(real))
        penalty = self._penalty(real[:count], captions[:count]) + self._penalty(
            fake[:count], captions[:count]
        )
        return {
            "loss": adversarial + settings.contrast_weight * contrast + settings.gamma / 2 * penalty,
            "adversarial": adversarial.detach(),
            "contrast": contrast.detach(),
            "penalty": penalty.detach(),
            "right": (real_scores > fake_scores).float().mean(),
        }

    def _contrast(self, batch: Batch, features: Tensor, captions: Tensor) -> Tensor:
        """Cross-entropy of finding captions by clips and clips by captions; equal captions are no rivals."""
        agreement = self.discriminator.agreement(features, captions).float()
        equal = torch.tensor([[one == other for other in batch.captions] for one in batch.captions])
        equal = equal.fill_diagonal_(False).to(agreement.device)
        agreement = agreement.masked_fill(equal, -math.inf)
        own = torch.arange(len(agreement), device=agreement.device)
        return (F.cross_entropy(agreement, own) + F.cross_entropy(agreement.T, own)) / 2

    def _penalty(self, latents: Tensor, captions: Tensor) -> Tensor:
        """The mean squared norm of the gradient of the scores at latents, in float32."""
        with torch.autocast(latents.device.type, enabled=False):
            points = latents.detach().requires_grad_()
            scores = self.discriminator(points, captions.detach().float())
            (gradients,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
        return gradients.square().sum((1, 2, 3, 4)).mean()

    def _latents_of(self, batch: Batch) -> Tensor:
        """Latents of a batch, encoded once for both phases."""
        if self._encoded is None or self._encoded[0] is not batch:
            self._encoded = batch, self.latents(batch)
        return self._encoded[1]

    def _discriminator_text(self, batch: Batch, draws: list[float]) -> Tensor:
        """What the discriminator knows of each caption: `(B, D)`, the mean over its words."""
        encoded: EncodedText = self.discriminator_text_encoder.encode(self.kept_captions(batch, draws))
        weights = encoded.attention_mask[..., None].to(encoded.prompt_embeds.dtype)
        return (encoded.prompt_embeds * weights).sum(1) / weights.sum(1)

    def pipeline(self) -> GANPipeline:
        """The pipeline around the networks as they are now."""
        return GANPipeline(self.codec, self.text_encoder, self.generator, codec_hash=self.codec_hash)


@contextmanager
def _frozen(network: GANDiscriminator3D) -> Iterator[None]:
    """Within, gradients pass through a network and cost nothing for its weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
