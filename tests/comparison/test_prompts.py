"""Prompts of a comparison: which are drawn, and what can be checked of them."""

import pytest

from videogen.comparison.prompts import ComparisonPrompt, drawn_prompts
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


def test_no_prompts_at_all() -> None:
    with pytest.raises(ValueError, match="`num_prompts`"):
        drawn_prompts(0)
