"""Presets: settings of generation in a small JSON file, with the numbers that were measured with them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from videogen.files import write_text
from videogen.json_fields import read_fields
from videogen.settings import GenerationSettings

MARKER = "videogen_preset"
FORMAT = 1


class HasScheduler(Protocol):
    """What a preset needs of a pipeline."""

    scheduler: Any
    prediction_type: str


@dataclass(frozen=True)
class Preset(GenerationSettings):
    """Settings of generation in a file; None leaves one to others.

    Attributes:
        notes: Anything that JSON can hold, such as what was measured with these settings.
    """

    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Preset:
        """Read a preset.

        Raises:
            ValueError: If the file is missing or no preset of this format, or a key is unknown or its value
                of a wrong type.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"cannot read preset {path}: {error.strerror}") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"preset {path} is no JSON: {error}") from error
        if not isinstance(values, dict) or MARKER not in values:
            raise ValueError(f'{path} is no preset: it has no "{MARKER}": {FORMAT}')
        marker = values.pop(MARKER)
        if marker is True or marker != FORMAT:
            raise ValueError(f'preset {path} must have "{MARKER}": {FORMAT}, got {marker!r}')
        return read_fields(cls, values, f"preset {path}")

    def save(self, path: str | Path) -> None:
        """Write the preset, without what is None.

        Raises:
            ValueError: If `notes` hold what JSON cannot.
            OSError: If the file cannot be written.
        """
        values = {MARKER: FORMAT, **self.given()} | ({"notes": self.notes} if self.notes else {})
        try:
            text = json.dumps(values, indent=2, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a preset must hold only what JSON can: {error}") from error
        write_text(path, text + "\n")

    def apply_to(self, pipeline: HasScheduler) -> dict[str, Any]:
        """Give a pipeline the preset's scheduler, and return the arguments for its calls.

            pipeline(prompt, **preset.apply_to(pipeline))

        Raises:
            ValueError: If the scheduler, the guidance or the cache is unknown.
        """
        from videogen.models.step_cache import StepCache
        from videogen.sampling.guidance_kinds import parse_guidance
        from videogen.sampling.schedulers import make_scheduler

        arguments = self.arguments()
        scheduler = arguments.pop("scheduler", None)
        if self.guidance is not None:
            arguments["guidance"] = parse_guidance(self.guidance)
        if self.cache is not None:
            arguments["step_cache"] = StepCache.parse(self.cache)
        if scheduler is not None:
            pipeline.scheduler = make_scheduler(scheduler, pipeline.prediction_type, pipeline.scheduler)
        return arguments
