"""Adversarial training of the generator of latent clips, with a discriminator of its own and two phases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.models.gan import GANDiscriminator3D, GANGenerator3D
from videogen.models.text_context import TextContext
from videogen.pipelines.family_pipelines import GANPipeline
from videogen.sampling.noise import sample_noise
from videogen.text.contract import EncodedText
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder
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
        gamma: Weight of the gradient penalties, at first and in the end.
        penalty_rate: Share of a batch that they are computed on.
        contrast_weight: Weight of telling captions apart, of both phases, at first and in the end.
        anneal_clips: The first and the last clip of the stream between which `gamma` and `contrast_weight`
            go from the one to the other.
        coverage_weight: Weight of the distance from real clips to the nearest clips of the generator.
        num_candidates: Clips that the nearest one is chosen from.
    """

    caption_dropout: float = 0.0
    text_rate: float = 0.3
    noise_dim: int = 32
    hidden_size: int = 128
    num_layers: int = 4
    num_attention_heads: int = 4
    conv_dim: int = 64
    discriminator_size: int = 128
    discriminator_layers: int = 3
    gamma: tuple[float, float] = (10.0, 0.3)
    penalty_rate: float = 0.25
    contrast_weight: tuple[float, float] = (1.0, 0.3)
    anneal_clips: tuple[int, int] = (30_000, 45_000)
    coverage_weight: float = 2.0
    num_candidates: int = 4

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        for name in ("gamma", "contrast_weight"):
            value = getattr(self, name)
            if len(value) != 2 or not all(0 <= weight < math.inf for weight in value):
                raise ValueError(f"`{name}` must be two numbers of at least 0, got {value}")
        if len(self.anneal_clips) != 2 or not 0 <= self.anneal_clips[0] <= self.anneal_clips[1]:
            raise ValueError(f"`anneal_clips` must be two places in order, got {self.anneal_clips}")
        if not 0 <= self.coverage_weight < math.inf:
            raise ValueError(f"`coverage_weight` must be at least 0, got {self.coverage_weight}")
        if self.num_candidates < 1:
            raise ValueError(f"`num_candidates` must be at least 1, got {self.num_candidates}")
        if not 0 < self.penalty_rate <= 1:
            raise ValueError(f"`penalty_rate` must be above 0 and at most 1, got {self.penalty_rate}")

    def stretched(self, share: float) -> GANObjectiveConfig:
        """For a longer or shorter run: the weights fall at the same share of it."""
        first, last = (round(place * share) for place in self.anneal_clips)
        return replace(self, anneal_clips=(first, last))

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

    That every real clip can be made, a third loss of the generator makes sure (implicit maximum likelihood,
    Li and Malik 2018, arXiv:1809.09087, eq. 1; beside a discriminator, Yu et al. 2020, arXiv:2004.03355): of
    a few clips from the real one's caption the nearest is drawn towards it. Without it the generator comes to
    ignore its noise. `gamma` falls as in R3GAN: a flat D teaches what is asked for, a sharp one how it looks.
    """

    phases = ("discriminator", "generator")
    # Not Muon for the generator: its steps have one size whatever D says, and drive the clips out of range.
    adamw_scales: Mapping[str, float] = {"generator": 1.0}
    adam_betas = (0.0, 0.99)  # without momentum, as in R3GAN

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
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
        noises = sample_noise((self.settings.num_candidates, self.settings.noise_dim), generators).to(real)
        text = self.encode_captions(batch, draws)
        with torch.set_grad_enabled(phase == "generator"):
            context = self.generator.text_context(text.prompt_embeds, text.attention_mask)
            noise = noises[:, 0]
            if phase == "generator" and self.settings.coverage_weight:
                noise = self._nearest(real, noises, context)
            fake = self._generate(noise, real, context)
        captions = self._discriminator_text(batch, draws)
        if phase == "generator":
            return self._generator_loss(batch, real, fake, captions.detach())
        return self._discriminator_loss(batch, real, fake, captions)

    def _generate(self, noise: Tensor, real: Tensor, text: TextContext) -> Tensor:
        """Clips `(B, C, f, h, w)` float32 of the size of real ones."""
        size = (real.shape[2], real.shape[3], real.shape[4])
        return self.generator(noise, size, text, return_dict=False)[0].float()

    @torch.no_grad()
    def _nearest(self, real: Tensor, noises: Tensor, text: TextContext) -> Tensor:
        """Of each clip's candidates `(B, K, noise_dim)` the one whose clip is nearest to the real one."""
        clips = [self._generate(noise, real, text) for noise in noises.unbind(1)]
        distances = torch.stack([(clip - real).square().mean((1, 2, 3, 4)) for clip in clips], dim=1)
        return noises[torch.arange(len(noises)), distances.argmin(1)]

    def _generator_loss(
        self, batch: Batch, real: Tensor, fake: Tensor, captions: Tensor
    ) -> dict[str, Tensor]:
        discriminator = self.discriminator
        with torch.no_grad():
            real_scores = discriminator(real, captions, return_dict=False)[0].float()
        with _frozen(discriminator):
            features = discriminator.features(fake)
            fake_scores = discriminator.scores(features, captions).float()
            contrast = self._contrast(batch, features, captions)
        adversarial = F.softplus(real_scores - fake_scores).mean()
        coverage = (fake - real).square().mean()
        return {
            "loss": adversarial
            + self._annealed(self.settings.contrast_weight, batch) * contrast
            + self.settings.coverage_weight * coverage,
            "adversarial": adversarial.detach(),
            "contrast": contrast.detach(),
            "coverage": coverage.detach(),
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
            "loss": adversarial
            + self._annealed(settings.contrast_weight, batch) * contrast
            + self._annealed(settings.gamma, batch) / 2 * penalty,
            "adversarial": adversarial.detach(),
            "contrast": contrast.detach(),
            "penalty": penalty.detach(),
            "right": (real_scores > fake_scores).float().mean(),
        }

    def _annealed(self, weight: tuple[float, float], batch: Batch) -> float:
        """A weight at the place of a batch in the stream, on a geometric way from first to last.

        By its place and nothing else, a resumed run has the weights of one that was never stopped.
        """
        first, last = self.settings.anneal_clips
        share = min(max((batch.sample_ids[0] - first) / max(last - first, 1), 0.0), 1.0)
        return weight[0] ** (1 - share) * weight[1] ** share

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
            scores = self.discriminator(points, captions.detach().float(), return_dict=False)[0]
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
