"""A tiny pipeline that tests share, and ways to look into its calls."""

from typing import Any, TypeVar

from torch import Tensor

from tests.tiny import TINY_CODEC, make_network, randomise
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.shapes.captions import vocabulary
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.output import VideoPipelineOutput
from videogen.sampling.schedulers import flow_scheduler
from videogen.text.encoder import TextEncoder

DEFAULTS = {"num_frames": 8, "height": 16, "width": 24, "num_inference_steps": 3, "guidance_scale": 3.0}

Pipeline = TypeVar("Pipeline", bound=TextToVideo)


def make_pipeline(
    kind: type[Pipeline], denoiser: type[UNet3D] | type[UViT3D] = UViT3D, **changes: Any
) -> Pipeline:
    """A pipeline of tiny networks with random weights everywhere; `changes` replace its arguments."""
    vae = VideoAutoencoder(**TINY_CODEC)
    text_encoder = TextEncoder(
        vocabulary(), hidden_size=16, num_layers=1, num_attention_heads=2, max_length=12
    )
    randomise(vae)
    randomise(text_encoder)
    components = {
        "vae": vae.eval(),
        "text_encoder": text_encoder.eval(),
        "unet": make_network(denoiser, cross_attention_dim=16),
        "scheduler": flow_scheduler(),
        "defaults": DEFAULTS,
    }
    return kind(**(components | changes))


def latents_of(pipeline: TextToVideo, *arguments: Any, **options: Any) -> Tensor:
    """The latents that a call ends with."""
    output = pipeline(*arguments, output_type="latent", **options)
    assert isinstance(output, VideoPipelineOutput) and isinstance(output.frames, Tensor)
    return output.frames


def record_batch_sizes(pipeline: TextToVideo) -> list[int]:
    """Batch size of every call of the denoiser from now on."""
    sizes: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    return sizes
