"""Prompts of a comparison: which are drawn."""

import pytest

from videogen.comparison.prompts import drawn_prompts


def test_every_second_drawn_prompt_is_held_out() -> None:
    prompts = drawn_prompts(9)
    assert [prompt.objects[0].is_held_out for prompt in prompts] == [False, True] * 4 + [False]
    assert len({prompt.caption for prompt in prompts}) == 9
    assert all(prompt.background is not None for prompt in prompts)


def test_a_shorter_list_is_the_beginning_of_a_longer_one() -> None:
    assert drawn_prompts(3) == drawn_prompts(8)[:3]
    assert drawn_prompts(3, seed=1) != drawn_prompts(3)


def test_prompts_are_of_the_world_that_is_asked_for() -> None:
    objects = [prompt.objects[0] for prompt in drawn_prompts(20, world="shapes-mini")]
    assert {item.size for item in objects} == {"large"}
    with pytest.raises(ValueError, match="`world` must be one of shapes, shapes-mini, got 'moon'"):
        drawn_prompts(1, world="moon")


def test_no_prompts_at_all() -> None:
    with pytest.raises(ValueError, match="`num_prompts`"):
        drawn_prompts(0)
