"""Presets: settings of generation in a small JSON file, with the numbers that were measured with them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from videogen.files import write_text
from videogen.json_fields import read_fields

MARKER = "videogen_preset"
FORMAT = 1


class HasScheduler(Protocol):
    """What a preset needs of a pipeline."""

    scheduler: Any
    prediction_type: str


@dataclass(frozen=True)
class Preset:
    """Settings of generation; None leaves one to others.

    Attributes:
        scheduler: A name that `make_scheduler` knows.
        num_inference_steps: Denoising steps.
        guidance_scale: Of guidance.
        guidance: Its kind, as `parse_guidance` reads it.
        cache: What steps take over from earlier ones, as `StepCache.parse` reads it.
        temperature: Scales what is random, for families that have it.
        negative_prompt: What to steer away from.
        num_frames: Frames per clip.
        height: In pixels.
        width: In pixels.
        fps: Frames per second.
        model: A folder or an id on the hub; this and what follows belongs to loading, see `videogen.load`.
        loras: Adapters to merge, each `PATH` or `PATH:SCALE`.
        device: `cpu`, `mps`, `cuda` or `cuda:1`, ...
        dtype: `float32`, `bfloat16` or `float16`.
        attention: `sdpa` or `xformers`.
        notes: Anything that JSON can hold, such as what was measured with these settings.
    """

    scheduler: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance: str | None = None
    cache: str | None = None
    temperature: float | None = None
    negative_prompt: str | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    model: str | None = None
    loras: tuple[str, ...] | None = None
    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
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
        values = {MARKER: FORMAT, **self.settings()} | ({"notes": self.notes} if self.notes else {})
        try:
            text = json.dumps(values, indent=2, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a preset must hold only what JSON can: {error}") from error
        write_text(path, text + "\n")

    def settings(self) -> dict[str, Any]:
        """All that is set, by name."""
        return {name: value for name, value in asdict(self).items() if name != "notes" and value is not None}

    def apply_to(self, pipeline: HasScheduler) -> dict[str, Any]:
        """Give a pipeline the preset's scheduler, and return the arguments for its calls.

            pipeline(prompt, **preset.apply_to(pipeline))

        Raises:
            ValueError: If the scheduler, the guidance or the cache is unknown.
        """
        from videogen.models.step_cache import StepCache
        from videogen.sampling.guidance_kinds import parse_guidance
        from videogen.sampling.schedulers import make_scheduler

        names = {
            "num_inference_steps",
            "guidance_scale",
            "temperature",
            "negative_prompt",
            "num_frames",
            "height",
            "width",
        }
        arguments = {name: value for name, value in self.settings().items() if name in names}
        if self.guidance is not None:
            arguments["guidance"] = parse_guidance(self.guidance)
        if self.cache is not None:
            arguments["step_cache"] = StepCache.parse(self.cache)
        if self.scheduler is not None:
            pipeline.scheduler = make_scheduler(self.scheduler, pipeline.prediction_type, pipeline.scheduler)
        return arguments
