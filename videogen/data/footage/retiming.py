"""Which frames of a video make a clip at another frame rate: what is on the screen at each instant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_NANOSECONDS = 1_000_000_000


def num_frames_at(seconds: float, fps: float) -> int:
    """How many frames a stretch of video gives at a frame rate, to the nearest."""
    return int(np.floor(seconds * fps + 0.5))


def retime(times: np.ndarray, first: int, last: int, fps: float) -> np.ndarray:
    """The frames that show a stretch of video at a constant frame rate.

    Frame k is what is on the screen in the middle of its time, at (k + 1/2) / fps. So a video at that rate
    keeps its frames one by one, even where its file rounds times, and no other is moved by more than half a
    frame.

    Args:
        times: `(F + 1,)` int64 nanoseconds, when each frame is shown, and when the last one ends.
        first: The first frame of the stretch.
        last: The frame after its last.
        fps: Frames per second.

    Returns:
        `(N,)` int64, indices in [first, last).
    """
    start, end = int(times[first]), int(times[last])
    count = num_frames_at((end - start) / _NANOSECONDS, fps)
    middles = start + (np.arange(count) + 0.5) * (_NANOSECONDS / fps)
    shown = np.searchsorted(times, middles, side="right") - 1
    return np.clip(shown, first, last - 1)


def split_into_clips(num_frames: int, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut a stretch into clips that follow each other, the longest first; what is left over is at both ends.

    Args:
        num_frames: Of the stretch.
        lengths: The frame counts that a clip may have.

    Returns:
        Start and end of each clip; none where the stretch is shorter than every length.
    """
    chosen, rest = [], num_frames
    for length in sorted(lengths, reverse=True):
        chosen += [length] * (rest // length)
        rest %= length
    clips, start = [], rest // 2
    for length in chosen:
        clips.append((start, start + length))
        start += length
    return clips
