"""Read tables of captions, `metadata.jsonl` and `metadata.csv`; a mistake is an error that names the line."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from videogen.data.footage.discovery import VIDEO_SUFFIXES
from videogen.prompt_text import one_line

_FILE_COLUMN = "file_name"
_CAPTION_COLUMNS = ("text", "caption")
_DELIMITERS = (",", ";", "\t")  # spreadsheets write the second where the comma is the decimal point


@dataclass(frozen=True)
class TableRow:
    """A row of a table of captions.

    Attributes:
        origin: The table and the line in which the row begins, for messages.
        file_name: Of the video, as the row has it.
        text: The caption, as `one_line` gives it.
    """

    origin: str
    file_name: str
    text: str


def read_table(path: Path, name: str) -> Iterator[TableRow]:
    """The rows of a table, as Hugging Face's videofolder has it: `file_name`, and `text` or `caption`.

    Args:
        path: A file with the suffix .jsonl or .csv.
        name: What to call it in messages.

    Raises:
        ValueError: If the table is not UTF-8, not JSON or CSV, or lacks a column; the message names the line.
    """
    content = read_text(path, name)
    rows = _json_rows(content, name) if path.suffix.lower() == ".jsonl" else _csv_rows(content, name)
    for origin, row in rows:
        file_name = row.get(_FILE_COLUMN)
        captions = [row[column] for column in _CAPTION_COLUMNS if row.get(column) is not None]
        if not isinstance(file_name, str) or not file_name:
            raise ValueError(f"{origin}: there is no `{_FILE_COLUMN}`")
        if "\0" in file_name:
            raise ValueError(f"{origin}: `{_FILE_COLUMN}` holds a null character, which no file name has")
        if not captions or not isinstance(captions[0], str):
            without = not set(_CAPTION_COLUMNS) & set(row)
            names = f", only {', '.join(map(repr, row))}" if without else ""
            raise ValueError(f"{origin}: there is no `text` and no `caption` for {file_name!r}{names}")
        yield TableRow(origin, file_name.strip(), one_line(captions[0], origin))


def read_text(path: Path, name: str) -> str:
    """The text of a file; a byte order mark, which editors on Windows write, is no part of it.

    Args:
        path: The file.
        name: What to call it in messages.

    Raises:
        ValueError: If it cannot be opened or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name} cannot be opened: {error.strerror}") from error
    # Without a mark before it, its ASCII characters show: every other byte is zero.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:2]:
        raise ValueError(f"{name} is UTF-16 or UTF-32, not UTF-8 text: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 text but of another encoding, such as Latin-1 (byte "
            f"{content[error.start]:#04x} at {error.start}): save it as UTF-8"
        ) from error


def _json_rows(content: str, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        origin = f"{name}, line {number}"
        try:
            row = json.loads(line, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{origin}: not JSON as it should be: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'{origin}: must be an object such as {{"file_name": ...}}')
        yield origin, row


def _csv_rows(content: str, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    header: list[str] = []
    delimiter = _delimiter(content)
    reader = csv.reader(
        io.StringIO(content, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    while True:
        origin = f"{name}, line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{origin}: not CSV: {error}; a cell that begins with a quote must end with one, and quotes "
                "in it are doubled"
            ) from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            _check_header(header, origin)
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            raise ValueError(
                f"{origin}: it has {len(cells)} cells, but the header names {len(header)}: "
                f"put quotes around a caption with {delimiter!r} in it"
            )
        _check_swallows_no_row(cells, delimiter, origin)
        yield origin, dict(zip(header, cells, strict=False))


def _check_header(header: list[str], origin: str) -> None:
    missing = {f"`{_FILE_COLUMN}`": [_FILE_COLUMN], "`text` and no `caption`": _CAPTION_COLUMNS}
    for what, names in missing.items():
        if not set(names) & set(header):
            raise ValueError(
                f"{origin}: there is no {what} among the columns, which are "
                f"{', '.join(map(repr, header))}: name it, and separate cells by commas"
            )
    if twice := _repeated(filter(None, header)):
        raise ValueError(f"{origin}: there are several columns {twice!r}: leave one")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON, of which the standard would have the last of several values count."""
    if twice := _repeated(name for name, _ in pairs):
        raise ValueError(f"there are several values of {twice!r}: leave one")
    return dict(pairs)


def _repeated(names: Iterable[str]) -> str:
    """The first name that comes more than once, "" if none does."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


def _delimiter(content: str) -> str:
    """What stands between the cells of a table: by what its header would have the column of files."""
    header = next((line for line in content.splitlines() if line.strip()), "")
    for delimiter in _DELIMITERS:
        if _FILE_COLUMN in [cell.strip().strip('"') for cell in header.split(delimiter)]:
            return delimiter
    return ","


def _check_swallows_no_row(cells: list[str], delimiter: str, origin: str) -> None:
    """Raise ValueError if a cell extends over a line that is a row itself, as two misplaced quotes cause."""
    for line in (line for cell in cells for line in cell.splitlines() if line != cell):
        parts = [part.strip() for part in line.split(delimiter)]
        names = [part for part in parts if PurePosixPath(part).suffix.lower() in VIDEO_SUFFIXES]
        if len(parts) > 1 and names:
            raise ValueError(
                f"{origin}: a cell in quotes extends over the row of {names[0]!r}: close the quote before it"
            )
