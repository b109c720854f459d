"""Text to video as a diffusers pipeline."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import codec_hash as hash_of
from videogen.models.dit import DiT3D
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.adapters import Adapters
from videogen.pipelines.arguments import CALLBACK_TENSORS
from videogen.pipelines.diffusers_pipeline import LatentPipeline
from videogen.pipelines.generation import TextToVideo
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder


class TextToVideoPipeline(LatentPipeline, Adapters, TextToVideo):
    """Generates clips from prompts; see `TextToVideo` for the call, `DiffusionPipeline` for all around it.

    Args:
        vae: The codec.
        text_encoder: Turns prompts into embeddings.
        unet: The denoiser.
        scheduler: Any diffusers scheduler for what the denoiser predicts.
        prediction_type: What the denoiser predicts; by default what the scheduler is made for.
        defaults: Fields of `GenerationDefaults` that differ from the default.
        codec_hash: Of the codec that the denoiser was trained with; that of `vae` if it is not known.
    """

    vae: VideoAutoencoder
    text_encoder: TextEncoder | OpenTextEncoder

    model_cpu_offload_seq = "text_encoder->unet->vae"  # type: ignore[assignment]
    _callback_tensor_inputs = CALLBACK_TENSORS

    def __init__(
        self,
        vae: VideoAutoencoder,
        text_encoder: TextEncoder | OpenTextEncoder,
        unet: UViT3D | UNet3D | DiT3D,
        scheduler: SchedulerMixin,
        prediction_type: str | None = None,
        defaults: dict[str, Any] | None = None,
        codec_hash: str | None = None,
    ) -> None:
        DiffusionPipeline.__init__(self)
        Adapters.__init__(self)
        self.register_modules(vae=vae, text_encoder=text_encoder, unet=unet, scheduler=scheduler)
        TextToVideo.__init__(self, vae, text_encoder, unet, scheduler, prediction_type, defaults, codec_hash)
        self.codec_hash = codec_hash or (None if vae is None else hash_of(vae))
        self.register_to_config(
            prediction_type=self.prediction_type,
            defaults=dataclasses.asdict(self.defaults),
            codec_hash=self.codec_hash,
        )
