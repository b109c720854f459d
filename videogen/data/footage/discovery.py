"""Find the video files in a folder, and name whatever else lies there."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

_MAIN_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp")
VIDEO_SUFFIXES = frozenset((*_MAIN_SUFFIXES, ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv"))
CAPTION_SUFFIXES = (".txt", ".caption")
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True)
class Problem:
    """Something of the footage that will not be used.

    Attributes:
        name: Path within the folder, with `/`.
        reason: A word or two, the same for all problems of a kind.
        detail: The sentence for users.
    """

    name: str
    reason: str
    detail: str


@dataclass(frozen=True)
class FoundFootage:
    """What lies in a folder; names are paths within it, with `/`, in order.

    Attributes:
        folder: Where it was looked for.
        videos: Files with the suffix of a video.
        captions: Files that may hold the caption of the video beside them.
        metadata: Tables of captions.
        problems: Files and folders that should have been read and cannot be.
        ignored: What is no video, such as a licence; nothing is wrong with it.
    """

    folder: Path
    videos: tuple[str, ...]
    captions: tuple[str, ...]
    metadata: tuple[str, ...]
    problems: tuple[Problem, ...]
    ignored: tuple[Problem, ...]


def find_footage(folder: str | os.PathLike[str]) -> FoundFootage:
    """Look through a folder and those within it, in the order of their names.

    Links are followed, each folder is read once.

    Raises:
        ValueError: If the folder is missing or holds no file with the suffix of a video.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"`folder` must be a folder of video files, but {str(root)!r} {what}")
    walk = _Walk(root)
    walk.look_into(root)
    found = walk.found()
    if not found.videos and not found.problems:
        known = " ".join(sorted(suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES))
        raise ValueError(f"`folder` {str(root)!r} holds no video file: known suffixes are {known}")
    return found


def same_name(name: str) -> str:
    """The name in the one Unicode form in which two that look the same are equal."""
    return unicodedata.normalize("NFC", name)


class _Walk:
    """The state of a walk: what was found so far, and which folders were entered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entered: set[tuple[int, int]] = set()
        self.videos: list[str] = []
        self.captions: list[str] = []
        self.metadata: list[str] = []
        self.problems: list[Problem] = []
        self.ignored: list[Problem] = []

    def look_into(self, folder: Path) -> None:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in self.entered:
            self._ignore(folder, "link", "a link to a folder that is read already")
            return
        self.entered.add((status.st_dev, status.st_ino))
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            self._problem(folder, f"the folder cannot be opened: {error.strerror}")
            return
        for path in paths:
            try:
                path.stat()  # fails for a link to itself or to nothing
                is_folder = path.is_dir()
            except OSError as error:
                self._problem(path, f"cannot be opened: {error.strerror}")
                continue
            if path.name.startswith("."):
                self._ignore(path, "hidden", "its name starts with a dot")
            elif is_folder:
                self.look_into(path)
            else:
                self._sort_file(path)

    def found(self) -> FoundFootage:
        lists = (self.videos, self.captions, self.metadata)
        videos, captions, metadata = (tuple(names) for names in lists)
        return FoundFootage(self.root, videos, captions, metadata, tuple(self.problems), tuple(self.ignored))

    def _sort_file(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            self.videos.append(self._name(path))
        elif path.name in METADATA_NAMES:
            self.metadata.append(self._name(path))
        elif suffix in CAPTION_SUFFIXES:
            self.captions.append(self._name(path))
        else:
            self._ignore(path, "no video", f"suffix {suffix!r} is none of a video" if suffix else "no suffix")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _problem(self, path: Path, detail: str) -> None:
        self.problems.append(Problem(self._name(path), "unreadable", detail))

    def _ignore(self, path: Path, reason: str, detail: str) -> None:
        self.ignored.append(Problem(self._name(path), reason, detail))
