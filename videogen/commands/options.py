"""Options that several commands have alike, and how their values are read; light to import."""

from __future__ import annotations

import functools
import inspect
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from videogen.settings import SETTINGS, GenerationSettings


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


def option(name: str, help: str | None = None, metavar: str | None = None) -> Any:
    """The option of a setting, for `Annotated`; help and metavar are by default those of the list."""
    setting = SETTINGS[name]
    return typer.Option(
        setting.flag,
        metavar=metavar or setting.metavar,
        parser=parse_rate if name == "fps" else None,
        help=help or setting.help,
    )


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting, in the place of its keyword `settings`."""
    options = []
    for name, setting in SETTINGS.items():
        kind = list[str] if setting.kind is tuple else setting.kind
        parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        options.append(parameter.replace(annotation=Annotated[kind | None, option(name)]))

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        given = {name: values.pop(name) for name in SETTINGS}
        texts = {name: tuple(value) or None for name, value in given.items() if isinstance(value, list)}
        command(**values, settings=GenerationSettings(**given | texts))

    signature = inspect.signature(command, eval_str=True)
    parameters = list(signature.parameters.values())
    place = list(signature.parameters).index("settings")
    parameters[place : place + 1] = options
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {item.name: item.annotation for item in parameters}
    return with_options


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
