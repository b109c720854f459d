"""Decode video files frame by frame, upright, in RGB, with the time at which each frame is shown.

PyAV reads videos; Pillow reads GIF and WebP, which FFmpeg does not in all versions. What a file is, its first
bytes say and not its suffix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videogen.clip_formats import shown_pictures
from videogen.data.footage.sequences import DEFAULT_PICTURE_FPS, PictureSequence

if TYPE_CHECKING:
    from PIL import Image

Colour = tuple[int, int, int]

_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273, table 3
_UNSPECIFIED = 2  # the same, colour matrix
_MATRIX_ROUNDING = 1  # degrees, as FFmpeg's command line allows
_MIN_PICTURE_MS, _DEFAULT_PICTURE_MS = 11, 100  # as browsers play pictures that state no or no sensible time


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
        frames = _decode_video(path, sequence, picture_fps)
    else:
        magic = _first_bytes(path)
        is_picture = magic[:6] in (b"GIF87a", b"GIF89a") or (magic[:4] == b"RIFF" and magic[8:] == b"WEBP")
        frames = _decode_pictures(path) if is_picture else _decode_video(path)
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
class _VideoFrame(DecodedFrame):
    """A frame of PyAV."""

    frame: Any

    def _rgb(self, background: Colour, size: tuple[int, int] | None) -> np.ndarray:
        from av.video.reformatter import Colorspace

        frame, turns = self.frame, self.format.rotation // 90
        options: dict[str, Any] = {}
        if size is not None:
            height, width = size if turns % 2 == 0 else size[::-1]
            options = {"height": height, "width": width, "interpolation": "AREA"}
        if frame.colorspace == _UNSPECIFIED:  # by convention: HD is BT.709, smaller is BT.601
            options["src_colorspace"] = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
        picture = frame.reformat(format="rgba" if self.format.has_alpha else "rgb24", **options).to_ndarray()
        if self.format.mirrored:
            picture = picture[:, ::-1]
        return _on_background(np.rot90(picture, turns), background)


@dataclass(frozen=True)
class _Picture(DecodedFrame):
    """A frame of Pillow."""

    image: Image.Image

    def _rgb(self, background: Colour, size: tuple[int, int] | None) -> np.ndarray:
        from PIL import Image

        image = self.image
        if size is not None:
            image = image.resize(size[::-1], Image.Resampling.BOX)
        return _on_background(np.asarray(image), background)


def _on_background(picture: np.ndarray, background: Colour) -> np.ndarray:
    """RGB of a picture `(H, W, 3 or 4)` uint8 with straight alpha."""
    if picture.shape[2] == 3:
        return np.ascontiguousarray(picture)
    alpha = picture[..., 3:].astype(np.uint16)
    mixed = picture[..., :3] * alpha + np.array(background, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _decode_video(
    path: Path, sequence: PictureSequence | None = None, picture_fps: float = DEFAULT_PICTURE_FPS
) -> Iterator[DecodedFrame]:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading footage needs PyAV: pip install 'videogen[train]'") from error
    # As a `file:`, or a colon in a relative name would begin a protocol, a network one even.
    url, file_format, options = f"file:{path.absolute()}", None, {}
    if sequence is not None:
        url, file_format = f"file:{sequence.pattern}", "image2"
        options = {"framerate": str(picture_fps), "start_number": sequence.first}
    # Titles may be in any encoding, and none of them is used.
    with av.open(url, mode="r", format=file_format, options=options, metadata_errors="replace") as container:
        streams = _streams_of_pictures(container)
        if not streams:
            others = "audio only" if container.streams.audio else "no stream of pictures"
            raise UnreadableVideoError(f"holds no video ({others})")
        stream = streams[0]
        if len(streams) > 1:
            moving_idx = _moving_stream_idx(url)
            stream = next(stream for stream in streams if stream.index == moving_idx)
        if stream.codec_context is None:
            raise UnreadableVideoError("its header names no format of pictures that can be decoded")
        stream.thread_count = 1  # the files are spread over the cores
        video_format = None
        for frame, follows_loss in _decode_packets(container, stream):
            if video_format is None:
                video_format = _format_of(frame, stream, container)
                stored = (frame.width, frame.height)
            elif (frame.width, frame.height) != stored:
                raise UnreadableVideoError(
                    f"changes its size from {stored[0]}x{stored[1]} to {frame.width}x{frame.height}"
                )
            if frame.is_corrupt:
                raise UnreadableVideoError("damaged: the decoder marks a frame as corrupt")
            start, duration = _times_of(frame, stream)
            yield _VideoFrame(start, duration, video_format, frame, follows_loss=follows_loss)


def _decode_packets(container: Any, stream: Any) -> Iterator[tuple[Any, bool]]:
    """PyAV's frames, and whether each follows a loss; from a lost packet to a key frame there are none."""
    decoder = _alpha_decoder(stream)
    listed = max((entry.timestamp for entry in stream.index_entries), default=0)
    num_frames, end, last_packet = 0, Fraction(0), None
    losses: list[int] = []  # frames before each
    lost = follows_loss = False
    is_transport_stream = container.format.name == "mpegts"
    for packet in container.demux(stream):
        if packet.is_corrupt and not is_transport_stream:
            raise UnreadableVideoError(f"damaged: after {num_frames} frames a packet is cut off")
        frames = []
        if packet.is_corrupt and not lost:
            frames = decoder.decode(None)
            decoder.flush_buffers()
            lost = True
            losses.append(num_frames + len(frames))
        elif lost and packet.is_keyframe and not packet.is_corrupt:
            lost, follows_loss = False, True
        if packet.size:
            last_packet = packet
        if not lost:
            frames = decoder.decode(packet)
        for frame in frames:
            if frame.is_corrupt and is_transport_stream:  # what is left of a packet may look like a key frame
                decoder.flush_buffers()
                lost = True
                losses = losses or [num_frames]
                break
            start, duration = _times_of(frame, stream)
            end = max(end, (start or Fraction(0)) + (duration or Fraction(0)))
            yield frame, follows_loss
            follows_loss = False
            num_frames += 1
    if losses:
        raise LostPacketsError(
            f"damaged: packets of its transport stream were lost in {len(losses)} "
            f"{'place' if len(losses) == 1 else 'places'}, first after {losses[0]} frames: those up to "
            "the next key frame are left out"
        )
    if last_packet is not None:
        _check_complete(container, stream, listed, last_packet, end)


def _times_of(frame: Any, stream: Any) -> tuple[Fraction | None, Fraction | None]:
    """When a frame of PyAV is shown, and for how long, in seconds."""
    base = frame.time_base or stream.time_base
    start = None if frame.pts is None or base is None else frame.pts * base
    return start, frame.duration * base if frame.duration and base is not None else None


def _streams_of_pictures(container: Any) -> list[Any]:
    """The streams that may be a video: not the cover of a song, nor previews of chapters."""
    from av.stream import Disposition

    beside = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & beside]


def _moving_stream_idx(url: str) -> int:
    """Index of the first stream with more than one picture, or of the first of all.

    A still that is not marked as a cover may precede the video, and containers need not say how many pictures
    a stream has. So packets are counted, without decoding, until the first stream has a second one.
    """
    import av

    with av.open(url, mode="r", metadata_errors="replace") as container:
        streams = _streams_of_pictures(container)
        counts = dict.fromkeys((stream.index for stream in streams), 0)
        first = streams[0].index
        for packet in container.demux(streams):
            counts[packet.stream.index] += packet.size > 0
            if counts[first] > 1:
                break
        return next((idx for idx, count in counts.items() if count > 1), first)


def _alpha_decoder(stream: Any) -> Any:
    """The stream's decoder, or libvpx for the transparent WebM that FFmpeg's own reads as opaque."""
    import av

    context = stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.name)
    if stream.metadata.get("alpha_mode") != "1" or name not in av.codecs_available:
        return context
    return av.CodecContext.create(name, "r")


def _format_of(frame: Any, stream: Any, container: Any) -> VideoFormat:
    rotation, mirrored = _orientation(frame)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    sideways = rotation % 180 != 0
    width, height = (frame.height, frame.width) if sideways else (frame.width, frame.height)
    return VideoFormat(
        container=container.format.name.split(",")[0],
        codec=stream.codec_context.name,
        pixel_format=frame.format.name,
        width=width,
        height=height,
        rotation=rotation,
        mirrored=mirrored,
        pixel_aspect=1 / aspect if sideways else aspect,
        bit_depth=frame.format.components[0].bits,
        has_alpha=any(component.is_alpha for component in frame.format.components),
        transfer=_TRANSFERS.get(int(frame.color_trc), ""),
        interlaced=frame.interlaced_frame,
        rate=stream.average_rate or stream.guessed_rate or Fraction(0),
    )


def _orientation(frame: Any) -> tuple[int, bool]:
    """`rotation` and `mirrored` by the display matrix, which maps (x, y) to (ax + cy, bx + dy)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    determinant = a * d - b * c
    if not determinant:
        return 0, False
    mirrored = determinant < 0
    degrees = frame.rotation + 180 * mirrored
    quarters = round(degrees / 90)
    if abs(degrees - 90 * quarters) > _MATRIX_ROUNDING:
        raise UnreadableVideoError(f"is to be turned by {degrees} degrees, which is no multiple of 90")
    return 90 * quarters % 360, mirrored


def _check_complete(container: Any, stream: Any, listed: int, last_packet: Any, end: Fraction) -> None:
    """Refuse what was cut off without the decoder noticing.

    Args:
        container: The file.
        stream: Its pictures.
        listed: The last decoding time in the index as the file was opened, in ticks.
        last_packet: The last that was read.
        end: When the last frame ends, in seconds.
    """
    stated = tolerance = Fraction(0)
    if container.format.name.startswith(("avi", "mov")):
        last = last_packet.pts if last_packet.dts is None else last_packet.dts
        end = (last + (last_packet.duration or 1)) * stream.time_base
        if last < listed:
            stated = end + (listed - last) * stream.time_base
        elif last > listed and container.format.name == "avi":
            # Its index, which stands last, is missing. The header alone proves nothing: it may count fields.
            stated = stream.frames * stream.time_base
    elif "DURATION" in stream.metadata:  # Matroska lists key frames only
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        stated = 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
        tolerance = max(Fraction(1, 2), stated / 20)
    if end < stated - tolerance:
        raise UnreadableVideoError(
            f"cut off: its header states {float(stated):.2f} s, the file has {float(end):.2f} s"
        )


def _decode_pictures(path: Path) -> Iterator[DecodedFrame]:
    from PIL import Image

    with Image.open(path) as image:
        name = str(image.format).lower()
        modes = {"RGBA": "rgba", "P": "palette", "L": "gray", "RGB": "rgb"}
        picture_format = None
        start = Fraction(0)
        for picture in shown_pictures(image):
            milliseconds = image.info.get("duration", 0)
            if milliseconds < _MIN_PICTURE_MS:
                milliseconds = _DEFAULT_PICTURE_MS
            duration = Fraction(milliseconds).limit_denominator(1000) / 1000
            if picture_format is None:
                # A GIF may use its transparent colour only for what did not change since the frame before.
                transparent = picture.getchannel("A").getextrema() != (255, 255)
                picture_format = VideoFormat(
                    container=name,
                    codec=name,
                    pixel_format=modes.get(image.mode, image.mode),
                    width=picture.width,
                    height=picture.height,
                    has_alpha=transparent,
                )
            yield _Picture(start, duration, picture_format, picture)
            start += duration
