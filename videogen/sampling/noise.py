"""Noise that belongs to a sample, whatever batch the sample is in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def seeded_generator(seed: int, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for item `index` of stream `seed`; different pairs give unrelated streams (SplitMix64)."""
    state = (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return torch.Generator(device).manual_seed((state ^ (state >> 31)) & (_MASK >> 1))


def sample_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise, `(len(generators), *shape)` float32, each item from its own generator."""
    return torch.stack(
        [torch.randn(*shape, generator=generator, device=generator.device) for generator in generators]
    )


def clip_generators(
    seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None, batch_size: int
) -> list[torch.Generator]:
    """One generator for each clip of a call, which is given a seed, or generators, or neither.

    Args:
        seed: Clip k gets the generator of `seed + k`.
        generator: One per clip, or one that is drawn from clip by clip.
        batch_size: Clips of the call.

    Raises:
        ValueError: If there are generators, but not one for each clip.
    """
    if seed is None and generator is None:
        seed = torch.Generator().seed()  # fresh, and without a touch on torch's global generator
    if seed is not None:
        return [seeded_generator(seed + item) for item in range(batch_size)]
    if isinstance(generator, torch.Generator):
        return [generator] * batch_size
    generators = list(generator or [])
    if len(generators) != batch_size:
        raise ValueError(f"`generator` must be one or {batch_size}, one per clip, got {len(generators)}")
    return generators
