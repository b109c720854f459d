"""Whether a video file is whole, where its decoder does not notice that the end is missing."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

from videogen.clip_formats import gif_is_whole
from videogen.data.footage.frames import UnreadableVideoError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # elements of Matroska


def check_complete(
    path: Path, container: Any, stream: Any, listed: int, last_packet: Any, num_ticks: int
) -> None:
    """Refuse what was cut off without the decoder noticing.

    Args:
        path: The file.
        container: The same, opened by PyAV.
        stream: Its pictures.
        listed: The last decoding time in the index as the file was opened, in ticks.
        last_packet: The last that was read.
        num_ticks: How long all packets together last.

    Raises:
        UnreadableVideoError: If the end is missing.
    """
    name = container.format.name
    if name.startswith(("avi", "mov")):
        last = last_packet.pts if last_packet.dts is None else last_packet.dts
        end, stated = last + (last_packet.duration or 1), 0
        if last < listed:
            stated = end + listed - last
        elif last > listed and name == "avi":
            # Its index, which stands last, is missing. The header alone proves nothing: it may count fields.
            stated = stream.frames
        _check_reaches(end * stream.time_base, stated * stream.time_base)
    elif name == "mxf":  # of which each packet is what its header counts, and time stamps may be missing
        _check_reaches(num_ticks * stream.time_base, (stream.duration or 0) * stream.time_base)
    elif name.startswith("matroska"):
        size, stated = path.stat().st_size, _matroska_size(path)
        if size < stated:
            raise UnreadableVideoError(f"cut off: its header states {stated} bytes, the file has {size}")
    elif (name == "gif" and not gif_is_whole(path)) or (name == "apng" and not _has_end_chunk(path)):
        raise UnreadableVideoError("cut off: its last picture is incomplete, or others are missing")


def _check_reaches(end: Fraction, stated: Fraction) -> None:
    if end < stated:
        raise UnreadableVideoError(
            f"cut off: its header states {float(stated):.2f} s, the file has {float(end):.2f} s"
        )


def _matroska_size(path: Path) -> int:
    """Bytes of the whole file by the size of its first segment, 0 where that is left open (RFC 8794)."""
    with path.open("rb") as stream:
        for element in (_EBML, _SEGMENT):
            if stream.read(4) != element:
                return 0
            first = stream.read(1)[0]
            num_bytes = 8 - first.bit_length()  # that follow the first
            size = int.from_bytes(bytes([first & (1 << 7 - num_bytes) - 1]) + stream.read(num_bytes), "big")
            if element == _EBML:
                stream.seek(size, 1)
        is_open = size == (1 << 7 * (num_bytes + 1)) - 1
        return 0 if is_open else stream.tell() + size


def _has_end_chunk(path: Path) -> bool:
    """Whether the chunks of a PNG are followed by the one that ends it."""
    with path.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND":
                return True
            stream.seek(length + 4, 1)  # and its checksum
    return False
