"""Read a video file once, to its end, and note all that a plan for its clips needs."""

from __future__ import annotations

import bisect
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from videogen.data.footage.decoding import decode_frames
from videogen.data.footage.frames import (
    Colour,
    DecodedFrame,
    LostPacketsError,
    UnreadableVideoError,
    VideoFormat,
)
from videogen.data.footage.scenes import CutFinder
from videogen.data.footage.sequences import DEFAULT_PICTURE_FPS, PictureSequence
from videogen.files import file_hash

SMALL_SIDE = 160  # longer side of the pictures that are looked at here, in pixels
SIGNATURE_SIDE = 32
SIGNATURES_PER_SECOND = 8
MAX_THUMBNAILS = 12
LONGEST_PICTURE = 3600
"""Seconds; what stays longer is a pause or a broken time stamp, and no part of how long a video lasts."""

_DEFAULT_RATE = Fraction(25)
_NANOSECONDS = 1_000_000_000
_FARTHEST = 100 * 365 * 24 * 3600  # seconds from the middle time stamp; 64 bits hold 292 years of nanoseconds
_ROUNDING = Fraction(2, 1000)  # seconds; some containers keep milliseconds, and copies shall be treated alike


@dataclass(frozen=True, eq=False)
class Inspection:
    """What one video file holds.

    Attributes:
        sha256: Of the file's bytes.
        format: How it holds its pictures.
        times: `(F + 1,)` int64, when each frame is shown and when the last one ends, in nanoseconds from 0.
        ranges: `(F,)` uint8, the lightest minus the darkest place of each frame.
        changes: `(F,)` uint8, the largest change of a place since the frame before; 0 for the first.
        jumps: `(F,)` uint8, the mean change of all places since the frame before; 0 for the first.
        signatures: `(S, 32, 32)` uint8, about eight frames of each second in grey, averaged down.
        signature_idxs: `(S,)` int64, the indices of these frames; the first is 0.
        losses: Indices of the frames before which some were lost from a transport stream.
        cuts: Index of the first frame of each scene but the first; empty where none were looked for.
        thumbnails: JPEG pictures of some frames, by frame index.
        notes: What is unusual about it, in sentences for users.
    """

    sha256: str
    format: VideoFormat
    times: np.ndarray
    ranges: np.ndarray
    changes: np.ndarray
    jumps: np.ndarray
    signatures: np.ndarray
    signature_idxs: np.ndarray
    losses: tuple[int, ...]
    cuts: tuple[int, ...]
    thumbnails: dict[int, bytes]
    notes: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Frames that were decoded."""
        return len(self.ranges)

    @property
    def seconds(self) -> float:
        """How long its pictures are shown, without those that stay longer than `LONGEST_PICTURE`."""
        return float(self._usual_durations.sum()) / _NANOSECONDS

    @property
    def fps(self) -> float:
        """Frames per second, the mean rate in `seconds`."""
        return len(self._usual_durations) / self.seconds

    @property
    def _usual_durations(self) -> np.ndarray:
        durations = np.diff(self.times)
        return durations[durations <= LONGEST_PICTURE * _NANOSECONDS]

    def signatures_at(self, frame_idxs: np.ndarray) -> np.ndarray:
        """`(N, 32, 32)`, for each of N frames the signature that was taken there or last before."""
        return self.signatures[np.searchsorted(self.signature_idxs, frame_idxs, side="right") - 1]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, or of those of all pictures of a `PictureSequence` in a row.

    Raises:
        UnreadableVideoError: If it cannot be opened.
    """
    sequence = PictureSequence.of(path)
    try:
        return file_hash(*([path] if sequence is None else sequence.files))
    except OSError as error:
        raise UnreadableVideoError(f"cannot be opened: {error.strerror}") from error


def inspect_video(
    path: Path,
    sha256: str,
    background: Colour = (0, 0, 0),
    find_cuts: bool = False,
    picture_fps: float = DEFAULT_PICTURE_FPS,
) -> Inspection:
    """Decode a whole file.

    Args:
        path: The file, or the name of a `PictureSequence`.
        sha256: Of its bytes.
        background: What transparent parts are put on.
        find_cuts: Whether to look for cuts between scenes, through PySceneDetect.
        picture_fps: Frames per second of a picture sequence.

    Raises:
        UnreadableVideoError: If it is no video, damaged or incomplete.
    """
    cut_finder = CutFinder() if find_cuts else None
    starts: list[Fraction | None] = []
    ranges, changes, jumps = [], [], []
    signatures: dict[int, np.ndarray] = {}
    next_signature = Fraction(0)  # seconds
    thumbnails: dict[int, np.ndarray] = {}
    stride = 1
    previous = None
    shown_at = Fraction(0)
    last_duration: Fraction | None = None
    durations_fit = True
    losses: list[int] = []
    notes: list[str] = []
    for idx, frame in enumerate(_up_to_loss(path, picture_fps, notes)):
        video_format = frame.format
        small = frame.rgb(background, _small_size(video_format))
        grey = _grey(small)
        if idx:
            step = _step(starts[-1], frame.start)
            # Some containers know only one duration for all frames, whatever their time stamps say.
            durations_fit = step is not None and abs(step - (last_duration or 0)) <= _ROUNDING
            shown_at += step or 1 / (video_format.rate or _DEFAULT_RATE)
        starts.append(frame.start)
        if frame.follows_loss:
            losses.append(idx)
        last_duration = frame.duration
        ranges.append(int(grey.max()) - int(grey.min()))
        change = np.abs(grey.astype(np.int16) - (grey if previous is None else previous))
        changes.append(int(change.max()))
        jumps.append(round(float(change.mean())))
        previous = grey
        if idx == 0 or shown_at >= next_signature:
            signatures[idx] = _averaged(grey)
            next_signature = shown_at + Fraction(1, SIGNATURES_PER_SECOND) - _ROUNDING
        if cut_finder is not None:
            cut_finder.add(idx, small)
        if idx % stride == 0:
            thumbnails[idx] = small
            if len(thumbnails) > MAX_THUMBNAILS:
                stride *= 2
                thumbnails = {kept: value for kept, value in thumbnails.items() if kept % stride == 0}
    times, time_notes = shown_times(starts, last_duration if durations_fit else None, video_format.rate)
    return Inspection(
        sha256=sha256,
        format=video_format,
        times=times,
        ranges=np.array(ranges, np.uint8),
        changes=np.array(changes, np.uint8),
        jumps=np.array(jumps, np.uint8),
        signatures=np.stack(list(signatures.values())),
        signature_idxs=np.array(list(signatures), np.int64),
        losses=tuple(losses),
        cuts=cut_finder.cuts() if cut_finder is not None else (),
        thumbnails={idx: _jpeg(picture) for idx, picture in thumbnails.items()},
        notes=(*_format_notes(path, video_format, background), *notes, *time_notes),
    )


def _up_to_loss(path: Path, picture_fps: float, notes: list[str]) -> Iterator[DecodedFrame]:
    """The frames of a file; that others were lost becomes a note, unless all were."""
    num_frames = 0
    try:
        for frame in decode_frames(path, picture_fps):
            yield frame
            num_frames += 1
    except LostPacketsError as error:
        if not num_frames:
            raise
        notes.append(str(error))


def _small_size(video_format: VideoFormat) -> tuple[int, int]:
    """(H, W) of the reduced picture; small videos are not enlarged, and no side vanishes."""
    scale = min(1.0, SMALL_SIDE / max(video_format.height, video_format.width))
    return max(1, round(video_format.height * scale)), max(1, round(video_format.width * scale))


def _grey(picture: np.ndarray) -> np.ndarray:
    """`(H, W)` uint8 luma of `(H, W, 3)`, with the weights of BT.601 over 256."""
    weighted = picture.astype(np.uint16) * np.array([77, 150, 29], np.uint16)
    grey: np.ndarray = weighted.sum(axis=2, dtype=np.uint16) >> 8
    return grey.astype(np.uint8)


def _averaged(grey: np.ndarray) -> np.ndarray:
    from PIL import Image

    side = (SIGNATURE_SIDE, SIGNATURE_SIDE)
    return np.asarray(Image.fromarray(grey).resize(side, Image.Resampling.BOX))


def _jpeg(picture: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _step(earlier: Fraction | None, later: Fraction | None) -> Fraction | None:
    """Seconds from one time stamp to the next; None where one is missing or time does not advance."""
    return later - earlier if earlier is not None and later is not None and later > earlier else None


def shown_times(
    starts: Sequence[Fraction | None], last_duration: Fraction | None, rate: Fraction
) -> tuple[np.ndarray, list[str]]:
    """When each frame is shown, and what is unusual about that.

    Of the time stamps, the most that rise are kept, and the others set between their neighbours.

    Args:
        starts: Time stamp of each frame, in seconds; None where it is missing.
        last_duration: How long the last frame is shown, in seconds; None where the file does not say.
        rate: Frames per second that the file states, 0 if it states none; for where most stamps are wrong.

    Returns:
        `times` of an inspection, and notes for users.
    """
    step = 1 / rate if rate * LONGEST_PICTURE >= 1 else 1 / _DEFAULT_RATE
    kept = _rising(starts, step)
    if 2 * len(kept) < len(starts):
        note = f"its time stamps are missing or out of order: read at its stated {float(1 / step):.5g} fps"
        return _nanoseconds([idx * step for idx in range(len(starts) + 1)]), [note]

    stamps = [(idx, start) for idx, start in enumerate(starts) if idx in kept and start is not None]
    slopes = sorted(
        (later - earlier) / (end - begin) for (begin, earlier), (end, later) in itertools.pairwise(stamps)
    )
    slopes = [slope for slope in slopes if slope <= LONGEST_PICTURE]
    usual = slopes[len(slopes) // 2] if slopes else step
    # What comes before the first stamp that is kept, or after the last one, lasts as long as others do.
    (first_idx, first), (last_idx, last) = stamps[0], stamps[-1]
    stamps.insert(0, (-1, first - (first_idx + 1) * usual))
    stamps.append((len(starts), last + (len(starts) - last_idx) * usual))
    seconds = [
        earlier + (later - earlier) * (idx - begin) / (end - begin)
        for (begin, earlier), (end, later) in itertools.pairwise(stamps)
        for idx in range(begin, end)
    ][1:]
    duration = usual
    if last_idx == len(starts) - 1 and last_duration and 0 < last_duration <= LONGEST_PICTURE:
        duration = last_duration
    seconds.append(seconds[-1] + duration)

    notes = []
    if len(kept) < len(starts):
        wrong = [idx for idx in range(len(starts)) if idx not in kept]
        stamps_are = "time stamps is" if len(wrong) == 1 else "time stamps are"
        notes.append(
            f"{len(wrong)} of {len(starts)} {stamps_are} missing or out of order, the first that of frame "
            f"{wrong[0]}: set between their neighbours"
        )
    # Containers round times to milliseconds; a real change of rate is larger.
    if slopes and slopes[-1] - slopes[0] > max(usual / 5, Fraction(3, 1000)):
        shortest, longest = (float(1000 * value) for value in (slopes[0], slopes[-1]))
        notes.append(
            f"variable frame rate: frames last {shortest:.0f} to {longest:.0f} ms; read by their time stamps"
        )
    return _nanoseconds([value - seconds[0] for value in seconds]), notes


def _rising(starts: Sequence[Fraction | None], step: Fraction) -> set[int]:
    """Indices of the most time stamps that rise, by patience sorting; of equal series an even one.

    Args:
        starts: The stamps in seconds.
        step: Seconds from frame to frame that the file states.
    """
    stamped = sorted(start for start in starts if start is not None)
    middle = stamped[len(stamped) // 2] if stamped else Fraction(0)
    steps = sorted(filter(None, itertools.starmap(_step, itertools.pairwise(starts))))
    usual = steps[len(steps) // 2] if steps else step
    # In pile k are the stamps that end a rising series of k + 1; their values fall, and the last is on top.
    piles: list[list[tuple[int, Fraction]]] = []
    tops: list[Fraction] = []
    for idx, start in enumerate(starts):
        if start is None or abs(start - middle) > _FARTHEST:
            continue
        # Nearly every stamp rises, and needs no search.
        place = len(tops) if not tops or start > tops[-1] else bisect.bisect_left(tops, start)
        if place == len(tops):
            tops.append(start)
            piles.append([])
        tops[place] = start
        piles[place].append((idx, start))
    kept: list[tuple[int, Fraction]] = [piles.pop()[0]] if piles else []
    while piles:
        idx, start = kept[-1]
        below = [stamp for stamp in piles.pop() if stamp[0] < idx and stamp[1] < start]
        kept.append(min(below, key=lambda stamp: abs((start - stamp[1]) / (idx - stamp[0]) - usual)))
    return {idx for idx, _ in kept}


def _nanoseconds(seconds: list[Fraction]) -> np.ndarray:
    return np.array([round(value * _NANOSECONDS) for value in seconds], np.int64)


def _format_notes(path: Path, video_format: VideoFormat, background: Colour) -> list[str]:
    notes = []
    suffix = path.suffix.lower().removeprefix(".")
    by_magic = {"gif": ("gif",), "webp": ("webp",), "avi": ("avi",), "matroska": ("mkv", "webm")}
    by_magic["mov"] = ("mp4", "m4v", "mov", "3gp")
    fitting = by_magic.get(video_format.container)
    if fitting is not None and suffix and suffix not in fitting:
        notes.append(f"its suffix says {suffix}, its content is {video_format.container}: read as what it is")
    if video_format.mirrored:
        notes.append("carries a mirror flag: left and right exchanged")
    if video_format.container == "image2":
        notes.append(f"numbered pictures, which state no rate: read at {float(video_format.rate):.5g} fps")
    if video_format.rotation:
        notes.append(f"carries a rotation flag: turned upright by {video_format.rotation} degrees")
    if video_format.pixel_aspect != 1:
        aspect = video_format.pixel_aspect
        notes.append(f"its pixels are not square ({aspect.numerator}:{aspect.denominator}): stretched to be")
    if video_format.transfer:
        notes.append(
            f"high dynamic range ({video_format.transfer}), read without tone mapping: colours will look "
            "pale; convert it to SDR if that matters"
        )
    elif video_format.bit_depth > 8:
        notes.append(f"{video_format.bit_depth} bits per colour, read as 8")
    if video_format.has_alpha:
        notes.append("has transparent parts: put on #{:02x}{:02x}{:02x}".format(*background))
    if video_format.interlaced:
        notes.append("is interlaced, and not deinterlaced here: edges in motion may show combs")
    return notes
