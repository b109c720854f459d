"""Prompt accuracy: full on clips that were drawn for the prompts, low on the clips of others."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from videogen.data.shapes.render import render
from videogen.data.shapes.world import (
    BACKGROUNDS,
    SHAPES_MINI,
    SHAPES_WORLD,
    WORLDS,
    Background,
    ShapeObject,
    clearance,
    pair_fits,
)
from videogen.metrics.prompt_accuracy import EvaluationPrompt, evaluation_prompts, measure_prompt_accuracy


def draw(prompts: list[EvaluationPrompt]) -> Tensor:
    """Clips `(B, 3, F, H, W)` as the prompts ask for them, objects apart from each other."""
    scenes = []
    for prompt in prompts:
        assert prompt.background is not None
        drawn = [SHAPES_WORLD.scene_of(prompt.objects, seed) for seed in range(8)]
        apart = next(scene for scene in drawn if len(scene.objects) == 1 or clearance(scene) > 0)
        scenes.append(replace(apart, background=prompt.background))
    return render(scenes)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("held_out", [False, True])
def test_prompts_are_all_held_out_or_none(world: str, held_out: bool) -> None:
    prompts = evaluation_prompts(WORLDS[world], 60, held_out=held_out)
    assert len(prompts) == 60
    assert all(len(prompt.objects) == 1 for prompt in prompts)
    assert {prompt.objects[0].is_held_out for prompt in prompts} == {held_out}


@pytest.mark.parametrize("held_out", [False, True])
def test_only_the_first_of_two_objects_is_held_out(held_out: bool) -> None:
    for prompt in evaluation_prompts(SHAPES_WORLD, 30, held_out=held_out, num_objects=2):
        first, second = prompt.objects
        assert (first.is_held_out, second.is_held_out) == (held_out, False)
        assert pair_fits(first, second)
        assert f" {first.colour} {first.shape} " in prompt.caption.split(" and ")[0]


def test_prompts_name_everything_in_plain_words() -> None:
    for prompt in evaluation_prompts(SHAPES_MINI, 10, held_out=False):
        wanted = prompt.objects[0]
        start = f"a large {wanted.colour} {wanted.shape} moves {wanted.motion} on a "
        assert prompt.caption.startswith(start)
        assert prompt.caption.removeprefix(start) in {
            f"{name} background" for name in SHAPES_MINI.backgrounds
        }
    backgrounds = {
        prompt.caption.split()[-2] for prompt in evaluation_prompts(SHAPES_WORLD, 60, held_out=True)
    }
    assert backgrounds == set(BACKGROUNDS)


def test_prompts_follow_from_the_seed() -> None:
    prompts = evaluation_prompts(SHAPES_WORLD, 20, held_out=False, seed=5)
    assert prompts == evaluation_prompts(SHAPES_WORLD, 20, held_out=False, seed=5)
    assert prompts[:7] == evaluation_prompts(SHAPES_WORLD, 7, held_out=False, seed=5)
    assert prompts != evaluation_prompts(SHAPES_WORLD, 20, held_out=False, seed=6)


@pytest.mark.parametrize("held_out, num_objects", [(False, 1), (True, 1), (True, 2)])
def test_clips_drawn_for_their_prompts_are_right(held_out: bool, num_objects: int) -> None:
    prompts = evaluation_prompts(SHAPES_WORLD, 32, held_out=held_out, num_objects=num_objects)
    report = measure_prompt_accuracy(draw(prompts), prompts)
    assert report.all_right.total == 32
    assert report.all_right.share >= 0.96
    assert report.background is not None and report.background.share >= 0.96
    assert sum(part.total for part in report.by_motion.values()) == 32 * num_objects
    assert sum(part.total for part in report.by_shape.values()) == 32 * num_objects


def test_clips_of_other_prompts_are_wrong() -> None:
    prompts = evaluation_prompts(SHAPES_WORLD, 48, held_out=False)
    report = measure_prompt_accuracy(draw(prompts).roll(1, dims=0), prompts)
    assert report.all_right.share < 0.1
    assert report.colour.share < 0.4  # by chance 1 of 8
    assert report.motion.share < 0.3  # by chance 1 of 16


def test_a_background_counts_where_it_is_named_and_not_for_all_right() -> None:
    prompts = evaluation_prompts(SHAPES_MINI, 8, held_out=False)
    clips = draw(prompts)
    other = {"black": "white", "white": "black"}
    spoilt = [
        replace(prompt, background=Background(other[prompt.background.name]) if idx < 4 else None)
        for idx, prompt in enumerate(prompts)
        if prompt.background is not None
    ]
    report = measure_prompt_accuracy(clips, spoilt)
    assert report.background is not None
    assert (report.background.successes, report.background.total) == (0, 4)
    assert report.all_right.successes == 8
    unnamed = [replace(prompt, background=None) for prompt in prompts]
    assert measure_prompt_accuracy(clips, unnamed).background is None


def test_a_pair_is_right_only_if_both_objects_are() -> None:
    prompts = evaluation_prompts(SHAPES_WORLD, 12, held_out=False, num_objects=2)
    clips = draw(prompts)
    spoilt = []
    for prompt in prompts:
        first, second = prompt.objects
        motion = "left" if second.motion != "left" else "right"
        spoilt.append(replace(prompt, objects=(first, replace(second, motion=motion))))
    report = measure_prompt_accuracy(clips, spoilt)
    assert report.all_right.successes == report.motion.successes == 0
    assert report.colour.successes == report.shape.successes == 12
    assert sum(part.successes for part in report.by_motion.values()) == len(
        prompts
    )  # the first object of each


def test_breakdown_says_what_is_weak() -> None:
    prompts = evaluation_prompts(SHAPES_MINI, 24, held_out=False)
    frozen = draw(prompts)[:, :, 8:9].expand(-1, -1, 16, -1, -1)
    report = measure_prompt_accuracy(iter(frozen), prompts)
    assert set(report.by_motion) == {prompt.objects[0].motion for prompt in prompts}
    assert all(part.successes == 0 for part in report.by_motion.values())
    assert all(part.share == 1 for part in report.by_shape.values())


def test_empty_clips_have_nothing_right() -> None:
    prompts = evaluation_prompts(SHAPES_WORLD, 3, held_out=False)
    report = measure_prompt_accuracy(torch.zeros(3, 3, 16, 64, 64), prompts)
    assert report.colour.successes == report.shape.successes == report.size.successes == 0
    assert str(report.all_right) == "0.0% [0.0, 56.1]"


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_prompts`"):
        evaluation_prompts(SHAPES_WORLD, 0, held_out=False)
    with pytest.raises(ValueError, match="`num_objects` must be 1 or 2"):
        evaluation_prompts(SHAPES_WORLD, 1, held_out=False, num_objects=3)
    with pytest.raises(ValueError, match="never shows two objects"):
        evaluation_prompts(SHAPES_MINI, 1, held_out=False, num_objects=2)
    with pytest.raises(ValueError, match="`prompts` is empty"):
        measure_prompt_accuracy([], [])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        measure_prompt_accuracy([], evaluation_prompts(SHAPES_WORLD, 1, held_out=False))


def test_a_prompt_of_the_world_can_be_checked() -> None:
    red = "a large red circle moves right"
    item = ShapeObject("red", "circle", "large", "right")
    assert EvaluationPrompt.of(red) == EvaluationPrompt(red, (item,), None)
    on_black = f"{red} on a black background"
    assert EvaluationPrompt.of(on_black) == EvaluationPrompt(on_black, (item,), Background("black"))
    assert EvaluationPrompt.of("a sheep walks") == EvaluationPrompt("a sheep walks", (), None)


def test_a_prompt_that_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ValueError, match="can be checked, got 'a sheep walks'"):
        measure_prompt_accuracy(torch.zeros(1, 3, 4, 32, 32), [EvaluationPrompt.of("a sheep walks")])
