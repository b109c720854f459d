"""The animated subjects of a folder of artwork, decoded on first use and kept at every size a frame needs.

A folder holds `captions.jsonl`, one line for each subject (`file`, `name`, `keywords`, `group`), and the
files that it names: animated pictures of 96x96 pixels with transparency that loop every 3 seconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

SPRITE_SIZE = 96
"""Side of every artwork in pixels."""
NUM_TICKS = 24
"""Frames of a loop."""
TICK_MS = 125
"""Milliseconds that a frame of a loop lasts."""

OPAQUE = 127
"""What is more opaque than this, of 255, belongs to a subject."""

GET_ARTWORK = "python -m videogen.data.emoji.fetch FOLDER"
"""The command that makes a folder of artwork."""


@dataclass(frozen=True)
class Subject:
    """What an artwork shows.

    Attributes:
        file: Its path below the folder.
        name: In plain English, as emojibase-data gives it.
        keywords: Words that people look for it with, from emojilib; most describe it, few name it.
        group: Of subjects that belong together, such as "animals & nature".
    """

    file: str
    name: str
    keywords: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class Extent:
    """How far a subject reaches from the middle of its artwork, in halves of the artwork's side.

    Attributes:
        along: Along the axes, at most 1.
        around: In any direction, at most sqrt(2).
    """

    along: float
    around: float


class Artwork:
    """The subjects of a folder, in the order of their file names.

    Args:
        folder: Where `captions.jsonl` is.

    Raises:
        ValueError: If the folder, its list or one of the files is missing, or the list cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.subjects = _read_subjects(self.folder)
        self._idx_of_name = {subject.name: idx for idx, subject in enumerate(self.subjects)}
        self._extents: dict[int, Extent] = {}
        self._levels: dict[tuple[int, ...], SpriteLevels] = {}

    def __len__(self) -> int:
        return len(self.subjects)

    def index(self, name: str) -> int:
        """Where the subject of this name is.

        Raises:
            ValueError: If there is none.
        """
        if name not in self._idx_of_name:
            similar = [known for known in self._idx_of_name if name.casefold() in known.casefold()][:5]
            hint = f": did you mean {', '.join(similar)}?" if similar else ""
            raise ValueError(f"no subject in {self.folder} is called {name!r}{hint}")
        return self._idx_of_name[name]

    def extent(self, idx: int) -> Extent:
        """How far a subject reaches, over its whole loop."""
        if idx not in self._extents:
            alpha = np.stack([np.asarray(frame.getchannel("a")) for frame in self.loop(idx)]).max(0)
            rows, columns = np.nonzero(alpha > OPAQUE)
            y, x = (np.abs((place + 0.5) / (SPRITE_SIZE / 2) - 1) for place in (rows, columns))
            half_pixel = 1 / SPRITE_SIZE
            self._extents[idx] = Extent(
                float(max(x.max(), y.max())) + half_pixel, float(np.hypot(x, y).max()) + half_pixel
            )
        return self._extents[idx]

    def levels(self, sides: tuple[int, ...]) -> SpriteLevels:
        """All subjects at these sides in pixels, the largest first; the same object for the same sides."""
        if sides not in self._levels:
            self._levels[sides] = SpriteLevels(self, sides)
        return self._levels[sides]

    def loop(self, idx: int) -> list[Image.Image]:
        """The `NUM_TICKS` frames of a subject's loop, mode RGBa: red, green and blue times alpha.

        Raises:
            ValueError: If the file is no animation of that kind.
        """
        path = self.folder / self.subjects[idx].file
        try:
            with Image.open(path) as picture:
                return _read_loop(picture, path)
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as a picture ({error}): {_again(self.folder)}"
            ) from error


class SpriteLevels:
    """The subjects of an artwork at several sizes, each averaged down from the full one, so nothing aliases.

    Args:
        artwork: Where the subjects come from; they are decoded when they are first asked for.
        sides: In pixels, the largest first.
    """

    def __init__(self, artwork: Artwork, sides: tuple[int, ...]) -> None:
        self.artwork = artwork
        self.sides = sides
        # Memory that is never written to is never taken: only subjects that were asked for cost any.
        self._pixels = [
            torch.empty(len(artwork), NUM_TICKS, 4, side, side, dtype=torch.uint8) for side in sides
        ]
        self._decoded: set[int] = set()
        self._on_device: dict[torch.device, list[Tensor]] = {}

    def pixels(self, subject_idxs: Sequence[int], device: torch.device | str = "cpu") -> list[Tensor]:
        """For each side `(num_subjects, NUM_TICKS, 4, side, side)` uint8, red, green and blue times alpha.

        Of the CPU's tensors, only the entries of `subject_idxs` and of earlier calls are filled. Another
        device gets all subjects at the first call.
        """
        device = torch.device(device)
        if device.type == "cpu":
            self._decode(subject_idxs)
            return self._pixels
        if device not in self._on_device:
            self._decode(range(len(self.artwork)))
            self._on_device[device] = [level.to(device) for level in self._pixels]
        return self._on_device[device]

    def _decode(self, subject_idxs: Sequence[int]) -> None:
        for idx in set(subject_idxs) - self._decoded:
            loop = self.artwork.loop(idx)
            for side, level in zip(self.sides, self._pixels, strict=True):
                resized = [frame.resize((side, side), Image.Resampling.HAMMING) for frame in loop]
                frames = torch.from_numpy(np.stack([np.asarray(frame) for frame in resized]))
                level[idx] = frames.permute(0, 3, 1, 2)
            self._decoded.add(idx)


@lru_cache(maxsize=4)
def load_artwork(folder: str | Path) -> Artwork:
    """The artwork of a folder, read once in a process."""
    return Artwork(folder)


def _read_subjects(folder: Path) -> tuple[Subject, ...]:
    listing = folder / "captions.jsonl"
    if not listing.is_file():
        raise ValueError(f"no artwork in {folder}: {listing.name} is missing. {_again(folder)}")
    subjects = []
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} of {listing} is not JSON ({error}): {_again(folder)}") from error
        if not (isinstance(row, dict) and _is_subject(row)):
            raise ValueError(
                f"line {number} of {listing} must have the strings `file`, `name` and `group` and the list of "
                f"strings `keywords`, got {line[:80]}: {_again(folder)}"
            )
        subjects.append(Subject(row["file"], row["name"], tuple(row["keywords"]), row["group"]))
    if not subjects:
        raise ValueError(f"{listing} lists no subject: {_again(folder)}")
    for field in ("file", "name"):
        (value, count), *_ = Counter(getattr(subject, field) for subject in subjects).most_common(1)
        if count > 1:
            raise ValueError(f"{value!r} is listed {count} times in {listing}: {_again(folder)}")
    missing = [subject.file for subject in subjects if not (folder / subject.file).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(subjects)} artworks that {listing} lists are missing, the first is "
            f"{missing[0]}: {_again(folder)}"
        )
    return tuple(sorted(subjects, key=lambda subject: subject.file))


def _is_subject(row: dict[str, Any]) -> bool:
    keywords = row.get("keywords")
    return all(isinstance(row.get(field), str) for field in ("file", "name", "group")) and (
        isinstance(keywords, list) and all(isinstance(word, str) for word in keywords)
    )


def _read_loop(picture: Image.Image, path: Path) -> list[Image.Image]:
    if picture.size != (SPRITE_SIZE, SPRITE_SIZE):
        raise ValueError(
            f"{path} must be {SPRITE_SIZE}x{SPRITE_SIZE} pixels, got {picture.width}x{picture.height}"
        )
    num_frames = getattr(picture, "n_frames", 1)
    if num_frames < 2:
        raise ValueError(f"{path} must be animated, got a single frame")
    if not picture.has_transparency_data:
        raise ValueError(f"{path} must have transparency, got mode {picture.mode}")
    stored, ends = [], []
    for frame_idx in range(num_frames):
        picture.seek(frame_idx)
        stored.append(picture.convert("RGBA").convert("RGBa"))
        ends.append(picture.info["duration"] + (ends[-1] if ends else 0))
    if round(ends[-1] / TICK_MS) != NUM_TICKS:
        raise ValueError(f"{path} must last {NUM_TICKS * TICK_MS} ms, got {ends[-1]} ms")
    if not any(np.asarray(frame.getchannel("a")).max() > OPAQUE for frame in stored):
        raise ValueError(f"{path} shows nothing: no pixel is more opaque than {OPAQUE} of 255")
    # Equal neighbours may be stored once, for the time of both.
    middles = (np.arange(NUM_TICKS) + 0.5) * TICK_MS
    shown = np.searchsorted(ends, middles, side="right").clip(max=num_frames - 1)
    return [stored[frame_idx] for frame_idx in shown]


def _again(folder: Path) -> str:
    return f"`{GET_ARTWORK.replace('FOLDER', str(folder))}` makes the folder whole"
