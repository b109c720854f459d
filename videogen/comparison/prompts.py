"""The prompts that models are compared on, and what can be checked about their clips."""

from __future__ import annotations

from dataclasses import dataclass

from videogen.data.shapes.captions import read_plain_caption
from videogen.data.shapes.world import WORLDS, Background, ShapeObject
from videogen.metrics.prompt_accuracy import evaluation_prompts


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
