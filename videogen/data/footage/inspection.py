"""Read a video file once, to its end, and note all that a plan for its clips needs."""

from __future__ import annotations

import hashlib
import io
import itertools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from videogen.data.footage.decoding import Colour, UnreadableVideoError, VideoFormat, decode_frames
from videogen.data.footage.scenes import CutFinder
from videogen.data.footage.sequences import DEFAULT_PICTURE_FPS, PictureSequence

SMALL_SIDE = 160  # longer side of the pictures that are looked at here, in pixels
SIGNATURE_SIDE = 32
SIGNATURES_PER_SECOND = 8
MAX_THUMBNAILS = 12

_DEFAULT_RATE = Fraction(25)
_NANOSECONDS = 1_000_000_000
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
    cuts: tuple[int, ...]
    thumbnails: dict[int, bytes]
    notes: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Frames that were decoded."""
        return len(self.ranges)

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.times[-1]) / _NANOSECONDS

    @property
    def fps(self) -> float:
        """Frames per second, the mean rate."""
        return self.num_frames / self.seconds

    def signatures_at(self, frame_idxs: np.ndarray) -> np.ndarray:
        """`(N, 32, 32)`, for each of N frames the signature that was taken there or last before."""
        return self.signatures[np.searchsorted(self.signature_idxs, frame_idxs, side="right") - 1]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, or of those of all pictures of a `PictureSequence` in a row.

    Raises:
        UnreadableVideoError: If it cannot be opened.
    """
    sequence = PictureSequence.of(path)
    digest = hashlib.sha256()
    try:
        for file in [path] if sequence is None else sequence.files:
            with file.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
        return digest.hexdigest()
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
    first_start: Fraction | None = None
    last_duration: Fraction | None = None
    for idx, frame in enumerate(decode_frames(path, picture_fps)):
        video_format = frame.format
        small = frame.rgb(background, _small_size(video_format))
        grey = _grey(small)
        starts.append(frame.start)
        last_duration = frame.duration
        ranges.append(int(grey.max()) - int(grey.min()))
        change = np.abs(grey.astype(np.int16) - (grey if previous is None else previous))
        changes.append(int(change.max()))
        jumps.append(round(float(change.mean())))
        previous = grey
        shown_at = Fraction(idx) / (video_format.rate or _DEFAULT_RATE)
        if frame.start is not None:
            first_start = frame.start if first_start is None else first_start
            shown_at = frame.start - first_start
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
    times, notes = _shown_times(starts, last_duration, video_format.rate)
    return Inspection(
        sha256=sha256,
        format=video_format,
        times=times,
        ranges=np.array(ranges, np.uint8),
        changes=np.array(changes, np.uint8),
        jumps=np.array(jumps, np.uint8),
        signatures=np.stack(list(signatures.values())),
        signature_idxs=np.array(list(signatures), np.int64),
        cuts=cut_finder.cuts() if cut_finder is not None else (),
        thumbnails={idx: _jpeg(picture) for idx, picture in thumbnails.items()},
        notes=(*_format_notes(path, video_format, background), *notes),
    )


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


def _shown_times(
    starts: list[Fraction | None], last_duration: Fraction | None, rate: Fraction
) -> tuple[np.ndarray, list[str]]:
    """`times` of an inspection, and what is unusual about them."""
    known = [start for start in starts if start is not None]
    if len(known) < len(starts) or any(later <= earlier for earlier, later in itertools.pairwise(known)):
        rate = rate or _DEFAULT_RATE
        seconds = [Fraction(idx) / rate for idx in range(len(starts) + 1)]
        note = f"its time stamps are missing or out of order: read at its stated {float(rate):.5g} fps"
        return _nanoseconds(seconds), [note]
    intervals = sorted(later - earlier for earlier, later in itertools.pairwise(known))
    usual = intervals[len(intervals) // 2] if intervals else 1 / (rate or _DEFAULT_RATE)
    seconds = [start - known[0] for start in known]
    seconds.append(seconds[-1] + (last_duration or usual))
    # Containers round times to milliseconds; a real change of rate is larger.
    if intervals and intervals[-1] - intervals[0] > max(usual / 5, Fraction(3, 1000)):
        shortest, longest = (float(1000 * value) for value in (intervals[0], intervals[-1]))
        return _nanoseconds(seconds), [
            f"variable frame rate: frames last {shortest:.0f} to {longest:.0f} ms; read by their time stamps"
        ]
    return _nanoseconds(seconds), []


def _nanoseconds(seconds: list[Fraction]) -> np.ndarray:
    return np.array([round(value * _NANOSECONDS) for value in seconds], np.int64)


def _format_notes(path: Path, video_format: VideoFormat, background: Colour) -> list[str]:
    notes = []
    suffix = path.suffix.lower().removeprefix(".")
    by_magic = {"gif": ("gif",), "webp": ("webp",), "avi": ("avi",), "matroska": ("mkv", "webm")}
    by_magic["mov"] = ("mp4", "m4v", "mov", "3gp")
    fitting = by_magic.get(video_format.container)
    if fitting is not None and suffix not in fitting:
        notes.append(f"its suffix says {suffix}, its content is {video_format.container}: read as what it is")
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
