"""Loads public weights into `UNet3D`: folders of diffusers, and single files in ModelScope's own naming.

diffusers names its modules by resolution, and so do we. ModelScope's code numbers them in the order in which
they run, as the first latent diffusion models did:

    input_blocks.0        conv_in, transformer_in
    input_blocks.{1..}    the layers on the way down, and the downsamplers between them
    middle_block          two layers of the coarsest resolution, the second without attention
    output_blocks.{0..}   the layers on the way up; the last layer of a resolution holds the upsampler
    out                   conv_norm_out, conv_out

Source: modelscope/models/multi_modal/video_synthesis/unet_sd.py in github.com/modelscope/modelscope.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videogen.files import read_json
from videogen.models.unet3d import UNet3D
from videogen.models.weight_files import WEIGHTS_NAME, fill, find_weights, read_weights

_RESNET_PARTS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def load_unet3d(
    source: str | Path, *, config: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
) -> UNet3D:
    """Load a `UNet3D`, in evaluation mode and on the CPU, with no more than one copy of it in memory.

    Args:
        source: The folder of a `UNet3DConditionModel` of diffusers or of a `UNet3D`; or one file of weights,
            such as `text2video_pytorch_model.pth`, named as diffusers or as ModelScope names them.
        config: The arguments of `UNet3D`; by default those in the folder's config.json, and for a single
            file those of ModelScope's network.
        dtype: Of the network, whatever it is on disk.

    Raises:
        ValueError: If a file or a tensor is missing, broken, unknown, of a wrong shape or not finite, or the
            config cannot be used; the message names it. Also if a `UNet3D` was saved as a pickle: those of
            diffusers and ModelScope are opened, since their weights have no other form.
    """
    source = Path(source)
    if source.is_dir():
        config = read_json(source / "config.json") if config is None else config
        ours = config.get("_class_name") == UNet3D.__name__
        files = find_weights(source, pickle_name=None if ours else WEIGHTS_NAME)
    elif source.is_file():
        files = [source]
    else:
        raise ValueError(f"`source` {str(source)!r} is neither a folder nor a file")
    with torch.device("meta"):
        network = _make_unet3d(config or {})
    state_dict = read_weights(files)
    if any(name.startswith("input_blocks.") for name in state_dict):
        state_dict = from_modelscope_names(state_dict, network.config)
    fill(network, state_dict, files[0], dtype)
    return network.eval()


def _make_unet3d(config: Mapping[str, Any]) -> UNet3D:
    known = inspect.signature(UNet3D.__init__).parameters
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    # A key without a value asks for nothing: diffusers writes `num_attention_heads: null` into each config.
    ignored = sorted(key for key, value in given.items() if key not in known and value is not None)
    if ignored:
        warnings.warn(f"the config of the UNet has unknown keys, ignored: {', '.join(ignored)}", stacklevel=3)
    try:
        return UNet3D(**{key: value for key, value in given.items() if key in known})
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the config of UNet3D cannot be used: {error}") from error


def from_modelscope_names(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the tensors of a network that ModelScope's code saved; names that it does not give stay.

    Args:
        state_dict: By ModelScope's names.
        config: The config of a `UNet3D` of the same structure.
    """
    modules = dict(_modules(config))

    def rename(name: str) -> str:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            module = ".".join(parts[:length])
            if module in modules:
                return ".".join([modules[module], *parts[length:]])
        return name

    # What is a linear layer over channels for us was a Conv1d with a kernel of one frame there.
    return {
        rename(name): tensor.squeeze(-1) if tensor.ndim == 3 else tensor
        for name, tensor in state_dict.items()
    }


def _modules(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """ModelScope's names of modules with ours, in the order in which ModelScope's code makes them."""
    num_layers = config["layers_per_block"]
    yield "time_embed.0", "time_embedding.linear_1"
    yield "time_embed.2", "time_embedding.linear_2"
    yield "input_blocks.0.0", "conv_in"
    yield "input_blocks.0.1", "transformer_in"
    number = 1
    num_blocks = len(config["block_out_channels"])
    for block_idx in range(num_blocks):
        for layer_idx in range(num_layers):
            yield from _layer(f"input_blocks.{number}", f"down_blocks.{block_idx}", layer_idx)
            number += 1
        if block_idx < num_blocks - 1:
            yield f"input_blocks.{number}.op", f"down_blocks.{block_idx}.downsamplers.0.conv"
            number += 1
    yield from _layer("middle_block", "mid_block", 0)
    yield from _resnet("middle_block.3", "mid_block", 1)
    number = 0
    for block_idx, block_type in enumerate(config["up_block_types"]):
        for layer_idx in range(num_layers + 1):
            yield from _layer(f"output_blocks.{number}", f"up_blocks.{block_idx}", layer_idx)
            number += 1
        if block_idx < num_blocks - 1:
            place = 3 if block_type.startswith("CrossAttn") else 1
            yield f"output_blocks.{number - 1}.{place}.conv", f"up_blocks.{block_idx}.upsamplers.0.conv"
    yield "out.0", "conv_norm_out"
    yield "out.2", "conv_out"


def _layer(theirs: str, ours: str, layer_idx: int) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{theirs}.0", ours, layer_idx)
    yield f"{theirs}.1", f"{ours}.attentions.{layer_idx}"
    yield f"{theirs}.2", f"{ours}.temp_attentions.{layer_idx}"


def _resnet(theirs: str, ours: str, layer_idx: int) -> Iterator[tuple[str, str]]:
    for their_part, our_part in _RESNET_PARTS.items():
        yield f"{theirs}.{their_part}", f"{ours}.resnets.{layer_idx}.{our_part}"
    yield f"{theirs}.temopral_conv", f"{ours}.temp_convs.{layer_idx}"  # spelled so in their files
