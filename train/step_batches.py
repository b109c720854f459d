"""The clips of every step: which ones a process sees, and their making, here or in worker processes.

Step s takes the positions from s * batch_size on. They are split into one share for each process, and each
share into micro-batches, in order: so no position is ever seen twice, and any number of processes takes the
same clips at the same step.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from videogen.data.batch import Batch, ClipSource
from videogen.train.config import TrainConfig


def micro_batches(config: TrainConfig, step: int, process_idx: int, num_processes: int) -> list[range]:
    """The positions in the stream that a process works off in a step, one range for each micro-batch."""
    size = config.batch_size // (num_processes * config.gradient_accumulation_steps)
    first = step * config.batch_size + process_idx * size * config.gradient_accumulation_steps
    return [
        range(first + idx * size, first + (idx + 1) * size)
        for idx in range(config.gradient_accumulation_steps)
    ]


def check_split(config: TrainConfig, num_processes: int) -> None:
    """Refuse a batch that cannot be shared out evenly.

    Raises:
        ValueError: If `batch_size` is no multiple of processes times micro-batches.
    """
    parts = num_processes * config.gradient_accumulation_steps
    if config.batch_size % parts:
        raise ValueError(
            f"`batch_size` must be a multiple of {parts} ({num_processes} processes x "
            f"{config.gradient_accumulation_steps} gradient accumulation steps), got {config.batch_size}"
        )


def step_batches(
    config: TrainConfig, start: int, process_idx: int, num_processes: int, device: torch.device
) -> Generator[list[Batch]]:
    """For each step from `start` to the end of the run, this process's micro-batches, on `device`.

    With `num_data_workers`, the clips of the next steps are made meanwhile in that many processes, which end
    with the iterator, and within seconds if this process is killed.
    """
    steps = _Positions(config, start, process_idx, num_processes)
    if config.num_data_workers == 0:
        made = (config.source.batch(sample_ids, device) for sample_ids in steps)
    else:
        loader = DataLoader(
            _Clips(config.source),
            sampler=steps,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=config.num_data_workers,
            worker_init_fn=_ignore_stop_signals,
            generator=torch.Generator(),  # else it draws from the global one
        )
        made = (to_device(batch, device) for batch in loader)
    for _ in range(start, config.num_steps):
        yield [next(made) for _ in range(config.gradient_accumulation_steps)]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with all its tensors on a device."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    moved: dict[str, Any] = {
        name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
    }
    return dataclasses.replace(batch, **moved)


class _Positions:
    """The positions of all micro-batches of a process, in the order of training."""

    def __init__(self, config: TrainConfig, start: int, process_idx: int, num_processes: int) -> None:
        self.config = config
        self.start = start
        self.share = process_idx, num_processes

    def __iter__(self) -> Iterator[range]:
        for step in range(self.start, self.config.num_steps):
            yield from micro_batches(self.config, step, *self.share)


class _Clips(Dataset[Batch]):
    """A source as a worker process sees it: always on the CPU."""

    def __init__(self, source: ClipSource) -> None:
        self.source = source

    def __getitem__(self, sample_ids: Sequence[int]) -> Batch:
        return self.source.batch(sample_ids)


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_stop_signals(worker_idx: int) -> None:
    """Ctrl-C reaches all processes of a group, but the training process still wants clips to end its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
