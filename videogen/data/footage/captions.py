"""The caption of each video: from a table, from a text file beside it, or from its name."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from videogen.data.footage.discovery import FoundFootage, Problem, same_name

_FILE_COLUMN = "file_name"
_CAPTION_COLUMNS = ("text", "caption")


@dataclass(frozen=True)
class Caption:
    """A caption and where it comes from.

    Attributes:
        text: On one line, without doubled spaces.
        origin: The name of the file that holds it, or `file name`.
        notes: What a user may want to know about the choice.
    """

    text: str
    origin: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Captions:
    """The captions of a folder of footage.

    Attributes:
        of: Caption of each video, by its name.
        problems: Videos whose caption cannot be read, and captions of videos that are not there.
    """

    of: dict[str, Caption]
    problems: tuple[Problem, ...]


FROM_FILE_NAME = "file name"


def read_captions(found: FoundFootage) -> Captions:
    """Find the caption of every video.

    A row of `metadata.jsonl` or `metadata.csv` goes first (Hugging Face's videofolder: `file_name`, relative
    to the table, and `text` or `caption`), then `clip.txt` or `clip.caption` beside `clip.mp4`, then the
    file's name, with `_` and `-` read as spaces.

    Raises:
        ValueError: If a table is not UTF-8, not JSON or CSV, or lacks a column; the message names the line.
    """
    problems: list[Problem] = []
    table: dict[str, Caption] = {}
    videos = {same_name(video): video for video in found.videos}
    # Of a file that is there and cannot be opened, that is said already.
    told = {same_name(problem.name) for problem in found.problems}
    for metadata in found.metadata:
        for line, file_name, text in _rows(found.folder / metadata, metadata):
            name = _resolve(PurePosixPath(metadata).parent, file_name)
            video = videos.get(name)
            if video is not None:
                table.setdefault(video, Caption(_one_line(text), metadata))
            elif name not in told:
                detail = f"named in {metadata}, line {line}, but there is no such video"
                problems.append(Problem(name, "missing", detail))
    sidecars = _sidecars(found)
    chosen: dict[str, Caption] = {}
    for video in found.videos:
        beside = sidecars.pop(_stem(video), [])
        if video in table:
            notes = tuple(f"{other} is not used: {table[video].origin} goes first" for other in beside)
            chosen[video] = _noted(Caption(table[video].text, table[video].origin, notes))
        elif beside:
            try:
                text = _read_text(found.folder / beside[0], beside[0])
            except (ValueError, OSError) as error:
                problems.append(Problem(video, "caption unreadable", str(error)))
                continue
            notes = tuple(f"{other} is not used: {beside[0]} goes first" for other in beside[1:])
            chosen[video] = _noted(Caption(_one_line(text), beside[0], notes))
            sidecars[_stem(video)] = beside  # clip.mp4 and clip.webm may share clip.txt
        else:
            words = re.sub(r"[\s_-]+", " ", PurePosixPath(video).stem).strip()
            chosen[video] = Caption(_encodable(words), FROM_FILE_NAME)
    used = {_stem(video) for video in found.videos}
    problems += [
        Problem(name, "missing", "a caption without a video of the same name beside it")
        for stem, names in sidecars.items()
        if stem not in used and not any(_stem(problem.name) == stem for problem in found.problems)
        for name in names
        if PurePosixPath(name).suffix.lower() == ".caption" or _looks_like_caption(stem, found)
    ]
    return Captions(chosen, tuple(problems))


def _looks_like_caption(stem: str, found: FoundFootage) -> bool:
    """Whether a .txt stands among captions; a README.txt among videos without any does not."""
    folder = PurePosixPath(stem).parent
    videos = {_stem(video) for video in found.videos if PurePosixPath(video).parent == folder}
    return any(_stem(name) in videos for name in found.captions if PurePosixPath(name).parent == folder)


def _sidecars(found: FoundFootage) -> dict[str, list[str]]:
    """Caption files by the name of the video without suffix, .txt before .caption."""
    files: dict[str, list[str]] = {}
    for name in sorted(found.captions, key=lambda name: not name.lower().endswith(".txt")):
        files.setdefault(_stem(name), []).append(name)
    return files


def _stem(name: str) -> str:
    return same_name(str(PurePosixPath(name).with_suffix("")))


def _resolve(folder: PurePosixPath, file_name: str) -> str:
    """The name within the footage of a file that a table in `folder` speaks of."""
    parts: list[str] = []
    for part in (*folder.parts, *PurePosixPath(file_name.replace("\\", "/")).parts):
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return same_name("/".join(parts))


def _rows(path: Path, name: str) -> Iterator[tuple[int, str, str]]:
    """Line number, file name and caption of each row of a table."""
    text = _read_text(path, name)
    rows = _json_rows(text, name) if path.suffix == ".jsonl" else _csv_rows(text)
    for line, row in rows:
        file_name = row.get(_FILE_COLUMN)
        captions = [row[column] for column in _CAPTION_COLUMNS if row.get(column) is not None]
        if not isinstance(file_name, str) or not file_name:
            raise ValueError(f"{name}, line {line}: there is no `{_FILE_COLUMN}`")
        if not captions or not isinstance(captions[0], str):
            raise ValueError(f"{name}, line {line}: there is no `text` and no `caption` for {file_name!r}")
        yield line, file_name, captions[0]


def _json_rows(text: str, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}, line {line}: not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise ValueError(f'{name}, line {line}: must be an object such as {{"file_name": ...}}')
        yield line, row


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for row in reader:
        yield reader.line_num, {key: value for key, value in row.items() if key is not None}


def _read_text(path: Path, name: str) -> str:
    """The text of a file; a byte order mark, which editors on Windows write, is no part of it."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start}): "
            "save it as UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(f"{name} cannot be opened: {error.strerror}") from error


def _one_line(text: str) -> str:
    return _encodable(" ".join(text.split()))


def _encodable(text: str) -> str:
    """Without lone surrogates, which JSON and file names may hold and no text encoder takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _noted(caption: Caption) -> Caption:
    if caption.text:
        return caption
    return Caption("", caption.origin, (*caption.notes, f"the caption in {caption.origin} is empty"))
