"""Everything that decides a training run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videogen.data.batch import ClipSource

if TYPE_CHECKING:
    from videogen.train.objectives.base import ObjectiveConfig

LR_SCHEDULES = ("constant", "linear", "cosine")
MIXED_PRECISIONS = ("no", "bf16")
OPTIMIZERS = ("muon", "adamw")


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run; recipes return one.

    Attributes:
        name: Of the recipe; the run's folder is called so.
        objective: What is trained, and towards what.
        source: The training clips.
        num_steps: Optimizer steps of the whole run.
        batch_size: Clips per optimizer step, over all processes and micro-batches.
        learning_rate: At its height.
        optimizer: `muon` for matrices by Muon and the rest by AdamW, or `adamw` for everything by AdamW.
        warmup_steps: Linear rise from zero.
        decay_steps: Fall to zero at the end of the run; before it the rate is constant.
        lr_schedule: How it falls: `linear`, `cosine`, or `constant` for not at all.
        gradient_accumulation_steps: Parts that a process works off its share of a batch in, one after the
            other, to need less memory; the optimizer steps once for all of them.
        weight_decay: Decoupled, of matrices only.
        max_grad_norm: Gradients are scaled down to this norm.
        ema_decay: Of the averaged weights, which are the ones that are saved as the result.
        seed: Of the initial weights and of everything random in a step.
        log_every: Steps between lines of the log.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many of the newest are kept, beside the best.
        best_by: Name of the value in the log that tells how good a checkpoint is: the lower its mean over the
            last `checkpoint_every` steps, the better. Empty for keeping the newest only.
        preview_every: Steps between preview clips; 0 for none.
        mixed_precision: `no` or `bf16`.
        num_data_workers: Processes beside each training process that make its clips ahead of time; 0 to make
            them in between steps. On a CPU the run is the same, bit for bit. On an accelerator the clips are
            made there with 0 and on the CPU with more, so they agree up to rounding.
    """

    name: str
    objective: ObjectiveConfig
    source: ClipSource
    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    decay_steps: int = 0
    lr_schedule: str = "linear"
    gradient_accumulation_steps: int = 1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    best_by: str = "loss"
    preview_every: int = 500
    mixed_precision: str = "no"
    num_data_workers: int = 0
    optimizer: str = "muon"

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        at_least_one = (
            "num_steps",
            "batch_size",
            "gradient_accumulation_steps",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
        )
        at_least_zero = ("warmup_steps", "decay_steps", "preview_every", "num_data_workers")
        for least, names in ((1, at_least_one), (0, at_least_zero)):
            for name in names:
                if getattr(self, name) < least:
                    raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        choices = {
            "lr_schedule": LR_SCHEDULES,
            "mixed_precision": MIXED_PRECISIONS,
            "optimizer": OPTIMIZERS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` must be between 0 and 2**32 - 1, got {self.seed}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"`weight_decay` must be at least 0, got {self.weight_decay}")
        if not 0 <= self.ema_decay <= 1:
            raise ValueError(f"`ema_decay` must be between 0 and 1, got {self.ema_decay}")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be above 0, got {getattr(self, name)}")
        if self.lr_schedule == "constant" and self.decay_steps:
            raise ValueError(
                f"`decay_steps` must be 0 with the constant `lr_schedule`, got {self.decay_steps}: "
                "choose `lr_schedule` linear or cosine for a rate that falls"
            )
        if self.warmup_steps + self.decay_steps > self.num_steps:
            raise ValueError(
                "`warmup_steps` and `decay_steps` must fit into `num_steps`, "
                f"got {self.warmup_steps} + {self.decay_steps} > {self.num_steps}"
            )

    def learning_rate_at(self, step: int) -> float:
        """The rate of a step, counted from 0: warm-up, plateau, decay."""
        rise = (step + 1) / self.warmup_steps if self.warmup_steps else 1.0
        fall = (self.num_steps - step) / self.decay_steps if self.decay_steps else 1.0
        if self.lr_schedule == "cosine":
            fall = (1 - math.cos(math.pi * min(1.0, fall))) / 2
        return self.learning_rate * min(1.0, rise, fall)

    def with_num_steps(self, num_steps: int) -> TrainConfig:
        """The same run, shorter or longer: warm-up, decay and what the objective anneals keep their share."""
        share = num_steps / self.num_steps
        return dataclasses.replace(
            self,
            objective=self.objective.stretched(share),
            num_steps=num_steps,
            warmup_steps=int(self.warmup_steps * share),
            decay_steps=int(self.decay_steps * share),
        )

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain data, as it is printed and saved beside the checkpoints."""
        return plain(self)


def plain(value: Any) -> Any:
    """A setting as JSON can hold it: dataclasses become dicts that name their type, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
