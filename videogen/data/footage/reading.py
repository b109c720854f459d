"""Read many videos at once, on several threads: to inspect them, or to cut planned clips out of them.

Threads are enough, since decoders and scalers let go of Python's lock. What is read comes back as soon as it
is ready, through a queue of limited length, so that memory does not grow with the footage.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from videogen.data.footage.decoding import decode_frames
from videogen.data.footage.frames import Colour, UnreadableVideoError
from videogen.data.footage.framing import crop_and_scale
from videogen.data.footage.planning import PlannedClip

_Job = TypeVar("_Job")
_Answer = TypeVar("_Answer")


def in_threads(
    work: Callable[[_Job], Iterable[_Answer]], jobs: Sequence[_Job], num_workers: int
) -> Iterator[_Answer]:
    """All that `work` gives for each job, in the order in which it is ready.

    The first error of a job is raised here; leaving the iterator early stops the threads.
    """
    answers: queue.Queue[_Answer | _Done] = queue.Queue(maxsize=2 * num_workers)
    stop = threading.Event()

    def put(answer: _Answer | _Done) -> None:
        while not stop.is_set():
            try:
                answers.put(answer, timeout=0.1)
                return
            except queue.Full:
                continue

    def run(job: _Job) -> None:
        if stop.is_set():
            return
        try:
            for answer in work(job):
                put(answer)
                if stop.is_set():
                    return
            put(_Done(None))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the answers are read
            put(_Done(error))

    with ThreadPoolExecutor(num_workers) as executor:
        try:
            for job in jobs:
                executor.submit(run, job)
            num_open = len(jobs)
            while num_open:
                answer = answers.get()
                if not isinstance(answer, _Done):
                    yield answer
                elif answer.error is not None:
                    raise answer.error
                else:
                    num_open -= 1
        finally:
            stop.set()
            executor.shutdown(wait=True, cancel_futures=True)


class _Done:
    """The end of a job, with its error if it failed."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def read_clips(path: Path, clips: Sequence[PlannedClip], background: Colour) -> Iterator[np.ndarray]:
    """Decode a video once, and give the frames of each of its clips, `(F, H, W, 3)` uint8, in order.

    Args:
        path: The video.
        clips: What to cut from it, in the order of time; they do not overlap.
        background: What transparent parts are put on.

    Raises:
        UnreadableVideoError: If the video is not what it was when the clips were planned.
    """
    waiting = iter(clips)
    clip = next(waiting, None)
    frames: list[np.ndarray] = []
    for idx, frame in enumerate(decode_frames(path)):
        while clip is not None and clip.frame_idxs[0] <= idx:
            repeats = clip.frame_idxs.count(idx)
            if repeats:
                size = (clip.bucket.height, clip.bucket.width)
                frames += [crop_and_scale(frame.rgb(background), clip.box, size)] * repeats
            if len(frames) < len(clip.frame_idxs):
                break
            yield np.stack(frames)
            frames, clip = [], next(waiting, None)  # the next clip may begin with this very frame
        if clip is None:
            return
    if clip is not None:
        raise UnreadableVideoError(
            f"{clip.source} has become shorter since it was inspected: run the command again"
        )
