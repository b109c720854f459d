"""A bar over the denoising steps of a command, and under it a small picture of the clip as it is foreseen."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.style import Style

from videogen.io import rounded_to_uint8
from videogen.pipelines.denoising import DenoisingStep

NUM_FRAMES = 4
"""Of a preview, side by side, from the first to the last."""
_MAX_WIDTH = 32  # of a frame, in columns
_GAP = 1
_LEAST_PAUSE = 0.5  # seconds from one preview to the next
_PAUSE_PER_COST = 10  # in which previews take a tenth of the time at most


class HalfBlocks:
    """A picture in a terminal, two pixels in each character: the upper is its ink, the lower its ground.

    Args:
        pixels: `(H, W, 3)` uint8, H even.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        colours = [[Color.from_rgb(*pixel) for pixel in row] for row in pixels.tolist()]
        self._lines = [
            [Segment("▀", Style(color=up, bgcolor=low)) for up, low in zip(upper, lower, strict=True)]
            for upper, lower in zip(colours[::2], colours[1::2], strict=True)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws."""
        for line in self._lines:
            yield from line
            yield Segment.line()


def filmstrip(frames: np.ndarray, max_width: int, max_height: int) -> np.ndarray:
    """Frames side by side, made small enough for a terminal.

    Args:
        frames: `(F, H, W, 3)` float in [0, 1].
        max_width: Of the strip, in pixels.
        max_height: Likewise.

    Returns:
        `(h, w, 3)` uint8 with h even; between the frames it is black.
    """
    num_frames, height, width, _ = frames.shape
    scale = min((max_width + _GAP) // num_frames - _GAP, _MAX_WIDTH) / width
    scale = min(scale, max_height / height)
    size = (max(1, int(width * scale)), max(2, int(height * scale) // 2 * 2))
    strip = np.zeros((size[1], num_frames * (size[0] + _GAP) - _GAP, 3), np.uint8)
    for number, frame in enumerate(rounded_to_uint8(frames)):
        left = number * (size[0] + _GAP)
        strip[:, left : left + size[0]] = Image.fromarray(frame).resize(size, Image.Resampling.BOX)
    return strip


class _BarWithPicture(Progress):
    """A bar with what is to be shown under it."""

    picture: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the picture."""
        yield from super().get_renderables()
        if self.picture is not None:
            yield self.picture


class StepBar:
    """One bar, with the time left, that the steps of all clips of a command advance.

    Args:
        num_clips: How many calls will be made.
        preview: Whether to draw what is foreseen; None draws in terminals that show 24-bit colours.
    """

    def __init__(self, num_clips: int, preview: bool | None) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
        self.progress = _BarWithPicture(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,  # each time all of the picture is sent, 40 kB
            transient=True,
            redirect_stdout=False,  # it would go to the bar's console, and past a pipe
            disable=not console.is_terminal,
        )
        if preview and not console.is_terminal:
            warnings.warn("no preview is drawn, as the standard error is no terminal", stacklevel=2)
        if preview is None:
            preview = console.color_system == "truecolor"
        self._preview = preview and console.is_terminal
        self._next_preview = 0.0
        self._num_clips = num_clips
        self._task = self.progress.add_task("denoising", total=None)

    @contextmanager
    def of_a_clip(self, total: int) -> Iterator[StepBar]:
        """The part of the bar that belongs to one clip, of so many steps; a pipeline's `progress_bar`."""
        self.progress.update(self._task, total=total * self._num_clips)
        self.progress.picture = None
        yield self

    def update(self) -> None:
        """Advance by a step; the pipeline calls it on what `progress_bar` gives."""
        self.progress.advance(self._task)

    def show(self, step: DenoisingStep, every: int) -> None:
        """Draw what a step foresees, unless the last drawing is a moment ago or the clip itself comes now.

        Args:
            step: Just done.
            every: Frames in a latent frame, of which the first is drawn.
        """
        start = time.perf_counter()
        if not self._preview or start < self._next_preview or step.output is not None:
            return
        num_latent_frames = step.predicted_latents.shape[2]
        chosen = np.linspace(0, num_latent_frames - 1, min(NUM_FRAMES, num_latent_frames)).round().astype(int)
        frames = step.preview(chosen.tolist())[0, ::every]
        size = self.progress.console.size
        strip = filmstrip(frames, size.width, 2 * (size.height - 3))
        self.progress.picture = HalfBlocks(strip)
        cost = time.perf_counter() - start
        self._next_preview = start + cost + max(_LEAST_PAUSE, _PAUSE_PER_COST * cost)
