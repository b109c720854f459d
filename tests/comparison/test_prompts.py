"""Prompts of a comparison: drawn ones, and those of a file, whose broken lines are named."""

from pathlib import Path

import pytest

from videogen.comparison.prompts import MAX_CHARS, ComparisonPrompt, drawn_prompts, read_prompts
from videogen.data.shapes.world import Background, ShapeObject

RED = "a large red circle moves right"


def test_every_second_drawn_prompt_is_held_out() -> None:
    prompts = drawn_prompts(9)
    assert [prompt.objects[0].is_held_out for prompt in prompts] == [False, True] * 4 + [False]
    assert len({prompt.text for prompt in prompts}) == 9
    assert all(prompt.background is not None for prompt in prompts)


def test_a_shorter_list_is_the_beginning_of_a_longer_one() -> None:
    assert drawn_prompts(3) == drawn_prompts(8)[:3]
    assert drawn_prompts(3, seed=1) != drawn_prompts(3)


def test_prompts_are_of_the_world_that_is_asked_for() -> None:
    objects = [prompt.objects[0] for prompt in drawn_prompts(20, world="shapes-mini")]
    assert {item.size for item in objects} == {"large"}
    with pytest.raises(ValueError, match="`world` must be one of shapes, shapes-mini, got 'moon'"):
        drawn_prompts(1, world="moon")


def test_a_prompt_of_the_world_can_be_checked() -> None:
    item = ShapeObject("red", "circle", "large", "right")
    assert ComparisonPrompt.of(RED) == ComparisonPrompt(RED, (item,), None)
    on_black = f"{RED} on a black background"
    assert ComparisonPrompt.of(on_black) == ComparisonPrompt(on_black, (item,), Background("black"))
    assert ComparisonPrompt.of("a sheep walks") == ComparisonPrompt("a sheep walks", (), None)


def test_broken_lines_are_named_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    lines = [
        b"\xef\xbb\xbf" + RED.encode(),
        b"",
        b"  a sheep walks ",
        b"caf\xe9",
        b"a\x00b",
        b"x" * (MAX_CHARS + 1),
        b"   ",
        "ein grünes Schaf".encode(),
    ]
    path.write_bytes(b"\r\n".join(lines) + b"\n")
    prompts, problems = read_prompts(path)
    assert [prompt.text for prompt in prompts] == [RED, "a sheep walks", "ein grünes Schaf"]
    assert [problem.split()[1] for problem in problems] == ["2", "4", "5", "6", "7"]
    reasons = ["is empty", "not UTF-8 (byte 4)", r"character ('\x00')", "longer than", "is empty"]
    for problem, words in zip(problems, reasons, strict=True):
        assert words in problem and "left out" in problem


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    with pytest.raises(ValueError, match=r"cannot read .*prompts\.txt: No such file"):
        read_prompts(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="holds no prompt: it is empty"):
        read_prompts(path)
    path.write_bytes(b"\n\n")
    with pytest.raises(ValueError, match="holds no prompt: line 1"):
        read_prompts(path)
    with pytest.raises(ValueError, match="`num_prompts`"):
        drawn_prompts(0)
