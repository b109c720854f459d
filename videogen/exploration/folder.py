"""The folder of an exploration: what is done is there, whole, whenever the exploration stops."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videogen.exploration.grid import GridPoint
from videogen.exploration.results import PointResult
from videogen.files import read_json, write_json, write_text, written_whole
from videogen.pages.clips import animated_webp

SETUP, POINTS = "exploration.json", "points.jsonl"


class ExplorationFolder:
    """Keeps results of points, clips to show, and the latents of references.

        exploration.json     what all points have in common
        points.jsonl         a line for each point, written when it is done
        clips/               clips to show, as animated WebP
        references/          latents `(clips, C, f, h, w)` of the clips that others are compared with

    Args:
        path: Made if it is not there.
        setup: What all points have in common; JSON-able.

    Raises:
        ValueError: If the folder holds an exploration with another setup, or something else.
        OSError: If it cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], setup: dict[str, Any]) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`folder` {str(path)!r} is a file")
        strangers = self.path.is_dir() and any(file.name[0] != "." for file in self.path.iterdir())
        if strangers and not (self.path / SETUP).is_file():
            raise ValueError(f"`folder` {str(path)!r} holds something else than an exploration")
        if (self.path / SETUP).is_file():
            found = read_json(self.path / SETUP)
            different = [name for name in setup if found.get(name) != setup[name]]
            if different:
                raise ValueError(
                    f"`folder` {str(path)!r} holds an exploration with other {', '.join(different)}: "
                    "its points cannot be compared with these, choose another folder"
                )
        write_json(self.path / SETUP, setup)

    def results(self) -> dict[GridPoint, PointResult]:
        """The points that are done; a line that was cut off by an end of the process is dropped.

        Raises:
            ValueError: If a line was edited into something else; the message names it.
        """
        file = self.path / POINTS
        if not file.is_file():
            return {}
        lines = file.read_text(encoding="utf-8").split("\n")
        if lines[-1]:  # the process ended while it was written
            write_text(file, "".join(f"{line}\n" for line in lines[:-1]))
        results = []
        for number, line in enumerate(lines[:-1], 1):
            try:
                results.append(PointResult.from_dict(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {file} is no result of a point: take it out, and it is run again"
                ) from error
        return {result.point: result for result in results}

    def add(self, result: PointResult) -> None:
        """Write down a point that is done."""
        with (self.path / POINTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result.as_dict()) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def add_clip(self, name: str, frames: np.ndarray, fps: float) -> None:
        """Keep frames `(F, H, W, 3)` in [0, 1] as `clips/NAME.webp`, small enough for a page of many."""
        with written_whole(self.path / "clips" / f"{name}.webp") as partial:
            partial.write_bytes(animated_webp(frames, fps))

    def clip(self, name: str) -> bytes | None:
        """The bytes of `clips/NAME.webp`, if it is there."""
        file = self.path / "clips" / f"{name}.webp"
        return file.read_bytes() if file.is_file() else None

    def reference(self, key: str) -> Tensor | None:
        """Latents of the first clips of a reference, as far as they were made, if any were."""
        file = self.path / "references" / f"{key}.npy"
        return torch.from_numpy(np.load(file)) if file.is_file() else None

    def add_reference(self, key: str, latents: Tensor) -> None:
        """Keep latents of a reference, in the place of those that were there."""
        with written_whole(self.path / "references" / f"{key}.npy") as partial, partial.open("wb") as stream:
            np.save(stream, latents.numpy())
