"""The text-to-video pipeline of ModelScope's model and its fine-tunes (ZeroScope, Potat1)."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPTextModel, CLIPTokenizer

from videogen.codec.image_autoencoder import ImageAutoencoder
from videogen.models.unet3d import UNet3D
from videogen.pipelines.adapters import Adapters
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.modelscope_folder import modelscope_defaults
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.text.pretrained import CLIPTextEncoder


class ModelScopePipeline(TextToVideoPipeline):
    """`TextToVideoPipeline` on the components of diffusers' `TextToVideoSDPipeline`, saved as they are.

    `videogen.load` makes it of the public folders. diffusers' own `from_pretrained` reads what it saves.

    Args:
        vae: The image autoencoder of diffusers.
        text_encoder: CLIP of transformers.
        tokenizer: The tokenizer that belongs to it.
        unet: The denoiser.
        scheduler: Any diffusers scheduler for what the denoiser predicts.
        prediction_type: What the denoiser predicts; by default what the scheduler is made for.
        defaults: Fields of `GenerationDefaults`; by default see `modelscope_defaults`.
    """

    vae: AutoencoderKL  # type: ignore[assignment]
    text_encoder: CLIPTextModel  # type: ignore[assignment]
    tokenizer: CLIPTokenizer
    unet: UNet3D

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3D,
        scheduler: SchedulerMixin,
        prediction_type: str | None = None,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        DiffusionPipeline.__init__(self)
        Adapters.__init__(self)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )
        if not defaults and unet is not None and vae is not None:
            defaults = modelscope_defaults(unet, vae)
        TextToVideo.__init__(
            self,
            vae,
            text_encoder,  # type: ignore[arg-type] # of the contract is `prompt_encoder`
            unet,
            scheduler,
            prediction_type,
            defaults,
        )
        self.register_to_config(
            prediction_type=self.prediction_type, defaults=dataclasses.asdict(self.defaults)
        )

    def enable_vae_slicing(self) -> None:
        """Decode images one by one."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Decode as many images at a time as `ImageAutoencoder` allows."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Decode images in tiles that overlap: less memory for large ones, which may show the seams."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Decode images whole."""
        self.vae.disable_tiling()

    @property
    def codec(self) -> ImageAutoencoder:
        """The codec contract around `vae`."""
        return ImageAutoencoder(self.vae)

    @property
    def prompt_encoder(self) -> CLIPTextEncoder:
        """The text contract around `text_encoder` and `tokenizer`."""
        return CLIPTextEncoder(self.tokenizer, self.text_encoder)
