"""Going on with a run: which checkpoint is taken, and whether it belongs to the run that is asked for."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videogen.train.checkpoint import Checkpoint, list_checkpoints, load_checkpoint
from videogen.train.config import TrainConfig, plain

HARMLESS = frozenset(
    {
        "name",
        "log_every",
        "checkpoint_every",
        "keep_checkpoints",
        "best_by",
        "preview_every",
        "num_data_workers",
        "objective.preview_prompts",
    }
)
"""Settings that may change between two parts of a run: they leave the weights alone, bit for bit."""

ROUNDING = frozenset({"gradient_accumulation_steps"})
"""Settings that may change and alter the weights by no more than the order of floating-point sums."""

SCHEDULE = frozenset({"warmup_steps", "decay_steps"})
"""Settings that may change together with `num_steps`."""

STRETCHED = frozenset({"objective.anneal_clips"})
"""Settings of objectives that may change together with `num_steps`: those that `stretched` moves."""


def newest_readable(folder: Path, *, warn: bool = True) -> tuple[Path, Checkpoint] | None:
    """The newest checkpoint that can be read; those that cannot are named in warnings. None if there is none.

    Raises:
        ValueError: If there are checkpoints and none can be read.
    """
    found = list_checkpoints(folder)
    for path in reversed(found):
        try:
            return path, load_checkpoint(path)
        except ValueError as error:
            if path == found[0]:
                raise ValueError(
                    f"no checkpoint in {folder} can be read, the oldest because: {error}. "
                    "Move them away to begin the run again"
                ) from error
            if warn:
                warnings.warn(f"{error}; the one before it is used", stacklevel=2)
    return None


def steps_done(config: TrainConfig, folder: Path) -> int:
    """Steps of the run that its newest readable checkpoint in `folder` has; 0 if there is none.

    Raises:
        ValueError: If it belongs to another run, or there are checkpoints and none can be read.
    """
    found = newest_readable(folder, warn=False)
    if found is None:
        return 0
    path, checkpoint = found
    check_settings(config, checkpoint, path)
    return checkpoint.step


def check_settings(config: TrainConfig, checkpoint: Checkpoint, path: Path) -> list[str]:
    """Refuse to go on with other settings than before, where they decide about weights.

    Returns:
        What is to be said about differences that are allowed but can be seen in the run.

    Raises:
        ValueError: With the names of the settings that differ, and their values.
    """
    changes = {name: pair for name, *pair in _changes(config, checkpoint.config) if name not in HARMLESS}
    allowed = ROUNDING | ({"num_steps"} | SCHEDULE | STRETCHED if "num_steps" in changes else set())
    refused = [name for name in changes if name not in allowed]
    if refused:
        listed = "; ".join(f"`{name}` was {changes[name][0]!r}, got {changes[name][1]!r}" for name in refused)
        raise ValueError(
            f"{path} belongs to a run with other settings: {listed}. "
            "Keep them, or choose another output folder"
        )
    if config.num_steps < checkpoint.step:
        raise ValueError(
            f"`num_steps` must be at least the {checkpoint.step} that are done in {path}, "
            f"got {config.num_steps}"
        )
    notes = []
    if "num_steps" in changes:
        notes.append(_about_schedule(config, checkpoint, changes))
    notes += [
        f"`{name}` was {changes[name][0]} and is {changes[name][1]}: what has passed is not done again"
        for name in STRETCHED & changes.keys()
    ]
    notes += [
        f"`{name}` was {changes[name][0]} and is {changes[name][1]}: the weights stay the same "
        "up to the order of floating-point sums, not bit for bit"
        for name in ROUNDING & changes.keys()
    ]
    return notes


def _about_schedule(config: TrainConfig, checkpoint: Checkpoint, changes: dict[str, list[Any]]) -> str:
    """What a changed length does to the learning rate."""
    names = ("num_steps", *sorted(SCHEDULE))
    before = dataclasses.replace(config, **{name: changes[name][0] for name in names if name in changes})
    last, step = before.num_steps - 1, checkpoint.step
    old_rate = f"{before.learning_rate_at(min(step, last)):.3g}"
    return (
        f"the run now has {config.num_steps} steps instead of {before.num_steps}, and its schedule changes: "
        f"the learning rate goes on at {config.learning_rate_at(min(step, config.num_steps - 1)):.3g} "
        f"where it was {old_rate}, and falls over the last {config.decay_steps} steps"
    )


def _changes(value: Any, saved: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Settings that differ, with their dotted names, as saved and as they are.

    A setting that did not exist when the checkpoint was written counts as having had its default.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or not isinstance(saved, dict):
        if plain(value) != saved:
            yield name, saved, plain(value)
        return
    kind = type(value).__name__
    if saved.get("type") != kind:
        yield name, saved.get("type"), kind
        return
    prefix = f"{name}." if name else ""
    for field in dataclasses.fields(value):
        present = getattr(value, field.name)
        if field.name in saved:
            yield from _changes(present, saved[field.name], prefix + field.name)
        elif present != _default(field):
            yield prefix + field.name, "not known", plain(present)
    for gone in saved.keys() - {"type", *(field.name for field in dataclasses.fields(value))}:
        yield prefix + gone, saved[gone], "not known"


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
