"""Whether a run that is killed and resumed equals one that is not: both are run, and all they leave compared.

The runs are processes of their own, started by `python -m videogen.train.verify`, since nothing else can be
killed as a real run is: at once, with no chance to tidy up.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from videogen.train.checkpoint import list_checkpoints, load_checkpoint
from videogen.train.config import TrainConfig
from videogen.train.recipes import config_of
from videogen.train.run_log import RunLog
from videogen.train.step_batches import check_split


@dataclass(frozen=True)
class Trial:
    """What is run, and where it is killed.

    Attributes:
        recipe: Name of a recipe, or `module:function`.
        num_steps: Steps of the whole run; the schedule is shortened with it.
        kill_at: The step after which all processes are killed; the last checkpoint is one step older, so that
            a step is lost and done again.
        num_processes: Training processes.
        overrides: Other settings of the recipe to change, by name.
        cpu: Whether to leave an accelerator unused.
    """

    recipe: str
    num_steps: int = 6
    kill_at: int = 4
    num_processes: int = 1
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    cpu: bool = True

    def __post_init__(self) -> None:
        """Refuse a kill that leaves nothing to resume from or to go on with."""
        if not 2 <= self.kill_at < self.num_steps:
            raise ValueError(
                f"`kill_at` must be at least 2 and below `num_steps`, got {self.kill_at} of {self.num_steps}"
            )
        if self.num_processes < 1:
            raise ValueError(f"`num_processes` must be at least 1, got {self.num_processes}")

    def config(self) -> TrainConfig:
        """The recipe, shortened, with every step in its log.

        Raises:
            ValueError: If there is no such recipe, or an override cannot be.
        """
        return dataclasses.replace(
            config_of(self.recipe).with_num_steps(self.num_steps),
            log_every=1,
            checkpoint_every=self.kill_at - 1,
            preview_every=0,
            **self.overrides,
        )


def verify_resume(trial: Trial, folder: Path, tell: Callable[[str], None] = print) -> list[str]:
    """Run a trial straight, and again with a kill and a resume; returns what differs between them.

    Args:
        trial: What to run.
        folder: Where to; it gets two runs, `straight` and `resumed`.
        tell: Called with what is being done.

    Raises:
        ValueError: If the recipe cannot be run as asked.
        RuntimeError: If a run fails, or ends before it can be killed; the message has its last words.
    """
    check_split(trial.config(), trial.num_processes)
    straight, resumed = folder / "straight", folder / "resumed"
    tell(f"{trial.num_steps} steps straight")
    _start(trial, straight)
    tell(f"again, until all processes are killed after step {trial.kill_at}")
    _start(trial, resumed, kill_at=trial.kill_at)
    tell("the same command once more, to go on")
    _start(trial, resumed)
    return list(differences(straight, resumed))


def differences(first: Path, second: Path) -> Iterator[str]:
    """What differs, in any bit, between the ends of two runs: one line each.

    Compared are the newest checkpoints (weights, averages, optimizers with their learning rates, generators),
    the logs except for times, and the weights in the results.

    Raises:
        ValueError: If a run has no checkpoint, or one that cannot be read.
    """
    ends = []
    for folder in (first, second):
        found = list_checkpoints(folder / "checkpoints")
        if not found:
            raise ValueError(f"there is no checkpoint in {folder}")
        ends.append(found[-1])
    yield from checkpoint_differences(*ends)
    yield from _compare(RunLog(first).numbers(), RunLog(second).numbers(), "log")
    results = [
        {path.relative_to(folder).as_posix(): _content(path) for path in folder.rglob("*.safetensors")}
        for folder in (first / "result", second / "result")
    ]
    yield from _compare(results[0], results[1], "result")


def checkpoint_differences(first: Path, second: Path) -> Iterator[str]:
    """What differs, in any bit, between two checkpoints: one line each.

    Raises:
        ValueError: If one of them cannot be read.
    """
    one, other = load_checkpoint(first), load_checkpoint(second)
    for name in ("step", "weights", "ema", "optimizers", "random", "score"):
        yield from _compare(getattr(one, name), getattr(other, name), name)


def _compare(first: Any, second: Any, name: str) -> Iterator[str]:
    if type(first) is not type(second):
        yield f"{name}: {first!r} and {second!r}"
    elif isinstance(first, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            yield f"{name}: {tuple(first.shape)} {first.dtype} and {tuple(second.shape)} {second.dtype}"
        elif not torch.equal(_bits(first), _bits(second)):
            distance = (first.double() - second.double()).abs().max().item()
            yield f"{name}: differs by up to {distance:.3g}"
    elif isinstance(first, dict):
        for key in sorted(first.keys() | second.keys(), key=str):
            if key in first and key in second:
                yield from _compare(first[key], second[key], f"{name}.{key}")
            else:
                yield f"{name}.{key}: only in the {'first' if key in first else 'second'} run"
    elif isinstance(first, list | tuple):
        if len(first) != len(second):
            yield f"{name}: {len(first)} and {len(second)} entries"
        for idx, (one, other) in enumerate(zip(first, second, strict=False)):
            yield from _compare(one, other, f"{name}[{idx}]")
    elif first != second:
        yield f"{name}: {first!r} and {second!r}"


def _content(path: Path) -> dict[str, Any]:
    """Tensors and notes of a file: its bytes may differ, as the notes in its header come in any order."""
    with safe_open(path, framework="pt") as file:
        return {"header": file.metadata(), **{name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118


def _bits(tensor: Tensor) -> Tensor:
    """The tensor as bytes: in numbers, 0 equals -0, and NaN nothing."""
    return tensor.contiguous().flatten().view(torch.uint8)


def _start(trial: Trial, folder: Path, kill_at: int = 0) -> None:
    """Run a trial in processes of its own, to its end or its kill."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={trial.num_processes}"]
    arguments = [json.dumps(dataclasses.asdict(trial)), str(folder), str(kill_at)]
    command = [sys.executable, *(launcher if trial.num_processes > 1 else []), "-m", __name__, *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    num_steps = len(RunLog(folder).lines())
    if num_steps != kill_at if kill_at else done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"(\[rank\d+\]: *)?[\w.]+Error: ", line)]
        last = ["nothing was printed", *lines[-1:], *errors][-1]
        raise RuntimeError(f"a run ended with status {done.returncode} after {num_steps} steps: {last}")


def main() -> None:
    """One run of a trial; arguments: the trial as JSON, the folder, the step to be killed after (0: none)."""
    trial, folder, kill_at = Trial(**json.loads(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
    from videogen.train.loop import train

    def kill(step: int) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    train(trial.config(), folder, cpu=trial.cpu, on_step=kill)


if __name__ == "__main__":
    main()
