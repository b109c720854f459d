"""Weights in parts: torch's FSDP2 spreads what is trained over processes; it is gathered to be written down.

Each process holds its part of the trained weights, of their gradients and averages and of the optimizer's
moments, as DTensors; the whole weights are there from the forward to the backward pass of a step. The
objective is one unit, since networks call parts of their blocks outside of their `forward`, where FSDP2 would
not notice. What is frozen is whole everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from videogen.train.config import TrainConfig

_ASKED, _VERSION = "ACCELERATE_USE_FSDP", "FSDP_VERSION"
_REFUSED = ("FSDP_OFFLOAD_PARAMS", "FSDP_ACTIVATION_CHECKPOINTING", "FSDP_CPU_RAM_EFFICIENT_LOADING")
_GATHERED_BYTES = 2**28
"""Of whole tensors, at most in one exchange, if it is not one tensor alone."""

_Value = TypeVar("_Value")


@contextmanager
def sharding_asked_for(config: TrainConfig) -> Iterator[bool]:
    """Gives whether accelerate's configuration, or the environment, asks for FSDP2.

    Within, accelerate is not asked: on a CPU it would pass over it in silence, and elsewhere shard frozen
    weights too, and only a model that comes with one optimizer.

    Raises:
        ValueError: If what is asked for is not offered.
    """
    asked = os.environ.get(_ASKED, "false")
    if asked.lower() != "true":
        yield False
        return
    version = os.environ.get(_VERSION, "1")
    if version != "2":
        raise ValueError(f"`fsdp_version` in accelerate's configuration must be 2, got {version}")
    for name in _REFUSED:
        if os.environ.get(name, "false").lower() == "true":
            raise ValueError(f"`{name.lower()}` in accelerate's configuration must be false, got true")
    if config.optimizer != "adamw":
        raise ValueError(
            f"`optimizer` must be 'adamw' with FSDP, got {config.optimizer!r}: Muon turns whole matrices, of "
            "which a process has a part only"
        )
    os.environ[_ASKED] = "false"
    try:
        yield True
    finally:
        os.environ[_ASKED] = asked


def shard(objective: nn.Module, accelerator: Accelerator) -> FSDPModule:
    """Spread the trained parameters of an objective over the processes, in place; each must do so.

    Buffers are whole, and before each forward pass those of the main process, as with DDP.
    """
    placed = accelerator.prepare_model(objective, evaluation_mode=True)  # on its device, in its precision
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    frozen = {parameter for parameter in placed.parameters() if not parameter.requires_grad}
    placed.register_forward_pre_hook(_share_buffers)
    return fully_shard(placed, mesh=mesh, ignored_params=frozen)


def _share_buffers(module: nn.Module, arguments: Any) -> None:
    for buffer in module.buffers():
        dist.broadcast(buffer, src=0)


@torch.no_grad()
def whole(value: _Value) -> _Value:
    """Tensors, in any dicts and lists, with those that are in parts gathered; each process must do so."""
    found: list[DTensor] = []
    _with_parts(value, found.append)
    gathered = {id(tensor): full for tensor, full in zip(found, _gather(found), strict=True)}
    result: _Value = _with_parts(value, lambda tensor: gathered[id(tensor)])
    return result


def _with_parts(value: Any, change: Callable[[DTensor], Any]) -> Any:
    """The same dicts and lists, with each tensor that is in parts changed."""
    if isinstance(value, DTensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _with_parts(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_parts(inner, change) for inner in value]
    return value


def _gather(tensors: Sequence[DTensor]) -> list[Tensor]:
    """Whole tensors, many in one exchange: a network has hundreds, most of them small."""
    results: list[Tensor] = []
    group: list[DTensor] = []
    num_bytes = 0
    for tensor in tensors:
        is_cut = tensor.placements == (Shard(0),)
        fits = is_cut and num_bytes + tensor.nbytes <= _GATHERED_BYTES
        if group and not (fits and tensor.dtype == group[0].dtype):
            results += _gather_together(group)
            group, num_bytes = [], 0
        if is_cut:
            group.append(tensor)
            num_bytes += tensor.nbytes
        else:
            results.append(tensor.full_tensor())  # a sum over the processes, such as a norm
    return results + (_gather_together(group) if group else [])


def _gather_together(tensors: Sequence[DTensor]) -> list[Tensor]:
    """Whole tensors of one dtype, cut along their first axis, in one exchange."""
    mesh = tensors[0].device_mesh
    sizes = [[_part_size(tensor, rank) for tensor in tensors] for rank in range(mesh.size())]
    longest = max(map(sum, sizes))
    sent = torch.cat([tensor.to_local().flatten() for tensor in tensors])
    received = sent.new_empty(mesh.size() * longest)
    dist.all_gather_into_tensor(
        received, nn.functional.pad(sent, (0, longest - len(sent))), group=mesh.get_group()
    )
    parts = [row[: sum(size)].split(size) for row, size in zip(received.split(longest), sizes, strict=True)]
    return [torch.cat(pieces).view(tensor.shape) for tensor, *pieces in zip(tensors, *parts, strict=True)]


def _part_size(tensor: DTensor, rank: int) -> int:
    """Numbers of a tensor that a process holds: rows as `torch.chunk` deals them out."""
    chunk = -(-tensor.shape[0] // tensor.device_mesh.size())
    num_rows = min(max(tensor.shape[0] - rank * chunk, 0), chunk)
    return num_rows * tensor.shape[1:].numel()


def held_as(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's part of a whole tensor, if another one of its shape is in parts."""
    if not isinstance(other, DTensor):
        return tensor
    mesh, placements = other.device_mesh, other.placements
    return distribute_tensor(tensor.to(other.device), mesh, placements, src_data_rank=None)


def bytes_held(tensor: Tensor) -> int:
    """Bytes of a tensor in this process."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes
