"""What a command line says when something goes wrong: one line on stderr, and an exit status."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

EXIT_ERROR = 1
EXIT_PARTIAL = 3
"""The result is there, but something that was asked for is not in it."""
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count

MAX_CHARS = 500  # of a message, which may quote a prompt


def printable(text: str) -> str:
    """The text on one line, with what a terminal would obey escaped: prompts in clips come from strangers."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def say(kind: str, text: str) -> None:
    """Print an `error` or a `warning` as one line on stderr."""
    shown = printable(text)
    typer.echo(f"{kind}: {shown if len(shown) <= MAX_CHARS else shown[:MAX_CHARS] + ' ...'}", err=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the command with one line on stderr where a traceback would help nobody.

    The library reports what users cause as ValueError, OSError and FloatingPointError; torch tells of memory,
    devices and dtypes by RuntimeError. Anything else is a mistake of ours and keeps its traceback.
    """
    try:
        yield
    except (BrokenPipeError, typer.Exit):
        raise  # the reader of our output has left, as `head` does; or the command has said all
    except KeyboardInterrupt as stop:
        typer.echo(printable(str(stop)) or "interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (ValueError, OSError, FloatingPointError, RuntimeError, MemoryError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        say("error", lines[0])
        raise typer.Exit(EXIT_ERROR) from None


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show each warning to users as one line on stderr, once; those for developers are left out."""
    said: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if str(message) not in said:
            said.add(str(message))
            say("warning", str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
