"""The caption of each video: from a table, from a text file beside it, or from its name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from videogen.data.footage.discovery import FoundFootage, Problem, same_name
from videogen.data.footage.sequences import PictureSequence
from videogen.data.footage.tables import TableRow, read_table, read_text
from videogen.prompt_text import one_line

_MAX_UNUSED_ROWS = 8  # that are told one by one


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
        unused_rows: Sentences about rows of tables that speak of a video which has another row.
    """

    of: dict[str, Caption]
    problems: tuple[Problem, ...]
    unused_rows: tuple[str, ...] = ()

    def advice(self) -> list[str]:
        """What to change about tables that speak of a video more than once, in sentences."""
        rows = self.unused_rows
        if not rows:
            return []
        num_rows = "1 row of a table is" if len(rows) == 1 else f"{len(rows)} rows of tables are"
        shown = "; ".join((*rows[:_MAX_UNUSED_ROWS], *(["..."] if len(rows) > _MAX_UNUSED_ROWS else [])))
        return [f"{num_rows} not used, as an earlier one speaks of the same video: {shown}."]


FROM_FILE_NAME = "file name"


def read_captions(found: FoundFootage) -> Captions:
    """Find the caption of every video.

    A row of `metadata.jsonl` or `metadata.csv` goes first (see `read_table`; the first row if there are
    several), then `clip.txt` or `clip.caption` beside `clip.mp4`, then the file's name, with `_` and `-` read
    as spaces. A row names its video relative to the table, or by its absolute path. Numbered pictures are
    named by their folder, or where it holds several sequences by what precedes their numbers.

    Raises:
        ValueError: If a table is wrong, see `read_table`; the message names the line.
    """
    problems: list[Problem] = []
    table: dict[str, tuple[str, TableRow]] = {}
    unused_rows: list[str] = []
    titles = _titles(found)
    videos = {same_name(video): video for video in found.videos}
    for video in found.videos:
        sequence = PictureSequence.of(found.folder / video)
        if sequence is not None:
            videos[_stem(titles[video])] = video
            videos |= {
                same_name(str(PurePosixPath(video).with_name(file.name))): video for file in sequence.files
            }
    # Of a file that is there and cannot be opened, that is said already.
    told = {same_name(problem.name) for problem in found.problems}
    for metadata, row in _rows(found):
        name = _resolve(found.folder, metadata, row.file_name)
        named = videos.get(name)
        if named is None:
            if name not in told:
                detail = f"named in {row.origin}, but there is no such video"
                problems.append(Problem(name, "missing", detail))
        elif named in table:
            first = table[named][1]
            same = "the same caption" if first.text == row.text else "another caption"
            unused_rows.append(f"{row.origin} is not used: {first.origin} gives {named} {same}")
        else:
            table[named] = (metadata, row)
    sidecars = _sidecars(found)
    chosen: dict[str, Caption] = {}
    for video in found.videos:
        title = titles[video]
        beside = sidecars.get(_stem(title), [])  # clip.mp4 and clip.webm may share clip.txt
        try:
            if video in table:
                origin, text = table[video][0], table[video][1].text
            elif beside:
                origin = beside[0]
                text = one_line(read_text(found.folder / origin, origin), origin)
            else:
                origin = FROM_FILE_NAME
                text = one_line(re.sub(r"[_-]", " ", PurePosixPath(title).stem), "its file name")
        except ValueError as error:
            problems.append(Problem(video, "caption unreadable", str(error)))
            continue
        notes = [f"{other} is not used: {origin} goes first" for other in beside if other != origin]
        if not text and origin != FROM_FILE_NAME:
            notes.append(f"the caption in {origin} is empty")
        chosen[video] = Caption(_encodable(text), origin, tuple(notes))
    used = {_stem(title) for title in titles.values()}
    problems += [
        Problem(name, "missing", "a caption without a video of the same name beside it")
        for stem, names in sidecars.items()
        if stem not in used and not any(_stem(problem.name) == stem for problem in found.problems)
        for name in names
        if PurePosixPath(name).suffix.lower() == ".caption" or _looks_like_caption(stem, found)
    ]
    return Captions(chosen, tuple(problems), tuple(unused_rows))


def _titles(found: FoundFootage) -> dict[str, str]:
    """The file name, within the footage, by which captions speak of each video."""
    titles = {video: video for video in found.videos}
    sequences = {video: PictureSequence.of(found.folder / video) for video in found.videos}
    num_in = Counter(PurePosixPath(video).parent for video, sequence in sequences.items() if sequence)
    for video, sequence in sequences.items():
        if sequence is not None:
            folder, words = PurePosixPath(video).parent, sequence.prefix.rstrip("_-. ")
            own = str(folder) if folder.name else found.folder.absolute().name
            shared = num_in[folder] > 1 or not folder.name
            titles[video] = (str(folder / words) if shared and words else own) + sequence.suffix
    return titles


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


def _rows(found: FoundFootage) -> Iterator[tuple[str, TableRow]]:
    """The rows of all tables, each with the name of its table."""
    for metadata in found.metadata:
        for row in read_table(found.folder / metadata, metadata):
            yield metadata, row


def _resolve(root: Path, metadata: str, file_name: str) -> str:
    """The name within the footage of a file that a table speaks of; of one elsewhere, its absolute path."""
    path = Path(os.path.normpath((root / metadata).absolute().parent / file_name.replace("\\", "/")))
    # The second spelling is for a row that goes another way, through a link, to the same folder.
    linked = Path(os.path.realpath(path.parent), path.name)
    for spelling, folder in ((path, root.absolute()), (linked, root.resolve())):
        name, start = same_name(spelling.as_posix()), same_name(folder.as_posix())
        if PurePosixPath(name).is_relative_to(start):
            return PurePosixPath(name).relative_to(start).as_posix()
    return same_name(path.as_posix())


def _encodable(text: str) -> str:
    """Without lone surrogates, which JSON and file names may hold and no text encoder takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
