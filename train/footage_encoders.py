"""What turns footage into latents and embeddings, and whether a dataset was made with what a model has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from videogen.codec.contract import Codec
from videogen.data.footage.dataset import FootageDataset
from videogen.pipelines.devices import check_device
from videogen.pipelines.latent_generation import ClipDefaults
from videogen.pipelines.loading import find_folder, generator_class, part_hash, read_components
from videogen.text.contract import PromptEncoder


@dataclass(frozen=True)
class FootageEncoders:
    """What encodes footage, with hashes that say what it is.

    Attributes:
        name: As the user named the model.
        codec: Encodes clips.
        text_encoder: Encodes captions.
        codec_hash: SHA-256 over its files.
        text_encoder_hash: SHA-256 over its files and the tokenizer's.
        dtype: Of both, and of what they give.
        defaults: The clips that the model was trained on.
    """

    name: str
    codec: Codec
    text_encoder: PromptEncoder
    codec_hash: str
    text_encoder_hash: str
    dtype: torch.dtype
    defaults: ClipDefaults


def load_encoders(
    model: str | Path | None = None, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> FootageEncoders:
    """The codec and the text encoder of a model, the embedded one by default.

    Raises:
        ValueError: If the model cannot be loaded, or the device is not here.
    """
    folder = find_folder(model)
    generator = generator_class(folder)(**read_components(folder, dtype, check_device(device)))
    return FootageEncoders(
        name=str(model or "embedded"),
        codec=generator.codec,
        text_encoder=generator.prompt_encoder,
        codec_hash=part_hash(folder, "vae"),
        text_encoder_hash=part_hash(folder, "text_encoder", "tokenizer"),
        dtype=dtype,
        defaults=generator.defaults,
    )


def check_dataset_fits(dataset: FootageDataset, model: str | Path | None) -> None:
    """Raise ValueError unless a dataset was prepared with the codec and the text encoder of a model."""
    folder = find_folder(model)
    hashes = {
        "codec": part_hash(folder, "vae"),
        "text_encoder": part_hash(folder, "text_encoder", "tokenizer"),
    }
    for part, expected in hashes.items():
        if dataset.model.get(part) != expected:
            prepared_with = dataset.model.get("name", "another model")
            raise ValueError(
                f"{dataset.folder} was prepared with the {part.replace('_', ' ')} of {prepared_with!r}, not "
                f"that of {str(model or 'embedded')!r}: prepare it again with the `--model` to train"
            )
