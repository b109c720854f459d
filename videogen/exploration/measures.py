"""What an exploration measures of a clip, and of the network while the clip is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from videogen.metrics.motion import flicker
from videogen.models.text_context import TextContext

PIXEL_MARGIN = 0.1
"""Pixels in [-1, 1] that lie further outside than this are counted as clipped."""


@dataclass(frozen=True)
class ClipLook:
    """How a clip looks, whatever it shows.

    Attributes:
        flicker: See `videogen.metrics.motion.flicker`; 0 for a clip of fewer than three frames.
        saturation: Mean difference of a pixel's strongest and weakest colour, in [0, 1].
        clipped: Share of values that the codec gave outside of the range, by more than `PIXEL_MARGIN`.
    """

    flicker: float
    saturation: float
    clipped: float


def look_at(pixels: Tensor) -> ClipLook:
    """Measure a clip.

    Args:
        pixels: `(3, F, H, W)` in [-1, 1], not clamped.
    """
    frames = (pixels.clamp(-1, 1) + 1) / 2
    return ClipLook(
        flicker=flicker(pixels[None].clamp(-1, 1)).item() if pixels.shape[1] > 2 else 0.0,
        saturation=(frames.amax(0) - frames.amin(0)).mean().item(),
        clipped=(pixels.abs() > 1 + PIXEL_MARGIN).float().mean().item(),
    )


def pairwise_distance(clips: Tensor) -> float:
    """Root mean square difference of two clips, mean over all pairs of `(N, ...)` with N of at least 2."""
    pairs = torch.combinations(torch.arange(len(clips)))
    differences = clips[pairs[:, 0]] - clips[pairs[:, 1]]
    return differences.square().flatten(1).mean(1).sqrt().mean().item()


@contextmanager
def counted_passes(network: nn.Module) -> Iterator[list[float]]:
    """Count passes of a denoiser: each call within adds how many prompts it computed for each sample.

    With guidance that is 2, or 1 where the pass without the prompt is left out. What a step cache leaves out
    of a pass is not seen.
    """
    passes: list[float] = []

    def note(_: nn.Module, arguments: tuple[Tensor, Tensor, TextContext]) -> None:
        passes.append(arguments[2].num_prompts / len(arguments[0]))

    handle = network.register_forward_pre_hook(note)
    try:
        yield passes
    finally:
        handle.remove()
