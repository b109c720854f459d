"""Decode the pictures of a video file through PyAV: which stream, which packets, which way up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from videogen.data.footage.completeness import check_complete
from videogen.data.footage.frames import (
    Colour,
    DecodedFrame,
    LostPacketsError,
    UnreadableVideoError,
    VideoFormat,
    on_background,
)

_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273, table 3
_UNSPECIFIED = 2  # the same, colour matrix
_UNNAMED_SIDE_DATA = range(28, 48)  # from FFmpeg's AV_FRAME_DATA_LCEVC on; 31 is that of cameras, Exif
_OPAQUE = 255
_MATRIX_ROUNDING = 1  # degrees, as FFmpeg's command line allows


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
        picture = frame.reformat(format="rgba" if _has_alpha(frame) else "rgb24", **options).to_ndarray()
        if self.format.mirrored:
            picture = picture[:, ::-1]
        return on_background(np.rot90(picture, turns), background)


def decode_stream(path: Path) -> Iterator[DecodedFrame]:
    """Every frame of a file, for `decode_frames`."""
    with _opened(path) as container:
        streams = _streams_of_pictures(container)
        if not streams:
            others = "audio only" if container.streams.audio else "no stream of pictures"
            raise UnreadableVideoError(f"holds no video ({others})")
        stream = streams[0]
        if len(streams) > 1:
            moving_idx = _moving_stream_idx(path)
            stream = next(stream for stream in streams if stream.index == moving_idx)
        if stream.codec_context is None:
            raise UnreadableVideoError("its header names no format of pictures that can be decoded")
        stream.thread_count = 1  # the files are spread over the cores
        video_format = None
        for frame, follows_loss in _decode_packets(path, container, stream):
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


def _opened(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading footage needs PyAV: pip install 'videogen[train]'") from error
    # Later ones take titles in any encoding, unasked.
    settings: Any = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    # As a `file:`, or a colon in a relative name would begin a protocol, a network one even. And a % in the
    # name of a picture does not stand for a number.
    return av.open(f"file:{path.absolute()}", mode="r", options={"pattern_type": "none"}, **settings)


def _decode_packets(path: Path, container: Any, stream: Any) -> Iterator[tuple[Any, bool]]:
    """PyAV's frames, and whether each follows a loss; from a lost packet to a key frame there are none."""
    decoder = _alpha_decoder(stream)
    listed = max((entry.timestamp for entry in stream.index_entries), default=0)
    num_frames, num_ticks, last_packet = 0, 0, None
    places: list[int] = []
    losses: list[int] = []  # frames before each
    lost = follows_loss = False
    is_transport_stream = container.format.name == "mpegts"
    for packet in container.demux(stream):
        if packet.is_corrupt and not is_transport_stream:
            raise UnreadableVideoError(f"damaged: after {num_frames} frames a packet is cut off")
        if not packet.size and packet.dts is not None:  # the picture before it stays
            continue
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
            num_ticks += packet.duration or 0
            places.append(packet.dts)
        if not lost:
            frames = decoder.decode(packet)
        for frame in frames:
            if frame.is_corrupt and is_transport_stream:  # what is left of a packet may look like a key frame
                decoder.flush_buffers()
                lost = True
                losses = losses or [num_frames]
                break
            if container.format.name == "avi" and num_frames < len(places):
                # It states the order of decoding alone: pictures that are shown in another one swap places.
                frame.pts, frame.time_base = places[num_frames], stream.time_base
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
        check_complete(path, container, stream, listed, last_packet, num_ticks)


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


def _moving_stream_idx(path: Path) -> int:
    """Index of the first stream with more than one picture, or of the first of all.

    A still that is not marked as a cover may precede the video, and containers need not say how many pictures
    a stream has. So packets are counted, without decoding, until the first stream has a second one.
    """
    with _opened(path) as container:
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
    name = container.format.name.split(",")[0]
    return VideoFormat(
        container=name,
        codec=stream.codec_context.name,
        pixel_format=frame.format.name,
        width=width,
        height=height,
        rotation=rotation,
        mirrored=mirrored,
        pixel_aspect=1 / aspect if sideways else aspect,
        bit_depth=frame.format.components[0].bits,
        has_alpha=_has_alpha(frame) and (name != "gif" or _shows_background(frame)),
        transfer=_TRANSFERS.get(int(frame.color_trc), ""),
        interlaced=frame.interlaced_frame,
        rate=stream.average_rate or stream.guessed_rate or Fraction(0),
    )


def _has_alpha(frame: Any) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _shows_background(frame: Any) -> bool:
    """Whether something of a frame is transparent, as of most GIFs nothing is, all of which may be."""
    return bool(frame.to_ndarray(format="rgba")[..., 3].min() < _OPAQUE)


def _with_named_side_data(frame: Any) -> Any:
    from av.filter import Graph

    graph = Graph()
    shape = {"width": frame.width, "height": frame.height, "format": frame.format}
    others = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in _UNNAMED_SIDE_DATA]
    nodes = (graph.add_buffer(**shape, time_base=Fraction(1)), *others, graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    graph.push(frame)
    return graph.pull()


def _orientation(frame: Any) -> tuple[int, bool]:
    """`rotation` and `mirrored` by the display matrix, which maps (x, y) to (ax + cy, bx + dy)."""
    try:
        side_data = frame.side_data
    except ValueError:  # PyAV below 19 takes none of it where one is of a kind that it has no name for
        side_data = _with_named_side_data(frame).side_data
    data = side_data.get("DISPLAYMATRIX")
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
