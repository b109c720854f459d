"""Everything that decides a training run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from videogen.data.batch import ClipSource

if TYPE_CHECKING:
    from videogen.train.objectives.base import ObjectiveConfig


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run; recipes return one.

    Attributes:
        name: Of the recipe; the run's folder is called so.
        objective: What is trained, and towards what.
        source: The training clips.
        num_steps: Optimizer steps of the whole run.
        batch_size: Clips per optimizer step, over all processes.
        learning_rate: At its height.
        warmup_steps: Linear rise from zero.
        decay_steps: Linear fall to zero at the end of the run; before it the rate is constant.
        weight_decay: Decoupled, of matrices only.
        max_grad_norm: Gradients are scaled down to this norm.
        ema_decay: Of the averaged weights, which are the ones that are saved as the result.
        seed: Of the initial weights and of everything random in a step.
        log_every: Steps between lines of the log.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many of the newest are kept.
        preview_every: Steps between preview clips; 0 for none.
        mixed_precision: `no` or `bf16`.
    """

    name: str
    objective: ObjectiveConfig
    source: ClipSource
    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    decay_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    preview_every: int = 500
    mixed_precision: str = "no"

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for field in ("num_steps", "batch_size", "log_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, field) < 1:
                raise ValueError(f"`{field}` must be at least 1, got {getattr(self, field)}")
        if self.warmup_steps + self.decay_steps > self.num_steps:
            raise ValueError(
                "`warmup_steps` and `decay_steps` must fit into `num_steps`, "
                f"got {self.warmup_steps} + {self.decay_steps} > {self.num_steps}"
            )

    def learning_rate_at(self, step: int) -> float:
        """The rate of a step, counted from 0: warm-up, plateau, linear decay."""
        rise = (step + 1) / self.warmup_steps if self.warmup_steps else 1.0
        fall = (self.num_steps - step) / self.decay_steps if self.decay_steps else 1.0
        return self.learning_rate * min(1.0, rise, fall)

    def with_num_steps(self, num_steps: int) -> TrainConfig:
        """The same run, shorter or longer: warm-up and decay keep their share of it."""
        share = num_steps / self.num_steps
        return dataclasses.replace(
            self,
            num_steps=num_steps,
            warmup_steps=int(self.warmup_steps * share),
            decay_steps=int(self.decay_steps * share),
        )

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain data, as it is printed and saved beside the checkpoints."""
        return _plain(self)


def _plain(value: Any) -> Any:
    """A dataclass, and those within, as dicts that name their type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return list(value) if isinstance(value, tuple) else value
