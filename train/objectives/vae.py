"""Training of the hierarchical variational autoencoder over latent clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.models.vae import GROUPS, HierarchicalVAE3D
from videogen.pipelines.family_pipelines import VAEPipeline
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder
from videogen.train.objectives.latents import LatentObjective, LatentObjectiveConfig, draw_uniform
from videogen.train.objectives.variational import (
    check_variational,
    negative_log_likelihood,
    warm_up,
    with_free_bits,
)


@dataclass(frozen=True)
class VAEObjectiveConfig(LatentObjectiveConfig):
    """Settings of `VAEObjective`, beside those of `LatentObjectiveConfig`.

    Attributes:
        hidden_size: Of the network.
        encoder_layers: Of the network.
        num_layers: Of the network.
        num_attention_heads: Of the network.
        clip_dim: Of the network.
        frame_dim: Of the network.
        token_dim: Of the network.
        conv_dim: Of the network.
        least_std: See `negative_log_likelihood`.
        group_weights: Weights of the divergences of `GROUPS`. A prior draws each frame by itself, and each
            token, so what is to agree between them has to be said before; reconstruction alone would say it
            in the tokens, where it is learned soonest.
        free_nats: Of each group, see `with_free_bits`.
        warm_up_clips: See `warm_up`.
    """

    caption_dropout: float = 0.05
    hidden_size: int = 96
    encoder_layers: int = 2
    num_layers: int = 5
    num_attention_heads: int = 4
    clip_dim: int = 24
    frame_dim: int = 8
    token_dim: int = 4
    conv_dim: int = 64
    least_std: float = 0.1
    group_weights: tuple[float, float, float] = (1.0, 20.0, 100.0)
    free_nats: float = 2.0
    warm_up_clips: int = 5_000

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        check_variational(self.least_std, self.free_nats, self.warm_up_clips)
        if len(self.group_weights) != len(GROUPS) or min(self.group_weights) < 0:
            raise ValueError(
                f"`group_weights` must be {len(GROUPS)} numbers of at least 0, got {self.group_weights}"
            )

    def build(self) -> VAEObjective:
        """Make the objective."""
        codec = self.load_codec()
        network = HierarchicalVAE3D(
            in_channels=codec.config["latent_channels"],
            hidden_size=self.hidden_size,
            encoder_layers=self.encoder_layers,
            num_layers=self.num_layers,
            num_attention_heads=self.num_attention_heads,
            cross_attention_dim=self.text_dim,
            clip_dim=self.clip_dim,
            frame_dim=self.frame_dim,
            token_dim=self.token_dim,
            conv_dim=self.conv_dim,
        )
        return VAEObjective(codec, self.make_text_encoder(), network, self)


class VAEObjective(LatentObjective):
    """The evidence lower bound of a hierarchical VAE (NVAE, Vahdat and Kautz 2020, arXiv:2007.03898, eq. 1).

    Likelihood: a normal distribution of the best deviation, see `negative_log_likelihood`. Divergence: of
    each group's posterior from its prior, which knows the caption and the groups before; with free bits, and
    balanced while it warms up (NVAE, appendix A): the weight of a group is then in proportion to its
    divergence, so that no group is given up before it is of use. Both are divided by the numbers of a clip.
    """

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
        network: HierarchicalVAE3D,
        config: VAEObjectiveConfig,
    ) -> None:
        super().__init__(codec, text_encoder, config)
        self.network = network
        self.settings = config

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, `mse` of reconstructions, and `kl_clip`, ... of each group in nats."""
        settings = self.settings
        latents = self.latents(batch)
        generators = self.generators(batch)
        text = self.encode_captions(batch, draw_uniform(generators))
        output = self.network(latents, text.prompt_embeds, text.attention_mask, generators=generators)
        errors = output.sample.float() - latents
        likelihood = negative_log_likelihood(errors, settings.least_std)
        divergences = torch.stack([output.kl[group] for group in GROUPS])  # (groups, B)
        weights = warm_up(batch.sample_ids, settings.warm_up_clips).to(latents.device)
        costs = divergences.new_tensor(settings.group_weights)[:, None] * with_free_bits(
            divergences, settings.free_nats
        )
        shares = costs.detach() + 1e-3
        balance = torch.where(weights < 1, shares / shares.mean(0), torch.ones_like(shares))
        divergence = (balance * costs).sum(0)
        loss = (likelihood + weights * divergence) / latents[0].numel()
        logged = {f"kl_{group}": value.detach().mean() for group, value in output.kl.items()}
        return {"loss": loss.mean(), "mse": errors.detach().square().mean(), **logged}

    def pipeline(self) -> VAEPipeline:
        """The pipeline around the networks as they are now."""
        return VAEPipeline(self.codec, self.text_encoder, self.network, codec_hash=self.codec_hash)
