"""Tell by its content whether a file without the suffix of a video is one, a picture, or neither."""

from __future__ import annotations

import itertools
from enum import Enum
from pathlib import Path

from videogen.data.footage.decoding import UnreadableVideoError, decode_frames

_PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "JPEG2000", "GIF", "WEBP", "AVIF")
_ANIMATED_FORMATS = ("PNG", "GIF", "WEBP", "AVIF")  # others hold pages
# What FFmpeg makes pictures of: texts, and lists of other files.
_NO_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf", "concat", "hls", "dash", "imf"})


class FileKind(Enum):
    """What a file holds."""

    VIDEO = "video"
    PICTURE = "picture"
    OTHER = "no video"


def kind_of(path: Path) -> FileKind:
    """What a file holds; a video has two frames at least, and the first two of them can be decoded.

    Raises:
        ImportError: If PyAV is needed and not installed.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_PICTURE_FORMATS) as image:
            animated = image.format in _ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1
            return FileKind.VIDEO if animated else FileKind.PICTURE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # no picture that Pillow knows
    try:
        frames = list(itertools.islice(decode_frames(path), 2))
    except UnreadableVideoError:
        return FileKind.OTHER
    container = frames[0].format.container
    if container == "image2" or container.endswith("_pipe"):
        return FileKind.PICTURE
    return FileKind.OTHER if len(frames) < 2 or container in _NO_VIDEO else FileKind.VIDEO
