"""Whether clips show what their prompts say, in a world where no judge network is needed to tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from torch import Tensor

from videogen.data.shapes.captions import plain_caption, read_plain_caption
from videogen.data.shapes.parser import matches, parse_clip
from videogen.data.shapes.world import MOTIONS, SHAPES, Background, ShapeObject, World, clearance
from videogen.metrics.intervals import Proportion, wilson_interval

_NUM_PLACINGS = 8  # as many as training tries before it draws another pair

ATTRIBUTES = ("colour", "shape", "size", "motion", "all_right")
"""What objects are judged by."""
COLUMNS = (*ATTRIBUTES[:-1], "background", ATTRIBUTES[-1])
"""What is shown of an `AccuracyReport` in tables, in this order."""


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt, and what a clip of it must show if that can be checked.

    Attributes:
        caption: The prompt.
        objects: Of the world `shapes`; empty if the prompt is not in the plain form of that world.
        background: What is behind them; None if the prompt does not say, or is no prompt of that world.
    """

    caption: str
    objects: tuple[ShapeObject, ...] = ()
    background: Background | None = None

    @classmethod
    def of(cls, caption: str) -> EvaluationPrompt:
        """The prompt with what can be read out of it."""
        return cls(caption, *(read_plain_caption(caption) or ()))


@dataclass(frozen=True)
class AccuracyReport:
    """Share of clips that are right, each with its interval.

    A clip is right in an attribute if every object that its prompt names is: the objects of one clip are not
    independent, so that counting them one by one would give too narrow an interval.

    Attributes:
        colour: Clips with the right colours.
        shape: With the right shapes.
        size: With the right sizes.
        motion: With the right motions.
        all_right: With all four right.
        background: With the right background, of the clips whose prompt names one; None if none does. It
            does not count for `all_right`, which is about objects.
        by_shape: For each shape that was asked for, how many objects had it.
        by_motion: For each motion that was asked for, how many objects made it.
    """

    colour: Proportion
    shape: Proportion
    size: Proportion
    motion: Proportion
    all_right: Proportion
    background: Proportion | None
    by_shape: dict[str, Proportion]
    by_motion: dict[str, Proportion]


def evaluation_prompts(
    world: World, num_prompts: int, *, held_out: bool, num_objects: int = 1, seed: int = 0
) -> list[EvaluationPrompt]:
    """Draw prompts in their plain form, on plain backgrounds of the world.

    Pairs are such as the world can show apart from each other, like those that training draws.

    Args:
        world: What they are about.
        num_prompts: How many; the first n of a longer list are the list of n.
        held_out: Whether the first object of each is held out of training; otherwise no object is.
        num_objects: Objects per prompt, 1 or 2.
        seed: Of the draws.

    Raises:
        ValueError: If a count is out of range, or the world never shows two objects and two are asked for.
    """
    if num_prompts < 1:
        raise ValueError(f"`num_prompts` must be at least 1, got {num_prompts}")
    if num_objects not in (1, 2):
        raise ValueError(f"`num_objects` must be 1 or 2, got {num_objects}")
    if num_objects == 2 and not world.two_object_rate:
        raise ValueError("`num_objects` is 2, but this world never shows two objects: use 1")
    rng = Random(f"evaluation/{seed}/{held_out}/{num_objects}")
    prompts: list[EvaluationPrompt] = []
    while len(prompts) < num_prompts:
        objects = world.sample_prompt_objects(rng, num_objects, held_out=held_out)
        if num_objects == 2 and not _have_room(world, objects):
            continue
        background = Background(rng.choice(world.backgrounds))
        prompts.append(EvaluationPrompt(plain_caption(objects, background), objects, background))
    return prompts


def measure_prompt_accuracy(clips: Iterable[Tensor], prompts: Sequence[EvaluationPrompt]) -> AccuracyReport:
    """Compare what clips show with what their prompts say.

    Args:
        clips: One clip `(3, F, H, W)` in [-1, 1] a prompt: a tensor `(B, 3, F, H, W)`, or an iterator of
            which one is held at a time.
        prompts: One per clip.

    Raises:
        ValueError: If there are no prompts, not as many as clips, one that cannot be checked, or a clip has a
            wrong layout.
    """
    if not prompts:
        raise ValueError("`prompts` is empty: there is nothing to measure")
    unknown = [prompt.caption for prompt in prompts if not prompt.objects]
    if unknown:
        raise ValueError(f"`prompts` must be such as can be checked, got {unknown[0]!r}")
    right: Counter[str] = Counter()
    right_by_shape: Counter[str] = Counter()
    right_by_motion: Counter[str] = Counter()
    for clip, prompt in zip(clips, prompts, strict=True):
        parsed = parse_clip(clip, num_objects=len(prompt.objects))
        found = matches(prompt.objects, parsed)
        for attribute in ATTRIBUTES:
            right[attribute] += all(getattr(match, attribute) for match in found)
        if prompt.background is not None:
            right["background"] += parsed.background == prompt.background.name
        for wanted, match in zip(prompt.objects, found, strict=True):
            right_by_shape[wanted.shape] += match.shape
            right_by_motion[wanted.motion] += match.motion
    wanted_objects = [item for prompt in prompts for item in prompt.objects]
    num_named = sum(prompt.background is not None for prompt in prompts)
    return AccuracyReport(
        **{attribute: wilson_interval(right[attribute], len(prompts)) for attribute in ATTRIBUTES},
        background=wilson_interval(right["background"], num_named) if num_named else None,
        by_shape=_shares(SHAPES, right_by_shape, Counter(item.shape for item in wanted_objects)),
        by_motion=_shares(MOTIONS, right_by_motion, Counter(item.motion for item in wanted_objects)),
    )


def _have_room(world: World, objects: tuple[ShapeObject, ...]) -> bool:
    """Whether one of a few random scenes keeps two objects apart; most pairs of motions cross."""
    return any(clearance(world.scene_of(objects, seed)) > 0 for seed in range(_NUM_PLACINGS))


def _shares(names: Sequence[str], right: Counter[str], total: Counter[str]) -> dict[str, Proportion]:
    return {name: wilson_interval(right[name], total[name]) for name in names if total[name]}
