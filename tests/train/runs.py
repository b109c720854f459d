"""Tiny runs for the tests of training, and processes to run, share and kill them in.

Processes come from a fork server that has imported torch already, so that one starts in no time.
"""

import dataclasses
import multiprocessing
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import TINY_CODEC
from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.train.checkpoint import Checkpoint, list_checkpoints, load_checkpoint
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.codec import CodecObjectiveConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, UNet3DConfig, UViTConfig
from videogen.train.run_log import RunLog
from videogen.train.verify import differences

UVIT = UViTConfig(conv_dim=8, num_conv_blocks=1, hidden_size=32, num_layers=1, num_attention_heads=2)
UNET3D = UNet3DConfig(block_out_channels=(32, 32), layers_per_block=1, attention_head_dim=16)
CLIPS = ShapesClips(world="shapes-mini", num_frames=4, size=16)
FAMILIES = ("uvit", "unet3d", "codec")

_FORK_SERVER = multiprocessing.get_context("forkserver")
_FORK_SERVER.set_forkserver_preload(["tests.train.runs"])


def run_config(family: str, codec_folder: Path, **changes: Any) -> TrainConfig:
    """A run of eight steps of each kind of network and objective that there is."""
    settings: dict[str, Any] = {
        "num_steps": 8, "batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 2, "decay_steps": 3,
        "weight_decay": 0.01, "ema_decay": 0.9, "log_every": 1, "checkpoint_every": 3, "preview_every": 0,
    }  # fmt: skip
    settings |= changes
    if family == "codec":
        source = ShapesCrops(ShapesClips(world="shapes-mini", num_frames=4, size=32), size=16)
        return TrainConfig("test", CodecObjectiveConfig(**TINY_CODEC), source, **settings)
    objective = DiffusionObjectiveConfig(
        codec=str(codec_folder),
        network=UVIT if family == "uvit" else UNET3D,  # which has dropout
        text_dim=16,
        text_layers=1,
        caption_dropout=0.3,
    )
    return TrainConfig("test", objective, CLIPS, **settings)


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The log of a run, without what may differ."""
    return RunLog(folder).numbers()


def newest(folder: Path) -> Checkpoint:
    return load_checkpoint(list_checkpoints(folder / "checkpoints")[-1])


def names(folder: Path) -> list[str]:
    """Of all that is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def assert_same_end(first: Path, second: Path) -> None:
    assert not list(differences(first, second))


def assert_close_end(first: Path, second: Path) -> None:
    """The same up to the order in which numbers are added: losses, gradients and matrices.

    A bias before a normalisation has no say, and so a gradient of rounding errors alone, of which AdamW makes
    whole steps. No other vector could be wrong without a matrix that feels it.
    """
    for one, other in zip(log_of(first), log_of(second), strict=True):
        assert one["step"] == other["step"] and one["lr"] == other["lr"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)
    _assert_close(_mean_gradients(first), _mean_gradients(second), 1e-5)
    matrices, others = (
        [value for _, value in sorted(newest(folder).weights.items()) if value.ndim > 1]
        for folder in (first, second)
    )
    _assert_close(matrices, others, 3e-5)


def _mean_gradients(folder: Path) -> list[Tensor]:
    """What the optimizer remembers of the gradients of all steps, parameter by parameter."""
    state = newest(folder).optimizers["train"]["state"]
    means = [entry.get("momentum_buffer", entry.get("exp_avg")) for _, entry in sorted(state.items())]
    assert all(mean is not None for mean in means)
    return means


def _assert_close(tensors: list[Tensor], others: list[Tensor], tolerance: float) -> None:
    """By the norm of all together."""
    distance = sum((one - other).square().sum() for one, other in zip(tensors, others, strict=True))
    assert distance < tolerance**2 * sum(tensor.square().sum() for tensor in tensors)


@dataclasses.dataclass(frozen=True)
class Fate:
    """What befalls a training process.

    Attributes:
        kill_at: The step after which it is killed; 0 for never.
        kill_in_checkpoint: The step whose checkpoint is half written when it is killed.
        full_disk_at: The step after which no file may be larger than a few bytes.
    """

    kill_at: int = 0
    kill_in_checkpoint: int = 0
    full_disk_at: int = 0


SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
"""The environment in which several processes hold a part of the weights each."""


def start(
    config: TrainConfig,
    folder: Path,
    fate: Fate | None = None,
    num_processes: int = 1,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> list[ForkServerProcess]:
    """Start a run in one or more processes that share it."""
    return start_processes(_train, (config, folder, fate or Fate()), num_processes, environment)


def start_processes(
    work: Callable[..., None], arguments: Sequence[Any], num_processes: int, environment: Mapping[str, str]
) -> list[ForkServerProcess]:
    """Start some work in one or more processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(num_processes):
        world = {} if num_processes == 1 else {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_processes),
            "LOCAL_WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        process = _FORK_SERVER.Process(target=_work, args=(work, arguments, {**world, **environment}))
        process.start()
        processes.append(process)
    return processes


def finish(processes: list[ForkServerProcess]) -> list[int | None]:
    """Wait for processes; returns their exit statuses, minus the signal's number for a killed one."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def run(
    config: TrainConfig,
    folder: Path,
    fate: Fate | None = None,
    num_processes: int = 1,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """A run in processes of its own, to its end or its kill."""
    statuses = finish(start(config, folder, fate, num_processes, environment))
    if fate is None:
        assert statuses == [0] * num_processes, statuses
    elif fate.full_disk_at:
        assert 0 not in statuses and -signal.SIGKILL not in statuses
    else:
        assert -signal.SIGKILL in statuses and 0 not in statuses


def _work(work: Callable[..., None], arguments: Sequence[Any], environment: dict[str, str]) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of data workers: the default, except in here
    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)


def _train(config: TrainConfig, folder: Path, fate: Fate) -> None:
    write, steps = torch.save, [0]

    def on_step(step: int) -> None:
        steps.append(step)
        if step == fate.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == fate.full_disk_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))

    def save_half(state: Any, path: Path) -> None:
        write(state, path)
        if steps[-1] == fate.kill_in_checkpoint:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half  # type: ignore[assignment]
    try:
        train(config, folder, cpu=True, on_step=on_step)
    except OSError as error:
        (folder / "error").write_text(str(error))
        raise
