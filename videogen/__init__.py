"""Text to video on any machine: a prompt in, a clip out.

Importing `videogen` costs nothing; each name below is imported on first use. So are our pipelines where
`DiffusionPipeline.from_pretrained` of diffusers opens a folder of ours.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from videogen import names_in_diffusers

if TYPE_CHECKING:
    from videogen.codec.autoencoder import VideoAutoencoder
    from videogen.exploration.explorer import explore
    from videogen.io import read_clip, write_clip
    from videogen.models.step_cache import StepCache
    from videogen.models.unet3d import UNet3D
    from videogen.models.uvit import UViT3D
    from videogen.pipelines.loading import load
    from videogen.pipelines.text_to_video import TextToVideoPipeline
    from videogen.presets import Preset
    from videogen.text.encoder import TextEncoder

__version__ = "0.1.0"

__all__ = [
    "Preset",
    "StepCache",
    "TextEncoder",
    "TextToVideoPipeline",
    "UNet3D",
    "UViT3D",
    "VideoAutoencoder",
    "__version__",
    "explore",
    "load",
    "read_clip",
    "write_clip",
]

_HOMES = {
    "Preset": "videogen.presets",
    "StepCache": "videogen.models.step_cache",
    "TextEncoder": "videogen.text.encoder",
    "TextToVideoPipeline": "videogen.pipelines.text_to_video",
    "UNet3D": "videogen.models.unet3d",
    "UViT3D": "videogen.models.uvit",
    "VideoAutoencoder": "videogen.codec.autoencoder",
    "explore": "videogen.exploration.explorer",
    "load": "videogen.pipelines.loading",
    "read_clip": "videogen.io",
    "write_clip": "videogen.io",
}


if not TYPE_CHECKING:  # a type checker that saw it would accept any name at all

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


names_in_diffusers.register()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
