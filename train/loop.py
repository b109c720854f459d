"""The training loop: one for every family, on one process or many, stopped and resumed without a trace.

Whatever is random in a step follows from the seed and from the clips' positions in the stream, and step s
always sees the positions from s * batch_size on. So a run has no hidden state besides weights, averages and
optimizers.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available, set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from videogen.io import write_clip
from videogen.train.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from videogen.train.config import TrainConfig
from videogen.train.objectives.base import Objective
from videogen.train.optimizer import MuonAdamW
from videogen.train.progress import Progress


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

    Raises:
        ValueError: If the batch cannot be split over the processes, the tracker is not installed, or the
            newest checkpoint belongs to another run.
        FloatingPointError: If a loss or a gradient is not finite; nothing is written then.
    """
    if tracker == "tensorboard" and not is_tensorboard_available():
        raise ValueError("`tracker` is 'tensorboard', which is not installed: pip install 'videogen[train]'")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=config.mixed_precision,
        log_with=tracker,
        project_dir=output_dir if tracker else None,
    )
    num_processes = accelerator.num_processes
    if config.batch_size % num_processes:
        raise ValueError(
            f"`batch_size` must be a multiple of the {num_processes} processes, got {config.batch_size}"
        )
    run = _Run(config, output_dir, accelerator)
    start = run.resume()
    if tracker:
        accelerator.init_trackers(config.name)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "config.json").write_text(json.dumps(config.resolved(), indent=2))

    deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    step = start
    with _stop_signals() as stopped, Progress(config, start, shown=accelerator.is_main_process) as progress:
        while step < config.num_steps:
            losses = run.step(step)
            step += 1
            if step % config.log_every == 0 or step == config.num_steps:
                run.log(step, losses, progress)
            stopping = run.agree(bool(stopped) or time.monotonic() > deadline)
            if stopping or step % config.checkpoint_every == 0 or step == config.num_steps:
                run.checkpoint(step)
            if config.preview_every and (step % config.preview_every == 0 or step == config.num_steps):
                run.preview(step)
            if stopping:
                break
    if tracker:
        accelerator.end_training()
    return TrainResult(step, step == config.num_steps, output_dir)


class _Run:
    """The state of a run in this process."""

    def __init__(self, config: TrainConfig, folder: Path, accelerator: Accelerator) -> None:
        self.config = config
        self.folder = folder
        self.accelerator = accelerator
        set_seed(config.seed)
        self.objective: Objective = config.objective.build()
        optimizers = {
            phase: MuonAdamW(
                self.objective.trained_parameters(phase),
                config.learning_rate,
                weight_decay=config.weight_decay,
                adamw_scales=self.objective.adamw_scales,
            )
            for phase in self.objective.phases
        }
        self.wrapped: nn.Module = accelerator.prepare(self.objective)
        self.optimizers = {phase: accelerator.prepare(optimizer) for phase, optimizer in optimizers.items()}
        self.ema = EMAModel(
            self._trained(), decay=config.ema_decay, use_ema_warmup=True, power=0.9, foreach=True
        )
        self.ema.to(accelerator.device)

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one; returns the number of steps done."""
        found = list_checkpoints(self.folder / "checkpoints")
        if not found:
            return 0
        checkpoint = load_checkpoint(found[-1])
        shapes = {name: value.shape for name, value in self._state().items()}
        if shapes != {name: value.shape for name, value in checkpoint.weights.items()}:
            raise ValueError(
                f"checkpoint {found[-1]} belongs to another network: choose another output folder"
            )
        self.objective.load_state_dict(checkpoint.weights, strict=False)
        for phase, optimizer in self.optimizers.items():
            optimizer.load_state_dict(checkpoint.optimizers[phase])
        averages = [checkpoint.ema[name] for name, _ in self._named_trained()]
        for shadow, average in zip(self.ema.shadow_params, averages, strict=True):
            shadow.data.copy_(average)
        self.ema.optimization_step = checkpoint.step
        if self.accelerator.is_main_process:
            self._forget_log_after(checkpoint.step)
        return checkpoint.step

    def step(self, step: int) -> dict[str, Tensor]:
        """One optimizer step of every phase; returns the losses of this process."""
        config, accelerator = self.config, self.accelerator
        share = config.batch_size // accelerator.num_processes
        first = step * config.batch_size + accelerator.process_index * share
        batch = config.source.batch(range(first, first + share), accelerator.device)
        logged: dict[str, Tensor] = {}
        for phase, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            losses = self.wrapped(batch, phase)
            if not math.isfinite(losses["loss"].item()):
                raise FloatingPointError(
                    f"the loss of phase {phase!r} is {losses['loss'].item()} at step {step}"
                )
            accelerator.backward(losses["loss"])
            parameters = [parameter for _, parameter in self.objective.trained_parameters(phase)]
            losses["grad_norm"] = accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
            if not math.isfinite(losses["grad_norm"].item()):
                raise FloatingPointError(f"the gradient of phase {phase!r} is not finite at step {step}")
            optimizer.step()
            self.wrapped.zero_grad()  # also of what another phase trains
            prefix = f"{phase}_" if len(self.optimizers) > 1 else ""
            logged.update({prefix + name: value.detach() for name, value in losses.items()})
        self.ema.step(self._trained())
        return logged

    def log(self, step: int, losses: dict[str, Tensor], progress: Progress) -> None:
        """Write a line of the log: losses averaged over the processes."""
        names = sorted(losses)
        stacked = torch.stack([losses[name].float() for name in names])
        values = self.accelerator.reduce(stacked, "mean").tolist()
        learning_rate = self.config.learning_rate_at(step - 1)
        line = {"step": step, "lr": learning_rate, **dict(zip(names, values, strict=True))}
        if self.accelerator.is_main_process:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps({**line, "time": time.time()}) + "\n")
            progress.update(step, line)
        self.accelerator.log(line, step=step)

    def checkpoint(self, step: int) -> None:
        """Write a checkpoint, and the result so far with averaged weights."""
        if not self.accelerator.is_main_process:
            return
        names = [name for name, _ in self._named_trained()]
        ema = dict(zip(names, self.ema.shadow_params, strict=True))
        optimizers = {phase: optimizer.state_dict() for phase, optimizer in self.optimizers.items()}
        save_checkpoint(
            self.folder / "checkpoints",
            Checkpoint(step, self._state(), ema, optimizers),
            self.config.resolved(),
            self.config.keep_checkpoints,
        )
        partial, result = self.folder / ".result.partial", self.folder / "result"
        shutil.rmtree(partial, ignore_errors=True)
        with self._averaged():
            self.objective.save(partial)
        shutil.rmtree(result, ignore_errors=True)
        partial.rename(result)

    def preview(self, step: int) -> None:
        """Write preview clips made with the averaged weights."""
        if not self.accelerator.is_main_process:
            return
        folder = self.folder / "previews" / f"step-{step:07d}"
        folder.mkdir(parents=True, exist_ok=True)
        with self._averaged():
            for number, (caption, frames) in enumerate(self.objective.preview()):
                write_clip(frames, folder / f"{number}.webp", recipe={"prompt": caption, "step": step})

    def _forget_log_after(self, step: int) -> None:
        """Drop what a run that was killed logged after its last checkpoint: those steps are done again."""
        path = self.folder / "log.jsonl"
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))

    def agree(self, stopping: bool) -> bool:
        """Whether any process wants to stop."""
        if self.accelerator.num_processes == 1:
            return stopping
        votes = torch.tensor([float(stopping)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(votes, "sum").item())

    def _named_trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self.objective.named_parameters() if value.requires_grad]

    def _trained(self) -> list[nn.Parameter]:
        return [value for _, value in self._named_trained()]

    def _state(self) -> dict[str, Tensor]:
        """Trained parameters, and the buffers beside them."""
        frozen = {name for name, value in self.objective.named_parameters() if not value.requires_grad}
        return {name: value for name, value in self.objective.state_dict().items() if name not in frozen}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within, the objective has its averaged weights and is in evaluation mode."""
        self.ema.store(self._trained())
        self.ema.copy_to(self._trained())
        self.objective.eval()
        try:
            yield
        finally:
            self.objective.train()
            self.ema.restore(self._trained())


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
