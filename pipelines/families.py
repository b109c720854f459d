"""The families of generators by the names that users and folders give them."""

from __future__ import annotations

from videogen.pipelines.gan import GANTextToVideo
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.latent_generation import LatentGenerator
from videogen.pipelines.rnn import RNNTextToVideo
from videogen.pipelines.transformer import TransformerTextToVideo
from videogen.pipelines.vae import VAETextToVideo

FAMILIES = ("gan", "vae", "rnn", "transformer", "dit")
"""Names that `videogen.load` and `--model` take; `dit` is diffusion with another denoiser."""

GENERATORS: dict[str, type[LatentGenerator]] = {
    "TextToVideoPipeline": TextToVideo,
    "ModelScopePipeline": TextToVideo,
    "TextToVideoSDPipeline": TextToVideo,
    "VideoToVideoSDPipeline": TextToVideo,
    "GANPipeline": GANTextToVideo,
    "VAEPipeline": VAETextToVideo,
    "RNNPipeline": RNNTextToVideo,
    "TransformerPipeline": TransformerTextToVideo,
}
"""For each `_class_name` of a `model_index.json` what makes clips of its components."""


def training_command(family: str) -> str:
    """How a member of a family is trained."""
    return f"python -m videogen.train shapes_mini_{family}"
