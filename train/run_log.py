"""The log of a run, `log.jsonl`: a line of numbers for every few steps, kept in line with the checkpoints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videogen.files import write_text


class RunLog:
    """Writes and reads the log in a run's folder.

    Every line is a JSON object with `step` (steps done), `lr`, the losses, averaged over the processes, and
    `time` (seconds since 1970), which alone differs from run to run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"

    def append(self, line: Mapping[str, float]) -> None:
        """Write a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({**line, "time": time.time()}) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines; without the last if the process was killed in the midst of it."""
        if not self.path.exists():
            return []
        complete = self.path.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines()]

    def numbers(self) -> list[dict[str, Any]]:
        """All lines without their times, which alone differ from run to run."""
        return [{name: value for name, value in line.items() if name != "time"} for line in self.lines()]

    def forget_after(self, step: int) -> None:
        """Drop what a killed run logged after its last checkpoint: those steps are done again."""
        if self.path.exists():
            kept = [json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step]
            write_text(self.path, "".join(kept))

    def flush(self) -> None:
        """Bring all lines to the disk, so that they are there whenever a later checkpoint is."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def mean(self, name: str, after: int, until: int) -> float | None:
        """Mean of a value over the lines of the steps `after < step <= until`; None if none has it."""
        values = [line[name] for line in self.lines() if name in line and after < line["step"] <= until]
        return sum(values) / len(values) if values else None
