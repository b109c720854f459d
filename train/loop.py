"""The training loop: one for every family, on one process or many, stopped and resumed without a trace.

Whatever is random in a step follows from the seed and from the clips' positions in the stream, and step s
always sees the positions from s * batch_size on. So a run has no hidden state besides weights, averages and
optimizers. `run.py` holds that state and does a step, `step_batches.py` makes its clips, `checkpoint.py`
writes the state down, and `resume.py` decides what a run goes on from.
"""

from __future__ import annotations

import math
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available

from videogen.folder_lock import locked
from videogen.train.config import TrainConfig
from videogen.train.progress import Progress
from videogen.train.rehearsal import rehearse
from videogen.train.resume import steps_done
from videogen.train.run import Run
from videogen.train.sharding import sharding_asked_for
from videogen.train.step_batches import check_split, step_batches


@dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended.

    Attributes:
        step: Optimizer steps done, over all calls.
        finished: Whether that is the whole run.
        folder: Where the run's files are.
    """

    step: int
    finished: bool
    folder: Path


def train(
    config: TrainConfig,
    output_dir: Path,
    *,
    tracker: str | None = None,
    cpu: bool = False,
    max_minutes: float | None = None,
    rehearsed: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> TrainResult:
    """Run a recipe, or go on with it from the newest checkpoint in `output_dir`.

    The folder receives `config.json`, `log.jsonl`, `checkpoints/`, `previews/` and, from every checkpoint on,
    `result/`: the weights averaged over the run so far, loadable by the library.

    Args:
        config: What to train.
        output_dir: The run's folder.
        tracker: `tensorboard` to log through accelerate as well.
        cpu: Whether to leave an accelerator unused.
        max_minutes: Stop after this time, with a checkpoint, to be resumed by the same call.
        rehearsed: Whether to make two steps first that are thrown away, and tell what memory and time the
            run will take before it begins.
        on_step: Called in every process after each step, before its checkpoint, with the steps done so far.

    Raises:
        ValueError: If the batch cannot be split over the processes, they are to share weights in a way that
            is not offered, the tracker is unknown or not installed, `max_minutes` is negative, `output_dir`
            cannot be a folder or be written to, or another process trains in it, or the newest checkpoint
            belongs to another run. Also if processes were launched that cannot find each other.
        FloatingPointError: If a loss or a gradient is not finite; nothing is written then.
        OSError: If something cannot be written; the last checkpoint is intact then.
    """
    if tracker not in (None, "tensorboard"):  # accelerate passes over one that is not installed
        raise ValueError(f"`tracker` must be 'tensorboard' or None, got {tracker!r}")
    if max_minutes is not None and not max_minutes >= 0:
        raise ValueError(f"`max_minutes` must be at least 0, got {max_minutes}")
    _check_folder(output_dir)
    if tracker == "tensorboard" and not is_tensorboard_available():
        raise ValueError("`tracker` is 'tensorboard', which is not installed: pip install 'videogen[train]'")
    num_launched = _check_launch()
    with sharding_asked_for(config) as asked:
        accelerator = Accelerator(
            # A launcher's processes find each other on a CPU only if they are told to stay there.
            cpu=cpu or (num_launched > 1 and not torch.accelerator.is_available()),
            mixed_precision=config.mixed_precision,
            log_with=tracker,
            project_dir=output_dir if tracker else None,
        )
    if accelerator.num_processes != num_launched:
        raise ValueError(
            f"{num_launched} processes were launched (WORLD_SIZE), but accelerate sees "
            f"{accelerator.num_processes}: each would train the whole run by itself. Add --cpu, or launch one"
        )
    check_split(config, accelerator.num_processes)
    with locked(output_dir, "output_dir") if accelerator.is_main_process else nullcontext():
        return _train(
            config,
            output_dir,
            accelerator,
            sharded=asked and accelerator.num_processes > 1,
            tracker=tracker,
            max_minutes=max_minutes,
            rehearsed=rehearsed,
            on_step=on_step,
        )


def _train(
    config: TrainConfig,
    output_dir: Path,
    accelerator: Accelerator,
    *,
    sharded: bool,
    tracker: str | None,
    max_minutes: float | None,
    rehearsed: bool,
    on_step: Callable[[int], None] | None,
) -> TrainResult:
    rehearsal = None
    if rehearsed and steps_done(config, output_dir / "checkpoints") < config.num_steps:
        rehearsal = rehearse(config, accelerator, sharded=sharded)
    run = Run(config, output_dir, accelerator, sharded=sharded)
    start = run.resume()
    if tracker:
        accelerator.init_trackers(config.name)
    run.write_config()

    deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    step = start
    batches = step_batches(
        config, start, accelerator.process_index, accelerator.num_processes, accelerator.device
    )
    with (
        _stop_signals() as stopped,
        closing(batches),
        Progress(config, start, accelerator.device, shown=accelerator.is_main_process) as progress,
    ):
        if step < config.num_steps:
            progress.announce(run.describe())
            if rehearsal is not None:
                progress.announce(rehearsal.describe(config.num_steps - step))
            if step == 0 and config.preview_every and run.objective.preview_first:
                run.preview(0, progress)
        for parts in batches:
            losses = run.step(step, parts)
            step += 1
            if step % config.log_every == 0 or step == config.num_steps:
                run.log(step, losses, progress)
            progress.stepped(step)
            if on_step is not None:
                on_step(step)
            stopping = run.agree(bool(stopped) or time.monotonic() > deadline)
            if stopping or step % config.checkpoint_every == 0 or step == config.num_steps:
                run.checkpoint(step)
            if config.preview_every and (step % config.preview_every == 0 or step == config.num_steps):
                run.preview(step, progress)
            if stopping:
                break
    if tracker:
        accelerator.end_training()
    accelerator.wait_for_everyone()  # the main process writes the last files
    return TrainResult(step, step == config.num_steps, output_dir)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, as long as nothing has been computed for it."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"`output_dir` must be a folder, got {str(folder)!r}: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"`output_dir` must be writable, got {str(folder)!r}: {nearest} is not")


def _check_launch() -> int:
    """Refuse, or name, what a launcher asks for and accelerate would pass over in silence.

    Returns:
        The number of processes that were launched, at least 1.
    """
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise ValueError(
                f"`{name}` in accelerate's configuration must be off, got on: processes share clips (DDP), "
                "or weights too (FSDP, version 2)"
            )
    if "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        warnings.warn(
            "this process was started for several (MASTER_ADDR is set) and is alone (WORLD_SIZE is not): "
            "`accelerate launch --cpu` starts one; use `torchrun --nproc_per_node N` for N on a CPU",
            stacklevel=3,
        )
    size = os.environ.get("WORLD_SIZE", "1")
    if not re.fullmatch("[1-9][0-9]*", size):
        raise ValueError(
            f"WORLD_SIZE must be the number of processes that were launched, got {size!r}: unset it"
        )
    return int(size)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and termination, so that a run ends with a checkpoint and not in the midst of a step.

    Outside the main thread, where no signal arrives, the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
