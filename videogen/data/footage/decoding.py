"""Decode video files frame by frame, upright, in RGB, with the time at which each frame is shown.

PyAV reads videos; Pillow reads WebP, which FFmpeg does not in all versions. What a file is, its first
bytes say and not its suffix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videogen.clip_formats import shown_pictures
from videogen.data.footage.frames import (
    Colour,
    DecodedFrame,
    UnreadableVideoError,
    VideoFormat,
    fault_text,
    on_background,
)
from videogen.data.footage.sequences import DEFAULT_PICTURE_FPS, PictureSequence
from videogen.data.footage.video_stream import decode_stream

if TYPE_CHECKING:
    from PIL import Image

# Seconds; as browsers play pictures that state no or no sensible time.
_MIN_DURATION, _DEFAULT_DURATION = Fraction(11, 1000), Fraction(1, 10)


def decode_frames(path: Path, picture_fps: float = DEFAULT_PICTURE_FPS) -> Iterator[DecodedFrame]:
    """Every frame of a file, in the order in which they are shown.

    Args:
        path: The file, or the name of a `PictureSequence`.
        picture_fps: Frames per second of a picture sequence.

    Raises:
        UnreadableVideoError: If the file cannot be opened, holds no video, or is damaged or incomplete,
            which may show only after some frames.
        LostPacketsError: After the last frame, if some were left out.
    """
    sequence = PictureSequence.of(path)
    if sequence is not None:
        frames = _decode_sequence(sequence, picture_fps)
    else:
        magic = _first_bytes(path)
        if magic[:4] == b"RIFF" and magic[8:] == b"WEBP":
            frames = _paced(_decode_webp(path))
        elif magic[:6] in (b"GIF87a", b"GIF89a"):
            frames = _paced(decode_stream(path))
        else:
            frames = decode_stream(path)
    num_frames = 0
    try:
        for frame in frames:
            yield frame
            num_frames += 1
    except (UnreadableVideoError, ImportError):
        raise
    except Exception as error:  # decoders meet damaged files with a dozen unrelated types
        message = fault_text(error)
        if num_frames:
            raise UnreadableVideoError(
                f"damaged: after {num_frames} frames the decoder says: {message}"
            ) from error
        raise UnreadableVideoError(f"not a readable video: {message}") from error
    if not num_frames:
        raise UnreadableVideoError("holds no frame that can be decoded")


def _decode_sequence(sequence: PictureSequence, fps: float) -> Iterator[DecodedFrame]:
    rate = Fraction(fps).limit_denominator(1001)
    size = None
    for idx, file in enumerate(sequence.files):
        try:
            frame = next(decode_frames(file))
        except UnreadableVideoError as error:
            raise UnreadableVideoError(f"{file.name}: {error}") from error
        video_format = replace(frame.format, container="image2", rate=rate)
        size = size or (video_format.width, video_format.height)
        if size != (video_format.width, video_format.height):
            raise UnreadableVideoError(
                f"changes its size from {size[0]}x{size[1]} to {video_format.width}x{video_format.height} "
                f"at {file.name}"
            )
        yield replace(frame, format=video_format, start=idx / rate, duration=1 / rate)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            magic = stream.read(12)
    except OSError as error:
        raise UnreadableVideoError(f"cannot be opened: {error.strerror}") from error
    if not magic:
        raise UnreadableVideoError("the file is empty (0 bytes)")
    return magic


@dataclass(frozen=True)
class _Picture(DecodedFrame):
    """A frame of Pillow."""

    image: Image.Image

    def _rgb(self, background: Colour, size: tuple[int, int] | None) -> np.ndarray:
        from PIL import Image

        image = self.image
        if size is not None:
            image = image.resize(size[::-1], Image.Resampling.BOX)
        return on_background(np.asarray(image), background)


def _paced(frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """The frames of an animation one after the other, each for as long as browsers show it."""
    start = Fraction(0)
    for frame in frames:
        duration = frame.duration or Fraction(0)
        if duration < _MIN_DURATION:
            duration = _DEFAULT_DURATION
        yield replace(frame, start=start, duration=duration)
        start += duration


def _decode_webp(path: Path) -> Iterator[DecodedFrame]:
    from PIL import Image

    with Image.open(path) as image:
        picture_format = None
        for picture in shown_pictures(image):
            if picture_format is None:
                picture_format = VideoFormat(
                    container="webp",
                    codec="webp",
                    pixel_format=image.mode.lower(),
                    width=picture.width,
                    height=picture.height,
                    has_alpha=picture.getchannel("A").getextrema() != (255, 255),
                )
            yield _Picture(None, Fraction(image.info.get("duration", 0)) / 1000, picture_format, picture)
