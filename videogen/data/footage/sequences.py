"""Numbered pictures, `shot/frame_0001.png` and so on, as a video: which belong together, and its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DEFAULT_PICTURE_FPS = 25.0  # FFmpeg's own; pictures state no rate

_MIN_PICTURES = 8  # fewer are rather photographs
_NUMBERED = re.compile(r"(.*?)(\d+)(\.[^.]+)", re.DOTALL | re.ASCII)
_NAME = re.compile(r"(.*)\[(\d+)-(\d+)\](\.[^.]+)", re.DOTALL | re.ASCII)


@dataclass(frozen=True)
class PictureSequence:
    """Pictures whose numbers follow each other without a gap.

    Attributes:
        folder: Where they lie.
        prefix: What precedes the number in their names.
        first: The first number, with its leading zeros.
        last: The last number.
        suffix: Of all of them.
    """

    folder: Path
    prefix: str
    first: str
    last: str
    suffix: str

    @classmethod
    def of(cls, path: Path) -> PictureSequence | None:
        """The sequence of a path that ends in a `name`; None for that of a single file."""
        match = _NAME.fullmatch(path.name)
        if match is None or path.exists():
            return None
        return cls(path.parent, match[1], match[2], match[3], match[4])

    @property
    def name(self) -> str:
        """What stands for all of them: `frame_[0001-0048].png`."""
        return f"{self.prefix}[{self.first}-{self.last}]{self.suffix}"

    @property
    def files(self) -> list[Path]:
        """The pictures in order."""
        width, numbers = len(self.first), range(int(self.first), int(self.last) + 1)
        return [self.folder / f"{self.prefix}{number:0{width}}{self.suffix}" for number in numbers]


def find_sequences(pictures: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The pictures of each sequence, by the sequence's path, among paths with `/`."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for picture in pictures:
        path = PurePosixPath(picture)
        match = _NUMBERED.fullmatch(path.name)
        if match is not None:
            groups.setdefault((str(path.parent), match[1], match[3]), []).append(match[2])
    found = {}
    for (folder, prefix, suffix), numbers in groups.items():
        for run in _runs(numbers):
            if len(run) >= _MIN_PICTURES:
                sequence = PictureSequence(Path(folder), prefix, run[0], run[-1], suffix)
                files = tuple(file.as_posix() for file in sequence.files)
                found[(PurePosixPath(folder) / sequence.name).as_posix()] = files
    return found


def _runs(numbers: Iterable[str]) -> list[list[str]]:
    """Numbers in order, parted where one is missing or has another count of zeros."""
    runs: list[list[str]] = []
    for number in sorted(numbers, key=lambda text: (int(text), text)):
        if runs and number == f"{int(runs[-1][-1]) + 1:0{len(runs[-1][0])}}":
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
