"""Tiny networks and pipelines of the families of generators, with random weights everywhere."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny import TINY_CODEC, randomise
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.shapes.captions import vocabulary
from videogen.models.dit import DiT3D
from videogen.models.gan import GANDiscriminator3D, GANGenerator3D
from videogen.models.rnn import RecurrentVAE3D
from videogen.models.transformer import MaskedTransformer3D
from videogen.models.vae import HierarchicalVAE3D
from videogen.pipelines.latent_generation import LatentGenerator
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.noise import seeded_generator
from videogen.text.encoder import TextEncoder

_SIZES: dict[str, Any] = {
    "in_channels": 4,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "cross_attention_dim": 16,
}
TINY: dict[type[nn.Module], dict[str, Any]] = {
    DiT3D: _SIZES | {"num_layers": 2},
    MaskedTransformer3D: _SIZES | {"num_layers": 2, "head_size": 16, "head_layers": 1},
    HierarchicalVAE3D: _SIZES | {"encoder_layers": 1, "num_layers": 3, "clip_dim": 4, "conv_dim": 8},
    RecurrentVAE3D: _SIZES
    | {"encoder_layers": 1, "num_layers": 1, "state_size": 8, "noise_dim": 4, "conv_dim": 8},
    GANGenerator3D: _SIZES | {"num_layers": 2, "noise_dim": 4, "conv_dim": 8},
    GANDiscriminator3D: {
        "in_channels": 4,
        "hidden_size": 16,
        "num_layers": 1,
        "cross_attention_dim": 16,
    },
}
FAMILY_NETWORKS: dict[str, Any] = {
    "gan": GANGenerator3D,
    "vae": HierarchicalVAE3D,
    "rnn": RecurrentVAE3D,
    "transformer": MaskedTransformer3D,
}
DEFAULTS: dict[str, Any] = {"num_frames": 8, "height": 16, "width": 24}


def make_network(kind: Any, **changes: Any) -> Any:
    """A tiny network, its config that of `TINY` but for the changes."""
    network = kind(**(TINY[kind] | changes))
    randomise(network)
    return network.eval()


def make_codec() -> VideoAutoencoder:
    vae = VideoAutoencoder(**TINY_CODEC)
    randomise(vae)
    return vae.eval()


def make_family_pipeline(kind: Any, **changes: Any) -> Any:
    """A pipeline or light generator of a family; `changes` replace its arguments."""
    text_encoder = TextEncoder(
        vocabulary(), hidden_size=16, num_layers=1, num_attention_heads=2, max_length=12
    )
    randomise(text_encoder)
    parts = {
        "vae": make_codec(),
        "text_encoder": text_encoder.eval(),
        "network": make_network(kind.network_class),
        "defaults": DEFAULTS,
    }
    return kind(**(parts | changes))


def latents_of(pipeline: LatentGenerator, *arguments: Any, **options: Any) -> Tensor:
    """The latents that a call of any family ends with."""
    call: Any = pipeline
    output = call(*arguments, output_type="latent", **options)
    assert isinstance(output, VideoPipelineOutput) and isinstance(output.frames, Tensor)
    return output.frames


def make_prompts(count: int = 2) -> tuple[Tensor, Tensor]:
    """Prompt embeddings `(count, 7, 16)` and a mask, in which the last prompt has three words."""
    prompts = torch.randn(count, 7, 16, generator=seeded_generator(1))
    mask = torch.ones(count, 7, dtype=torch.bool)
    mask[-1, 3:] = False
    return prompts, mask


def generators(*seeds: int) -> list[torch.Generator]:
    return [seeded_generator(seed) for seed in seeds]
