"""What a run will take, found out by two steps that are thrown away."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from videogen.train.config import TrainConfig
from videogen.train.progress import clock, peak_memory
from videogen.train.run import Run
from videogen.train.step_batches import step_batches


@dataclass(frozen=True)
class Rehearsal:
    """What a step took.

    Attributes:
        seconds_per_step: Of the second step; the first one warms up.
        peak_bytes: Memory of this process at its peak: of the device, or of the whole process on a CPU. None
            where the system does not tell.
    """

    seconds_per_step: float
    peak_bytes: int | None

    def describe(self, num_steps: int) -> str:
        """One line: memory, seconds a step, and the time for so many steps."""
        memory = "" if self.peak_bytes is None else f"{self.peak_bytes / 2**30:.2f} GiB of memory, "
        duration = clock(self.seconds_per_step * num_steps)
        return f"{memory}{self.seconds_per_step:.2g} s a step, about {duration} for {num_steps} steps"


def rehearse(config: TrainConfig, accelerator: Accelerator, *, sharded: bool = False) -> Rehearsal:
    """Make the first two steps of a run and forget them.

    Nothing is written, and a `Run` that is made afterwards begins as if this had not been: it sets the seed.

    Args:
        config: Of the run.
        accelerator: See `Run`.
        sharded: See `Run`.

    Raises:
        ValueError: If the run cannot be built.
        FloatingPointError: If a loss or a gradient is not finite.
    """
    rank, count, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    with tempfile.TemporaryDirectory(prefix="videogen-rehearsal-") as scratch:
        config = dataclasses.replace(config, num_steps=max(config.num_steps, 2), num_data_workers=0)
        run = Run(config, Path(scratch), accelerator, sharded=sharded)
        batches = step_batches(config, 0, rank, count, device)
        times = []
        for step in range(2):
            parts = next(batches)
            start = time.perf_counter()
            run.step(step, parts)
            _synchronize(device)
            times.append(time.perf_counter() - start)
        batches.close()
        result = Rehearsal(times[-1], peak_memory(device))
    del run, parts
    accelerator.free_memory()
    gc.collect()
    return result


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
