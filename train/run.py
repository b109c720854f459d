"""The state of a run in one process: networks, optimizers and averages; a step, its log, its checkpoint."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from videogen import __version__
from videogen.data.batch import Batch
from videogen.files import remove_leftovers, write_json, written_whole
from videogen.io import write_clip
from videogen.train.checkpoint import Checkpoint, Score, fingerprint, save_checkpoint
from videogen.train.config import TrainConfig
from videogen.train.objectives.base import Objective
from videogen.train.optimizer import MuonAdamW
from videogen.train.progress import Progress
from videogen.train.resume import check_settings, newest_readable
from videogen.train.run_log import RunLog
from videogen.train.sharding import bytes_held, held_as, shard, whole

VERSIONS = {"videogen": __version__, "torch": torch.__version__, "diffusers": diffusers.__version__}


class Run:
    """A run in this process.

    Args:
        config: What to train.
        folder: Of the run.
        accelerator: Tells which of how many processes this is, and carries tensors between them.
        sharded: Whether each process holds a part of what is trained, rather than all of it.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, accelerator: Accelerator, *, sharded: bool = False
    ) -> None:
        self.config = config
        self.folder = folder
        self.sharded = sharded
        self.accelerator = accelerator
        self.is_main = accelerator.is_main_process
        self.log_file = RunLog(folder)
        set_seed(config.seed)
        self.objective: Objective = config.objective.build()
        if accelerator.num_processes > 2 or len(self.objective.phases) > 1:
            # A phase leaves the parameters of another unused. And without this, DDP arranges gradients anew
            # after its first step, and so differently before and after a resume: over more than two processes
            # that changes the order in which they are added.
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.wrapped: Any = (
            shard(self.objective, accelerator) if sharded else accelerator.prepare(self.objective)
        )
        self.optimizers = {
            phase: accelerator.prepare(self._make_optimizer(phase)) for phase in self.objective.phases
        }
        self.ema = EMAModel(
            self._trained(), decay=config.ema_decay, use_ema_warmup=True, power=0.9, foreach=True
        )
        self.ema.to(accelerator.device)

    def _make_optimizer(self, phase: str) -> MuonAdamW:
        return MuonAdamW(
            self.objective.trained_parameters(phase),
            self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            betas=self.objective.adam_betas,
            adamw_scales=self.objective.adamw_scales,
            bfloat16=self.config.mixed_precision == "bf16",
            use_muon=self.config.optimizer == "muon",
            undecayed=self.objective.undecayed,
        )

    def resume(self) -> int:
        """Load the newest checkpoint that can be read, if there is one; returns the number of steps done.

        Raises:
            ValueError: If it belongs to another run, or the processes do not see the same one.
        """
        found = newest_readable(self.folder / "checkpoints", warn=self.is_main)
        step = 0 if found is None else found[1].step
        steps = self.accelerator.gather(torch.tensor([step], device=self.accelerator.device)).tolist()
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes see different checkpoints in {self.folder}, of the steps {steps}: "
                "the folder must be the same one for all, on a disk that all nodes share"
            )
        if found is not None:
            self._load(*found)
        if self.is_main:
            self.log_file.forget_after(step)
        return step

    def _load(self, path: Path, checkpoint: Checkpoint) -> None:
        notes = check_settings(self.config, checkpoint, path)
        state = self._state()
        shapes = {name: value.shape for name, value in state.items()}
        if shapes != {name: value.shape for name, value in checkpoint.weights.items()}:
            raise ValueError(f"checkpoint {path} belongs to another network: choose another output folder")
        if checkpoint.frozen and checkpoint.frozen != self.frozen:
            raise ValueError(
                f"{path} was trained with other frozen weights than the objective has now "
                "(a codec, say, that has been trained again): choose another output folder"
            )
        if checkpoint.versions and checkpoint.versions != VERSIONS:
            notes.append(f"{path} was written by {checkpoint.versions}, here is {VERSIONS}: bits may differ")
        if self.is_main:
            for note in notes:
                warnings.warn(note, stacklevel=4)
        weights = {name: held_as(value, state[name]) for name, value in checkpoint.weights.items()}
        self.objective.load_state_dict(weights, strict=False)
        for phase, optimizer in self.optimizers.items():
            optimizer.load_state_dict(checkpoint.optimizers[phase])
            for parameter, moments in optimizer.state.items():
                moments.update({name: held_as(value, parameter) for name, value in moments.items()})
        averages = [checkpoint.ema[name] for name, _ in self._named_trained()]
        for shadow, average in zip(self.ema.shadow_params, averages, strict=True):
            shadow.data.copy_(held_as(average, shadow))
        self.ema.optimization_step = checkpoint.step
        if checkpoint.random:
            self._set_random_state(
                {
                    name: states[self.accelerator.process_index % len(states)]
                    for name, states in checkpoint.random.items()
                }
            )

    def step(self, step: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One optimizer step of every phase on this process's micro-batches; returns its mean losses.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite.
        """
        config, accelerator = self.config, self.accelerator
        logged: dict[str, Tensor] = {}
        for phase, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            parts = []
            for idx, batch in enumerate(batches):
                is_last = idx == len(batches) - 1
                if self.sharded:
                    self.wrapped.set_requires_gradient_sync(is_last)
                with nullcontext() if is_last else accelerator.no_sync(self.wrapped):
                    losses = self.wrapped(batch, phase)
                    if not math.isfinite(losses["loss"].item()):
                        raise FloatingPointError(
                            f"the loss of phase {phase!r} is {losses['loss'].item()} at step {step}"
                        )
                    accelerator.backward(losses["loss"] / len(batches))
                parts.append({name: value.detach().float() for name, value in losses.items()})
            means = {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}
            parameters = [parameter for _, parameter in self.objective.trained_parameters(phase)]
            means["grad_norm"] = whole(accelerator.clip_grad_norm_(parameters, config.max_grad_norm))
            if not math.isfinite(means["grad_norm"].item()):
                raise FloatingPointError(f"the gradient of phase {phase!r} is not finite at step {step}")
            optimizer.step()
            self.wrapped.zero_grad()  # also of what another phase trains
            prefix = f"{phase}_" if len(self.optimizers) > 1 else ""
            logged.update({prefix + name: value for name, value in means.items()})
        self.ema.step(self._trained())
        return logged

    def log(self, step: int, losses: dict[str, Tensor], progress: Progress) -> None:
        """Write a line of the log: losses averaged over the processes."""
        names = sorted(losses)
        stacked = torch.stack([losses[name].float() for name in names])
        values = self.accelerator.reduce(stacked, "mean").tolist()
        learning_rate = self.config.learning_rate_at(step - 1)
        line = {"step": step, "lr": learning_rate, **dict(zip(names, values, strict=True))}
        if self.is_main:
            self.log_file.append(line)
            progress.update(step, line)
        self.accelerator.log(line, step=step)

    def checkpoint(self, step: int) -> None:
        """Write the result so far, with averaged weights, and then, when all else is there, a checkpoint.

        Raises:
            OSError: If they cannot be written; the last checkpoint is then untouched.
        """
        random = {name: self.accelerator.gather(state[None]) for name, state in self._random_state().items()}
        weights, averages = whole(self._state()), self._averages()
        optimizers = {phase: whole(optimizer.state_dict()) for phase, optimizer in self.optimizers.items()}
        if not self.is_main:
            return
        self.log_file.flush()
        remove_leftovers(self.folder)
        result = written_whole(self.folder / "result", is_folder=True, durable=True)
        with self._averaged(weights | averages) as objective, result as partial:
            objective.save(partial)
        checkpoint = Checkpoint(
            step,
            weights=weights,
            ema=averages,
            optimizers=optimizers,
            random=random,
            config=self.config.resolved(),
            frozen=self.frozen,
            versions=VERSIONS,
            score=self._score(step),
        )
        save_checkpoint(self.folder / "checkpoints", checkpoint, self.config.keep_checkpoints)

    def _score(self, step: int) -> Score | None:
        """See `TrainConfig.best_by`; from the log alone, so it does not depend on where a run stopped."""
        name, span = self.config.best_by, max(self.config.checkpoint_every, self.config.log_every)
        value = self.log_file.mean(name, after=step - span, until=step) if name else None
        return None if value is None else Score(name, value)

    def preview(self, step: int, progress: Progress) -> None:
        """Write preview clips made with the averaged weights, and what is measured on them."""
        weights = whole(self._state()) | self._averages()
        if not self.is_main:
            return
        folder = self.folder / "previews" / f"step-{step:07d}"
        with self._averaged(weights) as objective:
            previews = objective.preview()
            measures = objective.measure(previews)
        for number, (caption, frames) in enumerate(previews):
            write_clip(frames, folder / f"{number}.webp", recipe={"prompt": caption, "step": step})
        if measures:
            write_json(folder / "measures.json", {"step": step, **measures})
            progress.announce(f"step {step}: " + ", ".join(f"{n} {v:.4g}" for n, v in measures.items()))

    def write_config(self) -> None:
        """Write the resolved configuration into the run's folder."""
        if self.is_main:
            write_json(self.folder / "config.json", self.config.resolved())

    def agree(self, stopping: bool) -> bool:
        """Whether any process wants to stop."""
        if self.accelerator.num_processes == 1:
            return stopping
        votes = torch.tensor([float(stopping)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(votes, "sum").item())

    def describe(self) -> str:
        """How much is trained, and the memory that this takes before the first clip."""
        parameters = list(self.objective.parameters())
        trained = self._trained()
        moments = [
            parameter
            for optimizer in self.optimizers.values()
            for group in optimizer.param_groups
            for parameter in group["params"] * (1 if group["rule"] == "muon" else 2)
        ]
        in_buckets = self.accelerator.num_processes > 1 and not self.sharded  # DDP holds gradients there too
        gradients = trained * (2 if in_buckets else 1)
        held = sum(map(bytes_held, [*parameters, *trained, *gradients, *moments]))
        besides = ", and in a step all that is trained with its gradients," if self.sharded else ""
        return (
            f"{sum(parameter.numel() for parameter in trained) / 1e6:.2f} of "
            f"{sum(parameter.numel() for parameter in parameters) / 1e6:.2f} million parameters are trained; "
            f"weights, gradients, optimizer and averages take {held / 2**20:.0f} MiB in each process, "
            f"activations{besides} come on top; a checkpoint takes "
            f"{sum(tensor.nbytes for tensor in [*trained, *trained, *moments]) / 2**20:.0f} MiB"
        )

    @cached_property
    def frozen(self) -> str:
        """Fingerprint of the weights that are not trained."""
        return fingerprint(
            {name: value for name, value in self.objective.named_parameters() if not value.requires_grad}
        )

    def _named_trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self.objective.named_parameters() if value.requires_grad]

    def _trained(self) -> list[nn.Parameter]:
        return [value for _, value in self._named_trained()]

    def _state(self) -> dict[str, Tensor]:
        """Trained parameters, and the buffers beside them."""
        frozen = {name for name, value in self.objective.named_parameters() if not value.requires_grad}
        return {name: value for name, value in self.objective.state_dict().items() if name not in frozen}

    def _random_state(self) -> dict[str, Tensor]:
        """States of the global generators of this process, which dropout draws from."""
        device = self.accelerator.device
        states = {"cpu": torch.get_rng_state()}
        if device.type != "cpu":
            states[device.type] = torch.get_device_module(device).get_rng_state()
        return {name: state.to(device) for name, state in states.items()}

    def _set_random_state(self, states: dict[str, Tensor]) -> None:
        for name, state in states.items():
            module = torch if name == "cpu" else torch.get_device_module(name)
            module.set_rng_state(state.cpu().clone())  # torch crashes on one that is not aligned in memory

    def _averages(self) -> dict[str, Tensor]:
        """The averaged weights, whole, by name; each process must ask for them."""
        names = [name for name, _ in self._named_trained()]
        return dict(zip(names, whole(self.ema.shadow_params), strict=True))

    @contextmanager
    def _averaged(self, weights: dict[str, Tensor]) -> Iterator[Objective]:
        """Gives an objective with these weights, in evaluation mode; nothing of it is left afterwards.

        It is the one that is trained, or, where that is in parts, another one.
        """
        random = self._random_state()
        modes = {module: module.training for module in self.objective.modules()}
        objective = self.objective
        if self.sharded:
            objective = self.config.objective.build().to(self.accelerator.device)
            objective.load_state_dict(weights, strict=False)
        else:
            self.ema.store(self._trained())
            self.ema.copy_to(self._trained())
        objective.eval()
        try:
            yield objective
        finally:
            if not self.sharded:
                for module, mode in modes.items():
                    module.training = mode  # a frozen part may be in evaluation mode always
                self.ema.restore(self._trained())
            self._set_random_state(random)
