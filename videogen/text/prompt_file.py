"""Files of prompts: text, one prompt a line."""

from __future__ import annotations

from pathlib import Path

from videogen.prompt_text import one_line

MAX_CHARS = 2000  # of a prompt; a longer line is a file of another kind


def read_prompts(path: Path) -> tuple[list[str], list[str]]:
    """Read a file of prompts, each as `one_line` gives it; lines that begin with `#` are remarks.

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
        try:
            text = _read_line(line, f"line {number} of {path}")
        except ValueError as error:
            problems.append(f"{error}: it is left out")
        else:
            prompts += [] if text.startswith("#") else [text]
    if not prompts:
        found = problems[0] if problems else "it is empty, or has remarks alone"
        raise ValueError(f"`prompts`: {path} holds no prompt: {found}")
    return prompts, problems


def _read_line(line: bytes, source: str) -> str:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 (byte {error.start + 1})") from error
    text = one_line(text, source)
    if not text:
        raise ValueError(f"{source} is empty")
    if len(text) > MAX_CHARS:
        raise ValueError(f"{source} is longer than {MAX_CHARS} characters")
    return text
