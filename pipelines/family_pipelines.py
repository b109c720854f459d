"""The families of generators as diffusers pipelines: each is its light generator with saving and loading."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import codec_hash as hash_of
from videogen.pipelines.diffusers_pipeline import LatentPipeline
from videogen.pipelines.gan import GANTextToVideo
from videogen.pipelines.network_generation import NetworkGenerator
from videogen.pipelines.rnn import RNNTextToVideo
from videogen.pipelines.transformer import TransformerTextToVideo
from videogen.pipelines.vae import VAETextToVideo
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder


class NetworkPipeline(LatentPipeline, NetworkGenerator):
    """A `NetworkGenerator` as a diffusers pipeline; see there for the arguments.

    `codec_hash` is that of `vae` if it is not given; it is saved, and compared when the pipeline is loaded.
    """

    vae: VideoAutoencoder
    text_encoder: TextEncoder | OpenTextEncoder

    model_cpu_offload_seq = "text_encoder->network->vae"  # type: ignore[assignment]

    def __init__(
        self,
        vae: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
        network: ModelMixin,
        defaults: dict[str, Any] | None = None,
        codec_hash: str | None = None,
    ) -> None:
        DiffusionPipeline.__init__(self)
        NetworkGenerator.__init__(self, vae, text_encoder, network, defaults, codec_hash)
        self.register_modules(vae=vae, text_encoder=text_encoder, network=network)
        self.codec_hash = codec_hash or (None if vae is None else hash_of(vae))
        self.register_to_config(defaults=dataclasses.asdict(self.defaults), codec_hash=self.codec_hash)


class GANPipeline(NetworkPipeline, GANTextToVideo):
    """Text to video with a `GANGenerator3D`; see `GANTextToVideo` for the call."""


class VAEPipeline(NetworkPipeline, VAETextToVideo):
    """Text to video with a `HierarchicalVAE3D`; see `VAETextToVideo` for the call."""


class RNNPipeline(NetworkPipeline, RNNTextToVideo):
    """Text to video with a `RecurrentVAE3D`; see `RNNTextToVideo` for the call."""


class TransformerPipeline(NetworkPipeline, TransformerTextToVideo):
    """Text to video with a `MaskedTransformer3D`; see `TransformerTextToVideo` for the call."""


FAMILY_PIPELINES: dict[str, type[NetworkPipeline]] = {
    "gan": GANPipeline,
    "vae": VAEPipeline,
    "rnn": RNNPipeline,
    "transformer": TransformerPipeline,
}
"""The pipeline of each family whose generator is a network of its own."""
