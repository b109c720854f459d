"""The prompts that models are compared on if none are given."""

from __future__ import annotations

from videogen.data.shapes.world import WORLDS
from videogen.metrics.prompt_accuracy import EvaluationPrompt, evaluation_prompts


def drawn_prompts(num_prompts: int, seed: int = 0, world: str = "shapes") -> list[EvaluationPrompt]:
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
    return [kinds[number % 2][number // 2] for number in range(num_prompts)]
