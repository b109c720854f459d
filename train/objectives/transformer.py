"""Training of the masked Transformer over the tokens of latent clips."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.models.transformer import MaskedTransformer3D
from videogen.models.transformer_layers import patchify
from videogen.pipelines.family_pipelines import TransformerPipeline
from videogen.sampling.noise import sample_noise
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder
from videogen.train.objectives.latents import LatentObjective, LatentObjectiveConfig, draw_uniform
from videogen.train.objectives.noise_process import FlowProcess


@dataclass(frozen=True)
class TransformerObjectiveConfig(LatentObjectiveConfig):
    """Settings of `TransformerObjective`, beside those of `LatentObjectiveConfig`.

    Attributes:
        hidden_size: Of the network.
        num_layers: Of the network.
        num_attention_heads: Of the network.
        head_size: Of the network.
        head_layers: Of the network.
        token_convs: Of the network.
        draws_per_token: Times and noises that the head is trained on for each token: cheap beside the
            Transformer, which they share.
        time_mean: Mean of the logit of the time of the head's flow.
        time_std: Its standard deviation.
    """

    hidden_size: int = 128
    num_layers: int = 4
    num_attention_heads: int = 4
    head_size: int = 128
    head_layers: int = 3
    token_convs: bool = True
    draws_per_token: int = 2
    time_mean: float = 0.8
    time_std: float = 1.6

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        if self.draws_per_token < 1:
            raise ValueError(f"`draws_per_token` must be at least 1, got {self.draws_per_token}")

    def build(self) -> TransformerObjective:
        """Make the objective."""
        codec = self.load_codec()
        network = MaskedTransformer3D(
            in_channels=codec.config["latent_channels"],
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_attention_heads=self.num_attention_heads,
            cross_attention_dim=self.text_dim,
            head_size=self.head_size,
            head_layers=self.head_layers,
            token_convs=self.token_convs,
        )
        return TransformerObjective(codec, self.make_text_encoder(), network, self)


class TransformerObjective(LatentObjective):
    """Masked generation of continuous tokens (MAR, Li et al. 2024, arXiv:2406.11838, eq. 3 and section 3.2).

    A share `cos(pi u / 2)` of the tokens is hidden, u uniform (MaskGIT, Chang et al. 2022, arXiv:2202.04200,
    section 3.2); the head learns the distribution of each hidden token, given the others. In place of MAR's
    diffusion loss it is flow matching on straight paths, as of the denoisers.
    """

    # Starts at zero, like the last layer of a denoiser.
    adamw_scales: Mapping[str, float] = {"network.head.proj_out": 0.3}

    def __init__(
        self,
        codec: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
        network: MaskedTransformer3D,
        config: TransformerObjectiveConfig,
    ) -> None:
        super().__init__(codec, text_encoder, config)
        self.network = network
        self.settings = config

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, and `loss_hidden`, that of clips of which hardly anything is seen."""
        settings = self.settings
        latents = self.latents(batch)
        tokens = patchify(latents)[0]  # (B, N, T)
        num_tokens, token_dim = tokens.shape[1:]
        generators = self.generators(batch)
        text = self.encode_captions(batch, draw_uniform(generators))
        hidden = torch.stack([hidden_tokens(num_tokens, generator) for generator in generators])
        shape = (settings.draws_per_token, num_tokens, token_dim)
        noise = sample_noise(shape, generators).to(tokens)  # (B, R, N, T)
        normal = sample_noise(shape[:2], generators).to(tokens)
        process = FlowProcess(settings.time_mean, settings.time_std)
        times = process.times(normal)  # (B, R, N)

        hidden = hidden.to(tokens.device)
        prompts = (text.prompt_embeds, text.attention_mask)
        context = self.network(latents, ~hidden, *prompts, return_dict=False)[0]
        clips, draws, places = hidden[:, None].expand_as(times).nonzero(as_tuple=True)
        chosen = clips, draws, places
        noisy = process.add_noise(tokens[clips, places], noise[chosen], times[chosen])
        velocity = self.network.head(noisy.sample, noisy.levels, context[clips, places])
        errors = (velocity.float() - noisy.target).square().mean(1)
        counts = settings.draws_per_token * hidden.sum(1)
        errors = errors.new_zeros(len(latents)).index_add(0, clips, errors) / counts
        mostly = hidden.float().mean(1) > 0.9
        loss_hidden = (errors.detach() * mostly).sum() / mostly.sum().clamp(min=1)
        return {"loss": errors.mean(), "loss_hidden": loss_hidden}

    def pipeline(self) -> TransformerPipeline:
        """The pipeline around the networks as they are now."""
        return TransformerPipeline(self.codec, self.text_encoder, self.network, codec_hash=self.codec_hash)


def hidden_tokens(num_tokens: int, generator: torch.Generator) -> Tensor:
    """`(num_tokens,)` bool, True for the tokens of a clip that are hidden: one at least, in random places."""
    share = math.cos(math.pi / 2 * torch.rand((), generator=generator).item())
    ranks = torch.randperm(num_tokens, generator=generator)
    return ranks < max(1, math.ceil(share * num_tokens))
