"""Makes the clips of a grid, on a copy of a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videogen.codec.pixels import pixels_to_frames
from videogen.exploration.grid import GridPoint
from videogen.pipelines.checks import find_bad_clips
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.output import BadClipsError
from videogen.sampling.noise import seeded_generator


@dataclass(frozen=True, eq=False)
class MadeClips:
    """The clips of one call.

    Attributes:
        latents: `(B, C, f, h, w)` float32 on the CPU.
        pixels: `(B, 3, F, H, W)` likewise, not clamped.
        bad_clips: For the index of each clip that shows nothing what is wrong with it, see `BadClipsError`.
    """

    latents: Tensor
    pixels: Tensor
    bad_clips: dict[int, str]


class PointMaker:
    """Makes clips with the settings of points; the pipeline it is given stays as it is.

    Args:
        pipeline: Whose networks are used.
    """

    def __init__(self, pipeline: TextToVideo) -> None:
        self.pipeline = copy.copy(pipeline)  # the same components, but without a bar
        self.pipeline.progress_bar = _no_bar  # type: ignore[method-assign]

    @torch.no_grad()
    def clips(
        self, point: GridPoint, captions: Sequence[str], seeds: Sequence[int], **options: Any
    ) -> MadeClips:
        """Make some clips in one call; each is that of a call for it alone with its seed, but for rounding.

        Args:
            point: The settings.
            captions: Prompts, one for each clip.
            seeds: Of the noise, likewise.
            **options: More for the call.
        """
        bad_clips: dict[int, str] = {}
        try:
            output = self.pipeline(
                list(captions),
                **point.settings().arguments(),
                generator=[seeded_generator(seed) for seed in seeds],
                output_type="latent",
                **options,
            )
        except BadClipsError as error:
            output, bad_clips = error.output, error.bad_clips
        pixels = self.decode(output.frames)
        return MadeClips(output.frames.cpu(), pixels, find_bad_clips(pixels_to_frames(pixels)) | bad_clips)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The pixels `(B, 3, F, H, W)` of latents `(B, C, f, h, w)`, float32 on the CPU."""
        codec = self.pipeline.codec
        return codec.decode(latents.to(codec.device, codec.dtype)).float().cpu()


class _NoBar:
    """A progress bar that nobody sees."""

    def update(self, count: int = 1) -> None:
        """Show nothing."""


@contextmanager
def _no_bar(total: int) -> Iterator[_NoBar]:
    yield _NoBar()
