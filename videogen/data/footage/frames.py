"""One decoded frame of a video file, what is known about the file, and what is raised for a broken one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

Colour = tuple[int, int, int]


class UnreadableVideoError(ValueError):
    """A file that is no video, or a damaged one; the message says what is wrong with it."""


class LostPacketsError(UnreadableVideoError):
    """Packets of a transport stream were lost, and all frames that can be shown have been given."""


@dataclass(frozen=True)
class VideoFormat:
    """How a file holds its pictures.

    Attributes:
        container: `mp4`, `matroska`, `gif`, ...
        codec: `h264`, `vp9`, ...
        pixel_format: FFmpeg's name for it, or Pillow's mode.
        width: Of the upright picture, in pixels of the file.
        height: Of the upright picture, in pixels of the file.
        rotation: Degrees counterclockwise by which the stored picture is turned to be upright.
        mirrored: Whether left and right of the stored picture are exchanged, before it is turned.
        pixel_aspect: Width of a pixel over its height.
        bit_depth: Bits of a colour channel.
        has_alpha: Whether there is transparency.
        transfer: `PQ` or `HLG` for high dynamic range, else "".
        interlaced: Whether a frame holds two half pictures.
        rate: Frames per second that the file states, 0 if it states none.
    """

    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int = 0
    mirrored: bool = False
    pixel_aspect: Fraction = Fraction(1)
    bit_depth: int = 8
    has_alpha: bool = False
    transfer: str = ""
    interlaced: bool = False
    rate: Fraction = Fraction(0)


@dataclass(frozen=True)
class DecodedFrame(ABC):
    """One frame of a file.

    Attributes:
        start: When it is shown, in seconds; None where the file does not say.
        duration: For how long, in seconds; None where the file does not say.
        format: Of the file.
        follows_loss: Whether packets of a transport stream were lost, and frames left out, just before it.
    """

    start: Fraction | None
    duration: Fraction | None
    format: VideoFormat
    follows_loss: bool = field(default=False, kw_only=True)

    def rgb(self, background: Colour, size: tuple[int, int] | None = None) -> np.ndarray:
        """The picture `(H, W, 3)` uint8, transparent parts on `background`, averaged down to (H, W).

        Raises:
            UnreadableVideoError: If it cannot be converted.
        """
        try:
            return self._rgb(background, size)
        except Exception as error:  # as in `decode_frames`
            raise UnreadableVideoError(f"a frame cannot be converted: {fault_text(error)}") from error

    @abstractmethod
    def _rgb(self, background: Colour, size: tuple[int, int] | None) -> np.ndarray:
        """The picture, for `rgb`."""


def fault_text(error: Exception) -> str:
    """What a decoder, or the lack of memory, says in an error, in one line."""
    if isinstance(error, MemoryError):
        return " ".join(f"more memory is needed than there is. {error}".split())
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def on_background(picture: np.ndarray, background: Colour) -> np.ndarray:
    """RGB of a picture `(H, W, 3 or 4)` uint8 with straight alpha."""
    if picture.shape[2] == 3:
        return np.ascontiguousarray(picture)
    alpha = picture[..., 3:].astype(np.uint16)
    mixed = picture[..., :3] * alpha + np.array(background, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)
