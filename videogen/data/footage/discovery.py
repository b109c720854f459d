"""Find the video files in a folder, and name whatever else lies there."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from videogen.data.footage.recognition import FileKind, kind_of
from videogen.data.footage.sequences import find_sequences

_COMMON_SUFFIXES = "mp4 m4v mov mkv webm avi gif webp apng wmv asf flv f4v 3gp 3g2 ogv rm"
_BROADCAST_SUFFIXES = "mpg mpeg m2v ts mts m2ts vob mxf dv mjpeg mjpg"
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in f"{_COMMON_SUFFIXES} {_BROADCAST_SUFFIXES}".split())
"""Of files that claim to be videos, so that one that cannot be read is a problem; else content decides."""

CAPTION_SUFFIXES = (".txt", ".caption")
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")

_PICTURE_SUFFIXES = (".gif", ".webp", ".apng")  # of videos, and of pictures as well
_MAX_SUFFIXES = 6  # that are listed of a kind


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
        videos: Files with the suffix of a video, or its content, and then picture sequences, each under the
            name of its `PictureSequence`.
        captions: Files that may hold the caption of the video beside them.
        metadata: Tables of captions.
        problems: Files and folders that should have been read and cannot be.
        ignored: What is no video, such as a licence or a picture; nothing is wrong with it.
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
        ValueError: If the folder is missing or holds no video.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"`folder` must be a folder of video files, but {str(root)!r} {what}")
    walk = _Walk(root)
    walk.look_into(root)
    found = walk.found()
    if not found.videos and not found.problems:
        captions = "only captions" if found.captions or found.metadata else "it is empty"
        passed_over = describe_ignored(found.ignored) or captions
        raise ValueError(f"`folder` {str(root)!r} holds no video file: {passed_over}")
    return found


def same_name(name: str) -> str:
    """The name in the one Unicode form in which two that look the same are equal."""
    return unicodedata.normalize("NFC", name)


def describe_ignored(ignored: Sequence[Problem]) -> str:
    """How much is passed over and of what kind, in one line; "" if nothing is."""
    if not ignored:
        return ""
    suffixes: dict[str, Counter[str]] = {}
    for item in ignored:
        suffix = PurePosixPath(item.name).suffix.lower()
        suffixes.setdefault(item.reason, Counter())[suffix or "no suffix"] += 1
    kinds = [
        f"{counts.total()} {reason} ({', '.join(suffix for suffix, _ in counts.most_common(_MAX_SUFFIXES))}"
        f"{', ...' if len(counts) > _MAX_SUFFIXES else ''})"
        for reason, counts in suffixes.items()
    ]
    files = "1 file is" if len(ignored) == 1 else f"{len(ignored)} files are"
    return f"{files} passed over: {', '.join(kinds)}"


class _Walk:
    """The state of a walk: what was found so far, and which folders were entered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entered: set[tuple[int, int]] = set()
        self.videos: list[str] = []
        self.pictures: list[str] = []
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
        # A picture of the same name as a video is a view of it.
        stems = {str(PurePosixPath(video).with_suffix("")) for video in self.videos}
        alone = [name for name in self.pictures if str(PurePosixPath(name).with_suffix("")) not in stems]
        sequences = find_sequences(alone)
        for name in sorted(
            set(self.pictures) - {picture for files in sequences.values() for picture in files}
        ):
            self._ignore(self.root / name, "picture", "a picture, not one of a numbered sequence")
        videos = (*self.videos, *sequences)
        return FoundFootage(
            self.root,
            videos,
            tuple(self.captions),
            tuple(self.metadata),
            tuple(self.problems),
            tuple(self.ignored),
        )

    def _sort_file(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if not path.is_file():
            self._ignore(path, "no file", "a pipe or a device")
        elif path.name.lower() in METADATA_NAMES:
            self.metadata.append(self._name(path))
        elif suffix in CAPTION_SUFFIXES:
            self.captions.append(self._name(path))
        elif suffix in VIDEO_SUFFIXES and suffix not in _PICTURE_SUFFIXES:
            self.videos.append(self._name(path))
        else:
            kind = kind_of(path)
            if kind is FileKind.PICTURE:
                self.pictures.append(self._name(path))
            elif kind is FileKind.VIDEO or suffix in VIDEO_SUFFIXES:
                self.videos.append(self._name(path))
            else:
                self._ignore(path, kind.value, "its content is no video that can be decoded")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _problem(self, path: Path, detail: str) -> None:
        self.problems.append(Problem(self._name(path), "unreadable", detail))

    def _ignore(self, path: Path, reason: str, detail: str) -> None:
        self.ignored.append(Problem(self._name(path), reason, detail))
