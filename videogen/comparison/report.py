"""What a comparison found: numbers of each model, as tables, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from videogen.comparison.models import Cost
from videogen.evaluation import markdown_table
from videogen.metrics.intervals import MeanInterval
from videogen.metrics.prompt_accuracy import COLUMNS, AccuracyReport
from videogen.metrics.video_distance import VideoDistance

NONE = "-"  # in a table, for what is not known


@dataclass(frozen=True)
class Movement:
    """How the clips of a model change over time, mean over clips; see `videogen.metrics.motion`.

    Attributes:
        magnitude: In pixels per frame.
        flicker: In percent of the brightness range.
        frozen: Percent of the steps from frame to frame in which nothing changes.
    """

    magnitude: MeanInterval
    flicker: MeanInterval
    frozen: MeanInterval


@dataclass(frozen=True)
class Distances:
    """How far the clips of a model are from rendered ones.

    Attributes:
        frechet: Fréchet video distance.
        kernel: Kernel video distance.
        rendered: The Fréchet distance of as many rendered clips of the same prompts: what to reach.
    """

    frechet: VideoDistance
    kernel: VideoDistance
    rendered: VideoDistance


@dataclass(frozen=True)
class ModelResult:
    """What was measured of a model.

    Attributes:
        model: As it was named in the call.
        failure: Why there is nothing of it; empty if there is.
        failed_clips: For the number of each prompt without a clip why there is none.
        clip_shape: Frames, height and width.
        accuracy: Of the prompts that can be checked, a failed clip being wrong; None if there are none.
        distances: None if there are under two clips of prompts that can be rendered.
        movement: None if there are under 3 frames.
        cost: What the clips took.
    """

    model: str
    failure: str = ""
    failed_clips: tuple[tuple[int, str], ...] = ()
    clip_shape: tuple[int, int, int] | None = None
    accuracy: AccuracyReport | None = None
    distances: Distances | None = None
    movement: Movement | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class ComparisonReport:
    """Several models on the same prompts and seeds.

    Attributes:
        prompts: All of them; clip k is made from prompt k and `seed + k`.
        num_checked: Prompts whose clips the parser of the world `shapes` can check.
        seed: See above.
        device: Where the models ran.
        num_threads: Of the CPU.
        same_prompts: Whether the rendered clips that distances are taken to show these prompts, rather than
            others drawn in the same way.
        left_out: Lines of the prompts file that are not used, each with its number.
        models: One for each model, in the order of the call.
    """

    prompts: tuple[str, ...]
    num_checked: int
    seed: int
    device: str
    num_threads: int
    same_prompts: bool
    left_out: tuple[str, ...]
    models: tuple[ModelResult, ...]

    @property
    def is_partial(self) -> bool:
        """Whether something that was asked for is not there: a model, a clip, or a prompt."""
        return bool(self.left_out) or any(item.failure or item.failed_clips for item in self.models)

    @property
    def protocol(self) -> str:
        """In a sentence how the clips were made."""
        return (
            f"{len(self.prompts)} prompts, seeds from {self.seed} on, one prompt a call, on {self.device} "
            f"({self.num_threads} CPU threads). In brackets 95 % intervals."
        )

    @property
    def notes(self) -> list[str]:
        """What has to be known to read the tables: protocol, warnings, failures."""
        notes = [f"{item.model} failed: {item.failure}" for item in self.models if item.failure]
        for item in self.models:
            notes += [
                f"{item.model} made no clip of prompt {number} (seed {self.seed + number}): {why}"
                for number, why in item.failed_clips
            ]
        notes += self.left_out
        distances = [item.distances.frechet for item in self.models if item.distances is not None]
        notes += [f"distances: {protocol}" for protocol in dict.fromkeys(item.protocol for item in distances)]
        notes += dict.fromkeys(warning for item in distances for warning in item.warnings)
        if distances and self.same_prompts:
            notes.append(
                "distances are to rendered clips of the same few prompts in turn, of which a model shows "
                "each once: the kernel distance comes out too low"
            )
        if self.num_checked < len(self.prompts):
            notes.append(
                f"{len(self.prompts) - self.num_checked} of {len(self.prompts)} prompts are not in the plain "
                "form of the world `shapes`: accuracy and distances leave them out"
            )
        return notes

    @property
    def names(self) -> dict[str, str]:
        """What each model is called in tables, by `short_names`."""
        models = [item.model for item in self.models]
        return dict(zip(models, short_names(models), strict=True))

    def quality_table(self, *, brief: bool = False) -> tuple[list[str], list[list[str]]]:
        """Header and rows: what clips show and how far they are from rendered ones.

        Args:
            brief: Whether only what fits into a terminal is in it.
        """
        shown = ("all_right",) if brief else COLUMNS
        header = ["model", *(name.replace("_", " ") for name in shown), "Fréchet distance"]
        header += ["of rendered clips"] if brief else ["of rendered clips", "kernel distance"]
        rows = []
        for item in self._finished():
            shares = [NONE] * len(shown)
            if item.accuracy is not None:
                shares = [_cell(getattr(item.accuracy, name), str) for name in shown]
            found = [NONE] * 3
            if item.distances is not None:
                found = [
                    str(item.distances.frechet),
                    str(item.distances.rendered),
                    str(item.distances.kernel),
                ]
            rows.append([self.names[item.model], *shares, *(found[:2] if brief else found)])
        return header, rows

    def cost_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: what clips took."""
        header = ["model", "s per clip", "evaluations", "parameters", "peak MiB", "training min"]
        rows = []
        for item in self._finished():
            cost = item.cost
            assert cost is not None
            rows.append(
                [
                    self.names[item.model],
                    f"{cost.seconds_per_clip:.2f}",
                    f"{cost.evaluations_per_clip:g}",
                    f"{cost.num_parameters / 1e6:.2f} M",
                    _cell(cost.peak_bytes, lambda peak: f"{peak / 2**20:.0f}"),
                    _cell(cost.training_minutes, "{:g}".format),
                ]
            )
        return header, rows

    def movement_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: how clips change over time."""
        header = ["model", "motion, pixels per frame", "flicker, %", "frozen steps, %"]
        rows = [
            [
                self.names[item.model],
                *map(str, (item.movement.magnitude, item.movement.flicker, item.movement.frozen)),
            ]
            for item in self._finished()
            if item.movement is not None
        ]
        return header, rows

    def to_markdown(self) -> str:
        """The whole report as a page of Markdown."""
        tables = [self.quality_table(), self.cost_table(), self.movement_table()]
        parts = [
            "# Comparison",
            self.protocol,
            *(markdown_table(*table) for table in tables if table[1]),
            "\n".join(f"- {note}" for note in self.notes),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_json(self) -> str:
        """All numbers, and all that they depend on."""
        return json.dumps(asdict(self) | {"notes": self.notes}, indent=2)

    def _finished(self) -> list[ModelResult]:
        return [item for item in self.models if not item.failure]


def _cell(value: object, text: Callable[[Any], str]) -> str:
    return NONE if value is None else text(value)


def short_names(models: Sequence[str]) -> list[str]:
    """One part of each path, the last that tells all of them apart; the whole paths if there is none."""
    paths = [model.rstrip("/").split("/") for model in models]
    for depth in range(1, max(map(len, paths)) + 1):
        parts = [path[-min(depth, len(path))] for path in paths]
        if all(parts) and len(set(parts)) == len(parts):
            return parts
    return list(models)
