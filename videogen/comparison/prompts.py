"""The prompts that models are compared on: drawn from the world `shapes`, or read from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from videogen.data.shapes.captions import read_plain_caption
from videogen.data.shapes.world import WORLDS, Background, ShapeObject
from videogen.metrics.prompt_accuracy import evaluation_prompts

MAX_CHARS = 2000  # of a prompt; a longer line is a file of another kind


@dataclass(frozen=True)
class ComparisonPrompt:
    """A prompt, and what a clip of it must show if that can be checked.

    Attributes:
        text: The prompt.
        objects: Of the world `shapes`; empty if the prompt is not in the plain form of that world.
        background: What is behind them; None if the prompt does not say, or is no prompt of that world.
    """

    text: str
    objects: tuple[ShapeObject, ...] = ()
    background: Background | None = None

    @classmethod
    def of(cls, text: str) -> ComparisonPrompt:
        """The prompt with what can be read out of it."""
        return cls(text, *(read_plain_caption(text) or ()))


def drawn_prompts(num_prompts: int, seed: int = 0, world: str = "shapes") -> list[ComparisonPrompt]:
    """Prompts of one object, of which every second is a combination that training never shows.

    Args:
        num_prompts: How many.
        seed: Of the draws.
        world: What they are about, a key of `WORLDS`.

    Raises:
        ValueError: If `num_prompts` is below 1, or there is no such world.
    """
    if num_prompts < 1:
        raise ValueError(f"`num_prompts` must be at least 1, got {num_prompts}")
    if world not in WORLDS:
        raise ValueError(f"`world` must be one of {', '.join(WORLDS)}, got {world!r}")
    kinds = [
        evaluation_prompts(WORLDS[world], num_prompts, held_out=held_out, seed=seed)
        for held_out in (False, True)
    ]
    return [ComparisonPrompt.of(kinds[number % 2][number // 2].caption) for number in range(num_prompts)]


def read_prompts(path: Path) -> tuple[list[ComparisonPrompt], list[str]]:
    """Read a text file with a prompt on each line.

    Returns:
        The prompts, and for each line that is left out a sentence with its number that says why.

    Raises:
        ValueError: If the file cannot be read or no line of it is a prompt.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"`prompts`: cannot read {path}: {error.strerror}") from error
    prompts, problems = [], []
    for number, line in enumerate(data.splitlines(), start=1):
        text, problem = _read_line(line)
        if problem:
            problems.append(f"line {number} of {path} {problem}: it is left out")
        else:
            prompts.append(ComparisonPrompt.of(text))
    if not prompts:
        found = f": {problems[0]}" if problems else ": it is empty"
        raise ValueError(f"`prompts`: {path} holds no prompt{found}")
    return prompts, problems


def _read_line(line: bytes) -> tuple[str, str]:
    """The prompt of a line, and what is wrong with it, or nothing."""
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return "", f"is not UTF-8 (byte {error.start + 1})"
    if not text:
        return "", "is empty"
    if len(text) > MAX_CHARS:
        return "", f"is longer than {MAX_CHARS} characters"
    odd = [char for char in text if not char.isprintable()]
    return (text, f"holds a control character ({odd[0]!r})") if odd else (text, "")
