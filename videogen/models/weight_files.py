"""Reads the weights of a network from the files that diffusers and transformers write, and checks them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from videogen.files import read_json

WEIGHTS_NAME = "diffusion_pytorch_model"  # as diffusers calls its files, before the suffix
_SAFETENSORS = (".safetensors", ".safetensors.index.json")
_PICKLES = (".bin", ".fp16.bin")
_PICKLE_MARKS = (b"PK", b"\x80")  # how the files begin that torch has written, with zip archives and before
MAX_NAMED = 3  # how many of the tensors that do not fit an error names


def find_weights(folder: Path, name: str = WEIGHTS_NAME, *, pickle_name: str | None = None) -> list[Path]:
    """The files that hold the weights of a network; if there are shards, their index comes first.

    Safetensors come before pickles, and a variant such as `fp16` is only taken where there is nothing else.

    Args:
        folder: The network's own folder.
        name: Of the safetensors, without suffix.
        pickle_name: Of the pickles, without suffix, where such files may be opened.

    Raises:
        ValueError: If there is no file of weights, there are several variants alone, or an index names shards
            that are not there.
    """
    candidates = [name + suffix for suffix in _SAFETENSORS]
    if not any((folder / file).exists() for file in candidates):
        patterns = (f"{name}.*.safetensors", f"{name}.safetensors.index.*.json")
        found = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
        variants = [file for file in found if "-of-" not in file]  # shards are known by their index
        if len(variants) > 1:
            raise ValueError(f"{folder} holds several variants: keep one of {', '.join(variants)}")
        candidates += variants
    if pickle_name is not None:
        candidates += [pickle_name + suffix for suffix in _PICKLES]
    for file in candidates:
        path = folder / file
        if path.exists():
            return [path, *_find_shards(path)] if path.suffix == ".json" else [path]
    pickles = sorted(found.name for found in folder.glob("*.bin"))
    hint = f"; {pickles[0]} is a pickle and not opened: convert it to safetensors" if pickles else ""
    raise ValueError(f"{folder / name}.safetensors is missing{hint}")


def _find_shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise ValueError(f"{index} holds no `weight_map` from tensors to files")
    shards = [index.parent / file for file in sorted(set(weight_map.values()))]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing:
        raise ValueError(f"{index} names {len(shards)} shards, of which are missing: {_first(missing)}")
    return shards


def read_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of files as `find_weights` lists them, mapped into memory: not read before they are used.

    Raises:
        ValueError: If a file is broken, or a pickle that holds anything but tensors by name.
    """
    state_dict: dict[str, Tensor] = {}
    for path in files:
        if path.suffix == ".safetensors":
            state_dict |= _read_safetensors(path)
        elif path.suffix != ".json":
            state_dict |= _read_pickle(path)
    return state_dict


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read, it may be truncated: {error}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as stream:
        beginning = stream.read(20)
    if beginning and not beginning.startswith(_PICKLE_MARKS):
        raise ValueError(f"{path} is not a file of weights: it begins with {beginning!r}")
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} cannot be read, it may be truncated or hold more than tensors: {reason}"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ValueError(f"{path} must hold tensors by name, and nothing else")
    return content


def fill(network: nn.Module, state_dict: dict[str, Tensor], source: Path, dtype: torch.dtype) -> None:
    """Put weights into a network, which may be on the device `meta` and then never held others.

    The network gets copies, so that its files may be changed while it is in use; there is one tensor at a
    time of which both are in memory.

    Args:
        network: Its parameters and buffers are replaced.
        state_dict: One tensor for each of them; emptied.
        source: Where it comes from, for the messages.
        dtype: Of the network from now on; integers stay what they are.

    Raises:
        ValueError: If a tensor is missing, unknown, of a wrong shape, or not finite in this dtype.
    """
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    problems = [f"{name} is missing" for name in shapes.keys() - state_dict.keys()]
    problems += [f"{name} is unknown" for name in state_dict.keys() - shapes.keys()]
    problems += [
        f"{name} has shape {tuple(state_dict[name].shape)} instead of {tuple(shapes[name])}"
        for name in shapes.keys() & state_dict.keys()
        if shapes[name] != state_dict[name].shape
    ]
    if problems:
        raise ValueError(f"{source} does not fit its config.json: {_first(sorted(problems))}")
    kept = {name for name, tensor in network.state_dict().items() if not tensor.is_floating_point()}
    copies = {name: state_dict.pop(name).to(None if name in kept else dtype, copy=True) for name in shapes}
    broken = [name for name, tensor in copies.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"{source} holds NaN or infinity as {dtype}: {_first(broken)}")
    network.load_state_dict(copies, assign=True)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return "; ".join(names[:MAX_NAMED]) + more
