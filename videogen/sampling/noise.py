"""Noise that belongs to a sample, whatever batch the sample is in, and whose frames may be alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NOISE_PRIORS = ("independent", "mixed", "progressive")
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
        [
            torch.randn(*shape, generator=generator, device=generator.device, dtype=torch.float32)
            for generator in generators
        ]
    )


def clip_generators(
    seed: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    batch_size: int,
) -> list[torch.Generator]:
    """One generator for each clip of a call, which is given a seed, or generators, or neither.

    Args:
        seed: Clip k gets the generator of `seed + k`, or of the k-th where there is one for each.
        generator: One per clip, or one that is drawn from clip by clip.
        batch_size: Clips of the call.

    Raises:
        ValueError: If there are generators or seeds, but not one for each clip.
    """
    if seed is None and generator is None:
        seed = torch.Generator().seed()  # fresh, and without a touch on torch's global generator
    if isinstance(seed, int):
        return [seeded_generator(seed + item) for item in range(batch_size)]
    if seed is not None:
        if len(seed) != batch_size:
            raise ValueError(f"`seed` must be one or {batch_size}, one per clip, got {len(seed)}")
        return [seeded_generator(item) for item in seed]
    if isinstance(generator, torch.Generator):
        return [generator] * batch_size
    generators = list(generator or [])
    if len(generators) != batch_size:
        raise ValueError(f"`generator` must be one or {batch_size}, one per clip, got {len(generators)}")
    return generators


def sample_prior_noise(
    shape: Sequence[int], generators: Sequence[torch.Generator], prior: str, strength: float = 1.0
) -> Tensor:
    """Noise of unit variance whose frames are alike (PYoCo, Ge et al. 2023, arXiv:2305.10474, section 4.1).

    With a = `strength`, frames i and j of the same clip have the covariance

        independent    0
        mixed          a^2 / (1 + a^2)                  the frames share one part of their noise
        progressive    (a / sqrt(1 + a^2))^|i - j|      each frame goes on from the one before

    A model that is trained so is at home with such noise: give it to the pipeline as `latents`.

    Args:
        shape: `(C, f, h, w)`.
        generators: One for each clip.
        prior: One of `NOISE_PRIORS`.
        strength: At least 0, where the frames are independent; the paper takes 1 for `mixed` and 2 for
            `progressive`.

    Returns:
        `(len(generators), C, f, h, w)` float32.
    """
    shared, own = strength / (1 + strength**2) ** 0.5, (1 + strength**2) ** -0.5
    channels, num_frames, height, width = shape
    if prior == "mixed":
        drawn = sample_noise((channels, num_frames + 1, height, width), generators)
        return shared * drawn[:, :, :1] + own * drawn[:, :, 1:]
    noise = sample_noise(shape, generators)
    if prior == "progressive":
        for frame in range(1, num_frames):
            noise[:, :, frame] = shared * noise[:, :, frame - 1] + own * noise[:, :, frame]
    return noise


def sample_offset(num_channels: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise `(B, C, 1, 1, 1)`, one number for all places of a channel of a clip.

    Added to the noise, it makes a model learn how bright a clip is as a whole, which other noise gives away
    (Guttenberg 2023, "Diffusion with Offset Noise", crosslabs.org).
    """
    return sample_noise((num_channels, 1, 1, 1), generators)
