"""Load a text-to-video model: the embedded one, a folder, or a repository of the hub."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.generation import GenerationDefaults, TextToVideo
from videogen.text.encoder import TextEncoder

if TYPE_CHECKING:
    from videogen.pipelines.text_to_video import TextToVideoPipeline

EMBEDDED = Path(__file__).resolve().parents[1] / "pretrained"
if not EMBEDDED.exists():  # in a checkout this file is reached through `pipelines/`, beside `videogen/`
    EMBEDDED = Path(__file__).resolve().parents[1] / "videogen" / "pretrained"

_NETWORKS: dict[str, type[ModelMixin]] = {
    "VideoAutoencoder": VideoAutoencoder,
    "TextEncoder": TextEncoder,
    "UViT3D": UViT3D,
    "UNet3D": UNet3D,
}
_COMPONENTS = ("vae", "text_encoder", "unet", "scheduler")
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_SCHEDULER_CONFIG = "scheduler_config.json"


def load(
    model: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextToVideoPipeline:
    """Load a pipeline.

    Args:
        model: A folder that `save_pretrained` wrote, or the id of such a repository on the hub; the embedded
            model by default.
        device: Where the networks go.
        dtype: Of the networks, whatever it is on disk.

    Raises:
        ValueError: If the folder, a file or a tensor in it is missing, broken or of a wrong shape; the
            message names it. Also if the weights are pickles (`.bin`), which are not opened.
    """
    from videogen.pipelines.text_to_video import TextToVideoPipeline

    pipeline = TextToVideoPipeline(**read_components(find_folder(model), dtype))
    return pipeline.to(device)


def load_generator(
    model: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextToVideo:
    """The same model without diffusers' pipeline class, whose import takes longer than making a clip."""
    parts = read_components(find_folder(model), dtype)
    for name in ("vae", "text_encoder", "unet"):
        torch.nn.Module.to(parts[name], device)  # ModelMixin.to would import torch's compiler
    return TextToVideo(**parts)


def find_folder(model: str | Path | None) -> Path:
    """The folder of a model; a hub id is downloaded.

    Raises:
        ValueError: If there is no such folder, and no such repository can be reached.
    """
    folder = EMBEDDED if model is None else Path(model)
    if folder.is_dir():
        return folder
    if model is None or folder.is_absolute() or str(model).count("/") != 1 or str(model).startswith("."):
        raise ValueError(f"`model` {str(folder)!r} is not a folder")
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(str(model)))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"`model` {str(model)!r} is neither a folder nor a repository that can be reached: {reason}"
        ) from error


def read_components(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The arguments of a pipeline, read from its folder; networks are in evaluation mode.

    Raises:
        ValueError: See `load`.
    """
    index = _read_json(folder / "model_index.json")
    missing = [name for name in _COMPONENTS if name not in index]
    if missing:
        raise ValueError(f"{folder / 'model_index.json'} lists no {', '.join(missing)}")
    broken = [name for name in _COMPONENTS if not isinstance(index[name], list) or len(index[name]) != 2]
    if broken:
        raise ValueError(
            f"{folder / 'model_index.json'} must name a library and a class for {', '.join(broken)}"
        )
    parts: dict[str, Any] = {name: index[name] for name in ("prediction_type", "defaults") if name in index}
    try:
        GenerationDefaults(**parts.get("defaults", {}))
    except TypeError as error:
        raise ValueError(f"`defaults` in {folder / 'model_index.json'} cannot be used: {error}") from error
    for name in _COMPONENTS:
        class_name = index[name][1]
        if name == "scheduler":
            parts[name] = _read_scheduler(folder / name, class_name)
        elif class_name in _NETWORKS:
            parts[name] = _read_network(folder / name, _NETWORKS[class_name], dtype)
        else:
            raise ValueError(f"{folder}: {name} is a {class_name}, known are {', '.join(_NETWORKS)}")
    return parts


def model_hash(folder: Path) -> str:
    """SHA-256 over the bytes of all files of a model that `read_components` reads, each with its name."""
    names = ["model_index.json", f"scheduler/{_SCHEDULER_CONFIG}"]
    names += [f"{name}/{file}" for name in _COMPONENTS[:-1] for file in ("config.json", _WEIGHTS)]
    total = hashlib.sha256()
    for name in sorted(names):
        with (folder / name).open("rb") as stream:
            total.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _read_network(folder: Path, kind: type[ModelMixin], dtype: torch.dtype) -> ModelMixin:
    config = _read_json(folder / "config.json")
    path = folder / _WEIGHTS
    if not path.exists():
        pickles = sorted(found.name for found in folder.glob("*.bin"))
        hint = f"; {pickles[0]} is a pickle and not opened: convert it to safetensors" if pickles else ""
        raise ValueError(f"{path} is missing{hint}")
    try:
        state_dict = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read, it may be truncated: {error}") from error
    network = _from_config(kind, config)
    expected = network.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - state_dict.keys()]
    problems += [f"{name} is unknown" for name in state_dict.keys() - expected.keys()]
    problems += [
        f"{name} has shape {tuple(state_dict[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & state_dict.keys()
        if expected[name].shape != state_dict[name].shape
    ]
    if problems:
        raise ValueError(f"{path} does not fit its config.json: {'; '.join(sorted(problems)[:3])}")
    network.load_state_dict(state_dict)
    # ModelMixin.to warns of a dtype even where nothing can go wrong.
    return torch.nn.Module.to(network, dtype).eval()


def _read_scheduler(folder: Path, class_name: str) -> Any:
    import diffusers

    kind = getattr(diffusers, class_name, None)
    if kind is None:
        raise ValueError(f"{folder}: diffusers has no scheduler {class_name!r}")
    return _from_config(kind, _read_json(folder / _SCHEDULER_CONFIG))


def _from_config(kind: Any, config: dict[str, Any]) -> Any:
    try:
        return kind.from_config(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the config of {kind.__name__} cannot be used: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(content).__name__}")
    return content
