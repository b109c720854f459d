"""Load a text-to-video model: the embedded one, a family's, a folder, or a repository of the hub."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

import torch
from diffusers.models.modeling_utils import ModelMixin

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.files import file_hash, named_files_hash, read_json
from videogen.models.attention import set_attention_backend
from videogen.models.dit import DiT3D
from videogen.models.gan import GANGenerator3D
from videogen.models.lora import lora_files, merge_lora, parse_lora_option, read_lora
from videogen.models.packing import pack_for_inference
from videogen.models.rnn import RecurrentVAE3D
from videogen.models.transformer import MaskedTransformer3D
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.models.vae import HierarchicalVAE3D
from videogen.models.weight_files import fill, find_weights, read_weights
from videogen.pipelines.devices import check_device
from videogen.pipelines.families import FAMILIES, GENERATORS, training_command
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.latent_generation import LatentGenerator
from videogen.pipelines.model_index import (
    INDEX,
    SCHEDULER_CONFIG,
    class_names,
    from_config,
    has_shared_codec,
    read_index,
    read_scheduler,
    read_settings,
)
from videogen.pipelines.modelscope_folder import (
    PIPELINES,
    modelscope_files,
    modelscope_generator,
    read_modelscope,
)
from videogen.pipelines.network_generation import NetworkGenerator
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder
from videogen.text.words import WORDS_NAME, add_words, read_words

if TYPE_CHECKING:  # each is imported where it is used: diffusers' own pipelines take seconds
    from videogen.pipelines.family_pipelines import GANPipeline, RNNPipeline, TransformerPipeline, VAEPipeline
    from videogen.pipelines.text_to_video import TextToVideoPipeline

EMBEDDED = Path(__file__).resolve().parents[1] / "pretrained"
if not EMBEDDED.exists():  # in a checkout this file is reached through `pipelines/`, beside `videogen/`
    EMBEDDED = Path(__file__).resolve().parents[1] / "videogen" / "pretrained"

EMBEDDED_NAME = "embedded"
"""Always names the embedded model; a folder of this name is `./embedded`, or a Path."""

_NETWORKS: dict[str, type[ModelMixin]] = {
    "VideoAutoencoder": VideoAutoencoder,
    "TextEncoder": TextEncoder,
    "OpenTextEncoder": OpenTextEncoder,
    "UViT3D": UViT3D,
    "UNet3D": UNet3D,
    "DiT3D": DiT3D,
    "GANGenerator3D": GANGenerator3D,
    "HierarchicalVAE3D": HierarchicalVAE3D,
    "RecurrentVAE3D": RecurrentVAE3D,
    "MaskedTransformer3D": MaskedTransformer3D,
}
_DIFFUSION_COMPONENTS = ("vae", "text_encoder", "unet", "scheduler")
_FAMILY_COMPONENTS = ("vae", "text_encoder", "network")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The dtypes of networks by the names that users type."""

LoraChoice = str | Path | tuple[str | Path, float]
"""Adapters to merge: a file or folder, with a scale beside it or as in `PATH:0.8`; 1 if left out."""


class LoadOptions(TypedDict, total=False):
    """What `load` takes beside the model; see there."""

    device: str | torch.device | int
    dtype: torch.dtype | str
    loras: Sequence[LoraChoice]
    attention: str | None


@overload
def load(model: Literal["dit"] | None = None, **options: Unpack[LoadOptions]) -> TextToVideoPipeline: ...
@overload
def load(model: Literal["gan"], **options: Unpack[LoadOptions]) -> GANPipeline: ...
@overload
def load(model: Literal["vae"], **options: Unpack[LoadOptions]) -> VAEPipeline: ...
@overload
def load(model: Literal["rnn"], **options: Unpack[LoadOptions]) -> RNNPipeline: ...
@overload
def load(model: Literal["transformer"], **options: Unpack[LoadOptions]) -> TransformerPipeline: ...
@overload
def load(model: str | Path | None, **options: Unpack[LoadOptions]) -> Any: ...


def load(
    model: str | Path | None = None,
    *,
    device: str | torch.device | int = "cpu",
    dtype: torch.dtype | str = torch.float32,
    loras: Sequence[LoraChoice] = (),
    attention: str | None = None,
) -> Any:
    """Load a pipeline.

    Args:
        model: A folder that `save_pretrained` wrote (whose index may list `vae` as `[null, null]`: it is the
            embedded codec then), or one of ModelScope's model and its fine-tunes for
            diffusers' `TextToVideoSDPipeline`, or the id of such a repository on the hub, or one of
            `FAMILIES` if a model of it is there; the embedded model by default, and for `embedded`.
        device: Where the networks go.
        dtype: Of the networks, whatever it is on disk; a dtype or its name, a key of `DTYPES`.
        loras: Adapters to merge into the denoiser, as `videogen finetune` or diffusers wrote them; they are
            part of what `save_pretrained` writes then.
        attention: `sdpa`, torch's own, or `xformers`, on CUDA only; from here on for all networks of this
            process. None leaves it as it is, at first `sdpa`.

    Returns:
        A `TextToVideoPipeline`, or the pipeline of the family that the folder belongs to; a type checker
        knows which for the embedded model and names of families, but cannot know what a folder holds.

    Raises:
        ValueError: If the folder, a file or a tensor in it is missing, broken or of a wrong shape; the
            message names it. So too for adapters, or if they were made for another model. Also if the weights
            of our networks are pickles (`.bin`), which are not opened; those of ModelScope's are, for nothing
            but tensors. If `dtype` is unknown, or `device` is not here. And if `attention` is unknown, not
            installed, or cannot run on the device.
    """
    dtype, device = _check_dtype(dtype), check_device(device)
    if attention is not None:
        set_attention_backend(attention, device)
    folder = find_folder(model)
    if _is_modelscope(folder):
        from videogen.pipelines.modelscope import ModelScopePipeline

        return ModelScopePipeline(**merge_loras(read_modelscope(folder, dtype, device), loras))
    parts = merge_loras(read_components(folder, dtype, device), loras)
    kind = generator_class(folder)
    if issubclass(kind, NetworkGenerator):
        from videogen.pipelines.family_pipelines import FAMILY_PIPELINES

        return FAMILY_PIPELINES[kind.family](**parts)
    from videogen.pipelines.text_to_video import TextToVideoPipeline

    return TextToVideoPipeline(**parts)


def load_generator(
    model: str | Path | None = None,
    *,
    device: str | torch.device | int = "cpu",
    dtype: torch.dtype = torch.float32,
    loras: Sequence[LoraChoice] = (),
) -> Any:
    """The same model for clips alone, without the slow import of diffusers' pipeline class.

    On a CPU a `UNet3D` is packed: it gives the same numbers but for rounding, faster, and can be neither
    saved nor moved.
    """
    folder, device = find_folder(model), check_device(device)
    return generator_class(folder)(**read_packed_components(folder, dtype, device, loras))


def _check_dtype(dtype: object) -> torch.dtype:
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"`dtype` must be one of torch or its name, {', '.join(DTYPES)}, got {dtype!r}")
    return found


def find_folder(model: str | Path | None) -> Path:
    """The folder of a model; a hub id is downloaded.

    Raises:
        ValueError: If there is no such folder, and no such repository can be reached.
    """
    if not isinstance(model, str | os.PathLike | None) or model == "":
        raise ValueError(f"`model` must be a folder, a name or an id on the hub, got {model!r}")
    folder = EMBEDDED if model is None or model == EMBEDDED_NAME else Path(model)
    if folder.is_dir():
        return folder
    if str(model) in FAMILIES:
        return _family_folder(str(model))
    if model is None or folder.is_absolute() or str(model).count("/") != 1 or str(model).startswith("."):
        raise ValueError(
            f"`model` {str(folder)!r} is not a folder, nor {EMBEDDED_NAME!r}, nor a family of generators: "
            f"these are {', '.join(FAMILIES)}"
        )
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(str(model)))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"`model` {str(model)!r} is neither a folder nor a repository that can be reached: {reason}"
        ) from error


def _family_folder(family: str) -> Path:
    folder = EMBEDDED / "families" / family
    if folder.is_dir():
        return folder
    raise ValueError(
        f"no model of the family {family!r} comes with this version: train one with "
        f"`{training_command(family)}`, and give its folder runs/shapes_mini_{family}/result"
    )


def generator_class(folder: Path) -> type[LatentGenerator]:
    """What makes clips of the components in a pipeline's folder.

    Raises:
        ValueError: If its index is missing, or of a pipeline that is not known here.
    """
    name = read_index(folder).get("_class_name", "TextToVideoPipeline")
    if name not in GENERATORS:
        raise ValueError(f"{folder} holds a {name}, known are {', '.join(GENERATORS)}")
    return GENERATORS[name]


def read_components(folder: Path, dtype: torch.dtype, device: str | torch.device = "cpu") -> dict[str, Any]:
    """The arguments of the folder's `generator_class`, read from a pipeline's folder; networks are in
    evaluation mode.

    Raises:
        ValueError: See `load`.
    """
    if _is_modelscope(folder):
        return modelscope_generator(read_modelscope(folder, dtype, device))
    index = read_index(folder)
    kind = generator_class(folder)
    components = [name for name in _components(kind) if name != "vae" or not has_shared_codec(index)]
    classes = class_names(folder, index, components)
    parts = read_settings(folder, index, kind.defaults_class)
    if has_shared_codec(index):
        codec = _read_network(EMBEDDED / "vae", VideoAutoencoder, dtype)
        parts["vae"] = torch.nn.Module.to(codec, device)
    for name, class_name in classes.items():
        if name == "scheduler":
            parts[name] = read_scheduler(folder, class_name)
        elif class_name in _NETWORKS:
            network = _read_network(folder / name, _NETWORKS[class_name], dtype)
            parts[name] = torch.nn.Module.to(network, device)  # ModelMixin.to would import torch's compiler
        else:
            raise ValueError(f"{folder}: {name} is a {class_name}, known are {', '.join(_NETWORKS)}")
    return parts


def merge_loras(parts: dict[str, Any], loras: Sequence[LoraChoice]) -> dict[str, Any]:
    """Merge adapters into the denoiser among `parts`, and give the text encoder the words they came with.

    Raises:
        ValueError: If a file is missing or broken, or was made for another model.
    """
    if not isinstance(loras, list | tuple):
        raise ValueError(f"`loras` must be a list of paths, or of pairs of a path and a scale, got {loras!r}")
    for choice in loras:
        path, scale = split_lora_choice(choice)
        if "unet" not in parts:
            raise ValueError(f"`loras` are for denoisers, which this model has not: leave out {path}")
        merge_lora(parts["unet"], read_lora(path), scale)
        if (Path(path) / WORDS_NAME).is_file():
            parts["text_encoder"] = add_words(parts["text_encoder"], read_words(path), Path(path))
    return parts


def split_lora_choice(choice: LoraChoice) -> tuple[str, float]:
    """Path and scale of a choice.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(choice, tuple):
        is_pair = (
            len(choice) == 2 and isinstance(choice[0], str | Path) and isinstance(choice[1], int | float)
        )
        if not is_pair or not math.isfinite(choice[1]):
            raise ValueError(
                f"`loras` must hold paths, or pairs of a path and a finite scale, got {choice!r}"
            )
        return str(choice[0]), float(choice[1])
    return (str(choice), 1.0) if Path(choice).exists() else parse_lora_option(str(choice))


def lora_hash(path: str) -> str:
    """SHA-256 over adapters, what peft says of them, and the words beside them."""
    words = Path(path) / WORDS_NAME
    return file_hash(*lora_files(path), *([words] if words.is_file() else []))


def read_packed_components(
    folder: Path, dtype: torch.dtype, device: str | torch.device = "cpu", loras: Sequence[LoraChoice] = ()
) -> dict[str, Any]:
    """The same with adapters merged, for clips alone: a `UNet3D` is packed where it runs on a CPU.

    Raises:
        ValueError: See `load`.
    """
    parts = merge_loras(read_components(folder, dtype, device), loras)
    on_cpu = torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available()
    if on_cpu and isinstance(parts.get("unet"), UNet3D):
        pack_for_inference(parts["unet"])
    return parts


def model_hash(folder: Path) -> str:
    """SHA-256 over the bytes of all files of a model that `read_components` reads, each with its name."""
    if _is_modelscope(folder):
        files = {path.relative_to(folder).as_posix(): path for path in modelscope_files(folder)}
    else:
        files = {INDEX: folder / INDEX}
        for name in _components(generator_class(folder)):
            if name == "scheduler":
                files[SCHEDULER_CONFIG] = folder / SCHEDULER_CONFIG
                continue
            home = EMBEDDED if name == "vae" and has_shared_codec(read_index(folder)) else folder
            for path in (home / name / "config.json", *find_weights(home / name)):
                files[path.relative_to(home).as_posix()] = path
    return named_files_hash(dict(sorted(files.items())))


def part_hash(folder: Path, *parts: str) -> str:
    """SHA-256 over all files in some folders of a model, each with its name."""
    paths = [path for part in parts for path in sorted((folder / part).rglob("*")) if path.is_file()]
    return named_files_hash({path.relative_to(folder).as_posix(): path for path in paths})


def _components(kind: type[LatentGenerator]) -> tuple[str, ...]:
    return _DIFFUSION_COMPONENTS if kind is TextToVideo else _FAMILY_COMPONENTS


def _is_modelscope(folder: Path) -> bool:
    return read_index(folder).get("_class_name") in PIPELINES


def _read_network(folder: Path, kind: type[ModelMixin], dtype: torch.dtype) -> ModelMixin:
    network = from_config(kind, read_json(folder / "config.json"))
    files = find_weights(folder)
    fill(network, read_weights(files), files[0], dtype)
    # Buffers that are not saved follow the dtype; ModelMixin.to warns even where nothing can go wrong.
    return torch.nn.Module.to(network, dtype).eval()
