"""Files of prompts: text, one prompt a line."""

from __future__ import annotations

from pathlib import Path

MAX_CHARS = 2000  # of a prompt; a longer line is a file of another kind


def read_prompts(path: Path) -> tuple[list[str], list[str]]:
    """Read a file of prompts. Lines that begin with `#` are remarks, and passed over.

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
        elif not text.startswith("#"):
            prompts.append(text)
    if not prompts:
        found = problems[0] if problems else "it is empty, or has remarks alone"
        raise ValueError(f"`prompts`: {path} holds no prompt: {found}")
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
