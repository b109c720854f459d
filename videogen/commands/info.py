"""`videogen info`: what is in a clip file, and the recipe it was made with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from videogen.commands.messages import printable
from videogen.io import read_clip


def describe_clip(path: str) -> dict[str, Any]:
    """The facts of a clip, found by decoding it, with its recipe (None if it carries none); JSON-able.

    Raises:
        ValueError: If the file is missing, damaged or of an unknown format.
    """
    clip = read_clip(path)
    num_frames, height, width, _ = clip.frames.shape
    file = Path(path)
    files = list(file.iterdir()) if file.is_dir() else [file]
    return {
        "path": path,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "fps": clip.fps,
        "seconds": num_frames / clip.fps,
        "num_bytes": sum(part.stat().st_size for part in files),
        "recipe": clip.recipe,
    }


_LEAST_WIDTH = 40  # narrower terminals break the lines themselves, where the table would leave values out


def print_clip(description: dict[str, Any]) -> None:
    """Print what `describe_clip` found as a table."""
    recipe = description["recipe"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    facts = {
        "clip": description["path"],
        "frames": f"{description['num_frames']} of {description['width']}x{description['height']} pixels",
        "time": f"{description['seconds']:.3g} s at {description['fps']:.5g} frames per second",
        "size": f"{description['num_bytes']:,} bytes",
    }
    for name, value in (*facts.items(), *_rows(recipe or {})):
        table.add_row(Text(printable(name)), Text(printable(value)))
    console = Console(highlight=False)
    console.width = max(console.width, _LEAST_WIDTH)
    console.print(table)
    if recipe is None:
        console.print("This clip carries no recipe.")


def _rows(recipe: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A recipe, which may hold anything that JSON can, as pairs of texts; a dict in it takes several."""
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from ((f"{name}: {inner}", text) for inner, text in _rows(value))
        elif value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value)
