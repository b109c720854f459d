"""What a run tells while it goes on: a bar with loss and time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from videogen.train.config import TrainConfig

_LINE_SECONDS = 30.0


class Progress:
    """Reports the steps of one run; a context manager.

    Args:
        config: Of the run.
        start: Steps done before.
        device: What the run computes on.
        shown: Whether this process reports at all.
    """

    def __init__(self, config: TrainConfig, start: int, device: torch.device, *, shown: bool) -> None:
        self.config = config
        self.start = start
        self.device = device
        self.shown = shown
        self.started = time.monotonic()
        self.last_line = -float("inf")
        self.first_step_ended: float | None = None
        self.console = Console()
        self.bar = RichProgress(
            TextColumn(config.name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[report]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self.task = self.bar.add_task("", total=config.num_steps, completed=start, report="")

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def announce(self, text: str) -> None:
        """Print a line above the bar."""
        if self.shown:
            self.console.print(f"{self.config.name}: {text}", markup=False, highlight=False, soft_wrap=True)

    def stepped(self, step: int) -> None:
        """Tell, once, how long the run will take: by its second step, since the first one warms up."""
        if step == self.start + 1:
            self.first_step_ended = time.monotonic()
        elif step == self.start + 2 and self.first_step_ended is not None:
            seconds = time.monotonic() - self.first_step_ended
            left = clock(seconds * (self.config.num_steps - step))
            peak = peak_memory(self.device)
            memory = "" if peak is None else f", {peak / 2**30:.1f} GiB of memory at its peak"
            self.announce(f"{seconds:.2g} s a step, about {left} for the run{memory}")

    def update(self, step: int, line: dict[str, Any]) -> None:
        """Report a logged line."""
        if not self.shown:
            return
        per_step = (time.monotonic() - self.started) / max(step - self.start, 1)
        left = per_step * (self.config.num_steps - step)
        losses = "  ".join(f"{name} {value:.4g}" for name, value in line.items() if name != "step")
        report = f"{losses}  {self.config.batch_size / per_step:.1f} clips/s  {clock(left)} left"
        if self.console.is_terminal:
            self.bar.update(self.task, completed=step, report=report)
        elif time.monotonic() - self.last_line > _LINE_SECONDS or step == self.config.num_steps:
            self.last_line = time.monotonic()
            print(f"{self.config.name} {step}/{self.config.num_steps}  {report}", flush=True)


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak so far: allocated on a CUDA device, else of the process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform != "linux":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def clock(seconds: float) -> str:
    """`h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
