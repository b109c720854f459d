"""Training of the recurrent generator of latent frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.models.rnn import RecurrentVAE3D
from videogen.pipelines.family_pipelines import RNNPipeline
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
class RNNObjectiveConfig(LatentObjectiveConfig):
    """Settings of `RNNObjective`, beside those of `LatentObjectiveConfig`.

    Attributes:
        hidden_size: Of the network.
        encoder_layers: Of the network.
        num_layers: Of the network.
        num_attention_heads: Of the network.
        state_size: Of the network.
        noise_dim: Of the network.
        conv_dim: Of the network.
        feedback_rate: Share of clips whose frames are predicted from predicted ones, as in generation; the
            others go on from the frames that are there, as when a clip is continued.
        least_std: See `negative_log_likelihood`.
        free_nats: Of a clip, see `with_free_bits`.
        warm_up_clips: See `warm_up`.
    """

    caption_dropout: float = 0.05
    hidden_size: int = 96
    encoder_layers: int = 1
    num_layers: int = 3
    num_attention_heads: int = 4
    state_size: int = 48
    noise_dim: int = 16
    conv_dim: int = 64
    feedback_rate: float = 0.5
    least_std: float = 0.1
    free_nats: float = 2.0
    warm_up_clips: int = 5_000

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        check_variational(self.least_std, self.free_nats, self.warm_up_clips)
        if not 0 <= self.feedback_rate <= 1:
            raise ValueError(f"`feedback_rate` must be between 0 and 1, got {self.feedback_rate}")

    def build(self) -> RNNObjective:
        """Make the objective."""
        codec = self.load_codec()
        network = RecurrentVAE3D(
            in_channels=codec.config["latent_channels"],
            hidden_size=self.hidden_size,
            encoder_layers=self.encoder_layers,
            num_layers=self.num_layers,
            num_attention_heads=self.num_attention_heads,
            cross_attention_dim=self.text_dim,
            state_size=self.state_size,
            noise_dim=self.noise_dim,
            conv_dim=self.conv_dim,
        )
        return RNNObjective(codec, self.make_text_encoder(), network, self)


class RNNObjective(LatentObjective):
    """The bound of SVG with a learned prior (Denton and Fergus 2018, arXiv:1802.07687, eq. 3).

    For each frame, the likelihood of the frame and the divergence of the posterior, which has seen it, from
    the prior, which has seen those before it. The paper weighs the divergence with a beta; here the
    likelihood has the deviation that is best for each clip, see `negative_log_likelihood`. Some clips are fed
    back their own predictions (Bengio et al. 2015, arXiv:1506.03099), or errors would grow from frame to
    frame. Both parts are divided by the numbers of a clip.
    """

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
        network: RecurrentVAE3D,
        config: RNNObjectiveConfig,
    ) -> None:
        super().__init__(codec, text_encoder, config)
        self.network = network
        self.settings = config

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, `mse`, and in nats `kl_first` of the first frame and `kl_later`."""
        settings = self.settings
        latents = self.latents(batch)
        generators = self.generators(batch)
        text = self.encode_captions(batch, draw_uniform(generators))
        draws = torch.tensor(draw_uniform(generators))
        output = self.network(
            latents,
            text.prompt_embeds,
            text.attention_mask,
            generators=generators,
            fed_back=(draws < settings.feedback_rate).to(latents.device),
        )
        errors = output.sample.float() - latents
        likelihood = negative_log_likelihood(errors, settings.least_std)
        divergence = with_free_bits(output.kl.sum(1), settings.free_nats)
        weights = warm_up(batch.sample_ids, settings.warm_up_clips).to(latents.device)
        loss = (likelihood + weights * divergence) / latents[0].numel()
        return {
            "loss": loss.mean(),
            "mse": errors.detach().square().mean(),
            "kl_first": output.kl[:, 0].detach().mean(),
            "kl_later": output.kl[:, 1:].detach().sum(1).mean(),
        }

    def pipeline(self) -> RNNPipeline:
        """The pipeline around the networks as they are now."""
        return RNNPipeline(self.codec, self.text_encoder, self.network, codec_hash=self.codec_hash)
