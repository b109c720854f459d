"""Values of options that several commands read alike; light to import."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import typer


def parse_rate(text: str) -> float:
    """Frames per second, as a number or as a ratio such as 24000/1001.

    Raises:
        typer.BadParameter: If the text is neither.
    """
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (
        ValueError,
        ArithmeticError,
    ) as error:  # no number; or a ratio to zero, or past what a float holds
        wanted = "a number such as 24 or a ratio such as 24000/1001"
        raise typer.BadParameter(f"{text!r} is not {wanted}") from error


def is_standard_output(out: str | None) -> bool:
    """Whether a clip goes to the standard output: to `-` as an .mp4, to `-.gif` and the like as that."""
    return out is not None and (out == "-" or (out.startswith("-.") and "/" not in out))


@contextmanager
def standard_output(out: str) -> Iterator[str]:
    """Give a path to write a clip to, whose file goes to the standard output in the end and is deleted.

    Raises:
        ValueError: If the standard output is a terminal, which cannot show a clip.
    """
    stream = typer.get_binary_stream("stdout")
    if stream.isatty():
        raise ValueError(f"`--out {out}` writes the bytes of the clip: send them to a file or a program")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"clip{out.removeprefix('-') or '.mp4'}")
        try:
            yield str(path)
        finally:  # what is written when the user interrupts is kept too
            if path.exists():
                stream.write(path.read_bytes())
                stream.flush()
