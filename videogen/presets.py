"""Presets: the settings of a sampler that were found to work, in a small file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FORMAT = 1


@dataclass(frozen=True)
class Preset:
    """Settings of a call; None stands for the model's own.

    Attributes:
        scheduler: A name that `make_scheduler` knows.
        num_inference_steps: Denoising steps.
        guidance_scale: Of guidance.
        guidance: Its kind, as `parse_guidance` reads it.
        cache: What steps take over from earlier ones, as `StepCache.parse` reads it.
        notes: Where the preset comes from, for people.
    """

    scheduler: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance: str | None = None
    cache: str | None = None
    notes: str = ""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file."""
        content = {"videogen_preset": FORMAT, **asdict(self)}
        Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Preset:
        """Read what `save` wrote.

        Raises:
            ValueError: If the file is missing, no preset, or of a newer format.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"preset {os.fspath(path)} cannot be read: {error}") from error
        if not isinstance(content, dict) or content.pop("videogen_preset", None) != FORMAT:
            raise ValueError(
                f'preset {os.fspath(path)} must be a JSON object with "videogen_preset": {FORMAT}'
            )
        unknown = sorted(content.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"preset {os.fspath(path)} has unknown settings: {', '.join(unknown)}")
        return cls(**content)
