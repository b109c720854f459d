"""Files of prompts: what is read, and broken lines, which are named."""

from pathlib import Path

import pytest

from videogen.text.prompt_file import MAX_CHARS, read_prompts


def test_broken_lines_are_named_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    lines = [
        b"\xef\xbb\xbfa red circle",
        b"",
        b"  a sheep walks ",
        b"caf\xe9",
        b"a\x00b",
        b"x" * (MAX_CHARS + 1),
        b"   ",
        b"# mine",
        "ein grünes Schaf".encode(),
    ]
    path.write_bytes(b"\r\n".join(lines) + b"\n")
    prompts, problems = read_prompts(path)
    assert prompts == ["a red circle", "a sheep walks", "ein grünes Schaf"]
    assert [problem.split()[1] for problem in problems] == ["2", "4", "5", "6", "7"]
    reasons = ["is empty", "not UTF-8 (byte 4)", r"character ('\x00')", "longer than", "is empty"]
    for problem, words in zip(problems, reasons, strict=True):
        assert words in problem and "left out" in problem


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    with pytest.raises(ValueError, match=r"cannot read .*prompts\.txt: No such file"):
        read_prompts(path)
    path.write_bytes(b"# nothing\n")
    with pytest.raises(ValueError, match="holds no prompt: it is empty"):
        read_prompts(path)
    path.write_bytes(b"\n\n")
    with pytest.raises(ValueError, match="holds no prompt: line 1"):
        read_prompts(path)


def test_no_line_is_lost_to_the_blanks_and_joiners_of_its_script(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    blanks = ["\u00a0", "\u3000", "\u202f", "\t", "  ", "\x0b", "\u2028"]
    kept = [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\u200fa\u2066b\u2069",
    ]
    path.write_text("\n".join([*(f"{blank}a red{blank} circle{blank}" for blank in blanks), *kept]), "utf-8")
    assert read_prompts(path) == (["a red circle"] * len(blanks) + kept, [])
