"""Tell by its content whether a file without the suffix of a video is one, a picture, or neither."""

from __future__ import annotations

import itertools
from enum import Enum
from pathlib import Path

from videogen.data.footage.decoding import decode_frames
from videogen.data.footage.frames import UnreadableVideoError

_PNG = b"\x89PNG\r\n\x1a\n"
_STILLS = (b"\xff\xd8\xff", b"II*\0", b"MM\0*")  # JPEG and TIFF, which many cameras' raw formats are too
_PICTURES = ("image2", "gif", "webp")  # of one frame
_MAX_PNG_HEADER = 2 * 2**20  # bytes; texts such as our own notes may precede the pictures
# What FFmpeg makes pictures of: texts, and lists of other files.
_NO_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf", "concat", "hls", "dash", "imf"})


class FileKind(Enum):
    """What a file holds."""

    VIDEO = "video"
    PICTURE = "picture"
    OTHER = "no video"


def kind_of(path: Path) -> FileKind:
    """What a file holds; a video has two frames at least, and the first two of them can be decoded.

    The usual still pictures are known by their first bytes, as there may be thousands of them.

    Raises:
        ImportError: If PyAV is not installed.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(len(_PNG))
            if header == _PNG:  # the chunk acTL, before the pictures, says that there are several
                is_animated = b"acTL" in stream.read(_MAX_PNG_HEADER).partition(b"IDAT")[0]
                return FileKind.VIDEO if is_animated else FileKind.PICTURE
        if header.startswith(_STILLS):
            return FileKind.PICTURE
        frames = list(itertools.islice(decode_frames(path), 2))
    except (OSError, UnreadableVideoError):
        return FileKind.OTHER
    container = frames[0].format.container
    is_avif = container == "mov" and path.suffix.lower() == ".avif"
    if container.endswith("_pipe") or (len(frames) == 1 and (container in _PICTURES or is_avif)):
        return FileKind.PICTURE
    return FileKind.OTHER if len(frames) < 2 or container in _NO_VIDEO else FileKind.VIDEO
