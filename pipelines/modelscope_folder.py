"""Reads the folders of ModelScope's text-to-video model and its fine-tunes (ZeroScope, Potat1).

They are folders of diffusers' `TextToVideoSDPipeline`, or what `ModelScopePipeline` saves of it. transformers
is imported where it is used, since most models do without.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from videogen.codec.image_autoencoder import ImageAutoencoder, load_autoencoder_kl
from videogen.files import read_json
from videogen.models.unet3d import UNet3D
from videogen.models.unet3d_weights import load_unet3d
from videogen.models.weight_files import WEIGHTS_NAME, fill, find_weights, read_weights
from videogen.pipelines.generation import GenerationDefaults
from videogen.pipelines.model_index import (
    INDEX,
    SCHEDULER_CONFIG,
    class_names,
    read_index,
    read_scheduler,
    read_settings,
)
from videogen.text.pretrained import CLIPTextEncoder

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

PIPELINES = ("TextToVideoSDPipeline", "VideoToVideoSDPipeline", "ModelScopePipeline")

PAD_TOKEN_ID = 0
"""Where a tokenizer names no pad token: that of OpenCLIP, whose text encoder this is."""

_KNOWN_CLASSES = {
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet3DConditionModel", "UNet3D"),
}
_TEXT_WEIGHTS = {"name": "model", "pickle_name": "pytorch_model"}  # as transformers calls its files


def read_modelscope(folder: Path, dtype: torch.dtype, device: str | torch.device = "cpu") -> dict[str, Any]:
    """The arguments of `ModelScopePipeline`.

    Networks are in evaluation mode.

    Raises:
        ValueError: If a file or a tensor is missing, broken, unknown, of a wrong shape or not finite, a class
            or a config cannot be used; the message names it.
    """
    index = read_index(folder)
    classes = class_names(folder, index, (*_KNOWN_CLASSES, "scheduler"))
    for name, known in _KNOWN_CLASSES.items():
        if classes[name] not in known:
            raise ValueError(f"{folder}: {name} is a {classes[name]}, known are {', '.join(known)}")
    parts = read_settings(folder, index, GenerationDefaults) | {
        "scheduler": read_scheduler(folder, classes["scheduler"]),
        "tokenizer": _read_tokenizer(folder / "tokenizer"),
        "vae": load_autoencoder_kl(folder / "vae", dtype),
        "text_encoder": _read_text_encoder(folder / "text_encoder", dtype),
        "unet": load_unet3d(folder / "unet", dtype=dtype),
    }
    _check_parts_fit(folder, parts["vae"], parts["text_encoder"], parts["unet"])
    for name in ("vae", "text_encoder", "unet"):
        torch.nn.Module.to(parts[name], device)  # ModelMixin.to would import torch's compiler
    parts.setdefault("defaults", modelscope_defaults(parts["unet"], parts["vae"]))
    return parts


def modelscope_generator(parts: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `TextToVideo` for what `read_modelscope` gives: the networks behind our contracts."""
    parts = dict(parts)
    encoder = CLIPTextEncoder(parts.pop("tokenizer"), parts["text_encoder"])
    return parts | {"vae": ImageAutoencoder(parts["vae"]), "text_encoder": encoder}


def modelscope_defaults(unet: UNet3D, vae: AutoencoderKL) -> dict[str, Any]:
    """Fields of `GenerationDefaults`; of the clips of the training, a folder tells no more than the size.

    Raises:
        ValueError: If it does not even tell that.
    """
    sample_size = unet.config["sample_size"]
    if sample_size is None:
        raise ValueError("the config of the UNet has no `sample_size`, the height and width of latents")
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    per_latent = ImageAutoencoder(vae).compression[1]
    return {
        "num_frames": 16,
        "height": height * per_latent,
        "width": width * per_latent,
        "fps": 8.0,
        "num_inference_steps": 50,
        "guidance_scale": 9.0,
    }


def _check_parts_fit(folder: Path, vae: AutoencoderKL, text_encoder: CLIPTextModel, unet: UNet3D) -> None:
    latent_channels, text_dim = vae.config["latent_channels"], text_encoder.config.hidden_size
    for key, expected, whose in (
        ("in_channels", latent_channels, "latents of the vae"),
        ("out_channels", latent_channels, "latents of the vae"),
        ("cross_attention_dim", text_dim, "embeddings of the text_encoder"),
    ):
        if unet.config[key] != expected:
            raise ValueError(
                f"{folder}: unet has {key}={unet.config[key]}, but the {whose} have {expected} channels"
            )


def modelscope_files(folder: Path) -> list[Path]:
    """All files that `read_modelscope` reads."""
    files = [folder / INDEX, folder / SCHEDULER_CONFIG, *sorted((folder / "tokenizer").iterdir())]
    files += [folder / name / "config.json" for name in ("vae", "text_encoder", "unet")]
    files += find_weights(folder / "text_encoder", **_TEXT_WEIGHTS)
    for name in ("vae", "unet"):
        files += find_weights(folder / name, pickle_name=WEIGHTS_NAME)
    return files


def _read_tokenizer(folder: Path) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    # Without these files transformers makes an empty tokenizer.
    if not (folder / "tokenizer.json").exists():
        missing = [file for file in ("vocab.json", "merges.txt") if not (folder / file).exists()]
        if missing:
            raise ValueError(f"{folder / missing[0]} is missing")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no tokenizer that can be read: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(PAD_TOKEN_ID)
    return tokenizer


def _read_text_encoder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    from accelerate import init_empty_weights
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CLIPTextConfig, CLIPTextModel

    config = read_json(folder / "config.json")
    files = find_weights(folder, **_TEXT_WEIGHTS)
    try:
        with init_empty_weights(include_buffers=False):
            text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(config))
    except (StrictDataclassError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the config of CLIPTextModel cannot be used: {error}") from error
    # Names begin with `text_model.` or do not, in files and in networks, as transformers had it in its time.
    names = {name.removeprefix("text_model."): name for name in text_encoder.state_dict()}
    state_dict = {
        names.get(name.removeprefix("text_model."), name): tensor
        for name, tensor in read_weights(files).items()
        if not name.endswith(".position_ids")  # 0, 1, 2, ...; once saved, now made
    }
    fill(text_encoder, state_dict, files[0], dtype)
    return text_encoder.eval()
