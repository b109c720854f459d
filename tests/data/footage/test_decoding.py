"""Decoding of footage: every frame once, upright, in its colours, at its time; and damage is named."""

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.videos import (
    ffmpeg_pictures,
    moving_bar,
    random_gif,
    run_ffmpeg,
    truncate,
    write_audio,
    write_pictures,
    write_video,
)
from videogen.data.footage.decoding import decode_frames
from videogen.data.footage.frames import DecodedFrame, LostPacketsError, UnreadableVideoError
from videogen.io import read_clip

BLACK = (0, 0, 0)


def decode(path: Path) -> list[DecodedFrame]:
    return list(decode_frames(path))


def error_of(path: Path) -> str:
    with pytest.raises(UnreadableVideoError) as info:
        decode(path)
    return str(info.value)


@pytest.mark.parametrize("num_frames", [2, 23, 30])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        ("a.gif", ""),
        ("a.webp", ""),
    ],
)
def test_every_frame_is_decoded_once_and_in_order(
    tmp_path: Path, name: str, codec: str, num_frames: int
) -> None:
    frames = moving_bar(num_frames)
    if codec:
        write_video(tmp_path / name, frames, codec=codec)
    else:
        write_pictures(tmp_path / name, frames, 40)
    decoded = decode(tmp_path / name)
    assert len(decoded) == num_frames
    for frame, expected in zip(decoded, frames, strict=True):
        errors = np.abs(frame.rgb(BLACK).astype(int) - expected)
        assert errors.mean() < 16  # neighbouring frames, in which the bar has moved, differ by more
    assert decoded[0].format.width == 64
    assert decoded[0].format.height == 48


def test_a_lossless_file_gives_its_pixels_exactly(tmp_path: Path) -> None:
    frames = moving_bar(5)
    write_video(tmp_path / "a.mkv", frames, codec="ffv1", pixel_format="bgr0")
    write_pictures(tmp_path / "a.webp", frames, 40)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal([frame.rgb(BLACK) for frame in decode(path)], frames)


def test_frames_of_variable_rate_carry_their_own_times(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 200, 320, 330]
    path = write_video(tmp_path / "a.mkv", moving_bar(6), ticks=ticks)
    assert [frame.start for frame in decode(path)] == [Fraction(tick, 1000) for tick in ticks]


def test_pictures_are_shown_as_long_as_the_file_says(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "a.webp", moving_bar(3), [40, 500, 60])
    assert [frame.start for frame in decode(path)] == [0, Fraction(40, 1000), Fraction(540, 1000)]
    hurried = write_pictures(tmp_path / "a.gif", moving_bar(2), 0)  # browsers show such frames for 0.1 s
    assert [frame.duration for frame in decode(hurried)] == [Fraction(1, 10)] * 2


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotation_flag_is_obeyed(tmp_path: Path, degrees: int) -> None:
    frames = moving_bar(3)
    upright = write_video(tmp_path / "upright.mp4", frames)
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", str(degrees), "-i", str(upright), "-c", "copy", str(turned))
    for plain, frame in zip(decode(upright), decode(turned), strict=True):
        # FFmpeg's option counts degrees counterclockwise, as NumPy does.
        np.testing.assert_array_equal(frame.rgb(BLACK), np.rot90(plain.rgb(BLACK), degrees // 90))
        height, width = frame.rgb(BLACK).shape[:2]
        assert (frame.format.width, frame.format.height) == (width, height)
        assert frame.rgb(BLACK, (12, 20)).shape == (12, 20, 3)


@pytest.mark.parametrize("flips", [(), ("-display_hflip",), ("-display_vflip",)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_all_eight_orientations_are_shown_as_ffmpeg_shows_them(
    tmp_path: Path, degrees: int, flips: tuple[str, ...]
) -> None:
    path = tmp_path / "a.mp4"
    write_video(tmp_path / "stored.mp4", moving_bar(3), pixel_format="yuv444p")
    turn = ("-display_rotation", str(degrees), *flips)
    run_ffmpeg(*turn, "-i", str(tmp_path / "stored.mp4"), "-c", "copy", str(path))
    decoded = decode(path)
    height, width = decoded[0].format.height, decoded[0].format.width
    pictures = np.stack([frame.rgb(BLACK) for frame in decoded])
    shown = ffmpeg_pictures(path, height, width)
    assert np.abs(pictures.astype(int) - shown).max() <= 3
    assert decoded[0].format.mirrored == bool(flips)
    np.testing.assert_array_equal(read_clip(path).frames, shown)


def test_an_odd_size_stays(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving_bar(3, 47, 63), codec="ffv1", pixel_format="yuv444p")
    frame = decode(path)[0]
    assert frame.rgb(BLACK).shape == (47, 63, 3)
    assert np.abs(frame.rgb(BLACK).astype(int) - moving_bar(3, 47, 63)[0]).max() <= 3


def test_ten_bits_become_eight(tmp_path: Path) -> None:
    frames = moving_bar(3)
    path = write_video(tmp_path / "a.mkv", frames, codec="ffv1", pixel_format="yuv444p10le")
    frame = decode(path)[0]
    assert frame.format.bit_depth == 10
    assert np.abs(frame.rgb(BLACK).astype(int) - frames[0]).max() <= 3


def test_high_dynamic_range_is_named(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv420p10le", color_trc=16, color_primaries=9
    )
    assert decode(path)[0].format.transfer == "PQ"


@pytest.mark.parametrize("name", ["a.webm", "a.webp", "a.gif", "a.mov"])
def test_transparent_parts_lie_on_the_background(tmp_path: Path, name: str) -> None:
    frames = np.zeros((4, 32, 32, 4), np.uint8)
    for idx, frame in enumerate(frames):
        frame[8:24, 8 + idx : 24 + idx] = (230, 30, 30, 255)
    path = tmp_path / name
    if name == "a.webm":
        write_video(path, frames, codec="libvpx-vp9", pixel_format="yuva420p")
    elif name == "a.mov":
        write_video(path, frames, codec="qtrle", pixel_format="argb")
    else:
        write_pictures(path, frames, 40)
    decoded = decode(path)
    assert len(decoded) == 4
    assert decoded[0].format.has_alpha
    picture = decoded[0].rgb((0, 200, 0)).astype(int)
    assert np.abs(picture[2, 2] - (0, 200, 0)).max() <= 3
    assert np.abs(picture[16, 16] - (230, 30, 30)).max() <= 12


def test_pixels_that_are_not_square_are_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", codec="mpeg4", sample_aspect_ratio=Fraction(4, 3))
    assert decode(path)[0].format.pixel_aspect == Fraction(4, 3)


def test_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a.mp4.webp", moving_bar(3), 40).rename(tmp_path / "a.mp4")
    write_video(tmp_path / "b.mkv", moving_bar(3)).rename(tmp_path / "b.gif")
    assert [len(decode(tmp_path / name)) for name in ("a.mp4", "b.gif")] == [3, 3]


def test_what_is_cut_off_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    index_last = truncate(write_video(tmp_path / "a.mp4", noise), 0.7)
    assert "not a readable video" in error_of(index_last)
    index_first = write_video(tmp_path / "b.mp4", noise, options={"movflags": "faststart"})
    assert "damaged: after " in error_of(truncate(index_first, 0.7))
    webp = write_pictures(tmp_path / "d.webp", noise, 40)
    assert error_of(truncate(webp, 0.5))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.97])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.mxf", "mpeg2video"),
        ("b.mxf", "libx264"),
        ("a.apng", "apng"),
        ("a.gif", ""),
    ],
)
def test_a_file_without_its_end_is_refused(tmp_path: Path, name: str, codec: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    path = tmp_path / name
    if codec:
        write_video(path, noise, rate=25, codec=codec, pixel_format="rgb24" if codec == "apng" else "yuv420p")
    else:
        write_pictures(path, noise, 40)
    assert len(decode(path)) == 40
    assert re.match("cut off: |damaged: after ", error_of(truncate(path, share)))


def test_what_follows_the_end_of_a_gif_is_no_damage(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "a.gif", moving_bar(4), 40)
    content = path.read_bytes()
    for ending in (b"", b";and a note", b"\0" * 64 + b";", b"!\xfe\x04note\0;"):
        path.write_bytes(content[:-1] + ending)
        assert [frame.start for frame in decode(path)] == [Fraction(idx, 25) for idx in range(4)]


def test_frames_that_an_ogg_drops_are_no_damage(tmp_path: Path) -> None:
    frames = moving_bar(10).repeat(5, axis=0)  # Theora writes nothing for a picture that stays
    write_video(tmp_path / "plain.mkv", frames, rate=25, codec="ffv1", pixel_format="yuv444p")
    path = tmp_path / "a.ogv"
    run_ffmpeg("-i", str(tmp_path / "plain.mkv"), "-pix_fmt", "yuv420p", "-c:v", "libtheora", str(path))
    decoded = decode(path)
    assert 10 <= len(decoded) < 50
    for frame in decoded:
        assert frame.start is not None
        expected = frames[int(frame.start * 25)]
        assert np.abs(frame.rgb(BLACK).astype(int) - expected).mean() < 16


def write_avi_with_dropped_frames(path: Path) -> Path:
    """Of 48 frames at 24 per second, three in the middle and the last two are left out, and counted."""
    pictures = moving_bar(48)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=24)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for idx in (*range(10), *range(13, 46)):
            frame = av.VideoFrame.from_ndarray(pictures[idx], format="rgb24")
            frame.pts, frame.time_base = idx, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return count_in_header(path, 48)


def count_in_header(path: Path, num_frames: int) -> Path:
    """Change the length that the header of an AVI's first stream states."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"strh") + 8 + 32, num_frames)
    path.write_bytes(content)
    return path


def test_an_avi_with_dropped_frames_is_whole(tmp_path: Path) -> None:
    decoded = decode(write_avi_with_dropped_frames(tmp_path / "a.avi"))
    starts = [Fraction(idx, 24) for idx in (*range(10), *range(13, 46))]
    assert [frame.start for frame in decoded] == starts


def test_an_avi_whose_header_counts_fields_is_whole(tmp_path: Path) -> None:
    assert len(decode(count_in_header(write_video(tmp_path / "a.avi", codec="mpeg4"), 48))) == 24


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_avi_is_refused(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / "a.avi", noise, codec="mpeg4")
    assert re.match("cut off: |damaged: after ", error_of(truncate(path, share)))
    # Where a packet ends, only the header knows that others follow.
    path = write_video(tmp_path / "b.avi", noise, codec="mpeg4")
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    path.write_bytes(path.read_bytes()[: positions[int(share * len(positions))]])
    assert "cut off: its header states 1.67 s" in error_of(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
def test_titles_in_any_encoding_are_no_damage(tmp_path: Path, name: str) -> None:
    title = b"Caf-- --t--"
    path = tmp_path / name
    write_video(tmp_path / "plain.mkv", codec="mpeg4" if name == "a.avi" else "libx264")
    titles = ["-metadata", f"title={title.decode()}", "-metadata:s:v", f"title={title.decode()}"]
    run_ffmpeg("-i", str(tmp_path / "plain.mkv"), "-c", "copy", *titles, str(path))
    content = path.read_bytes()
    assert title in content
    path.write_bytes(content.replace(title, b"Caf\xe9\xe9 \xe9\xe9t\xe9\xe9"))
    assert len(decode(path)) == 24


def test_a_transport_stream_is_shown_up_to_what_was_lost_and_from_the_next_key_frame_on(
    tmp_path: Path,
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / "a.ts", noise, codec="mpeg2video", gop_size=10)
    whole = [frame.rgb(BLACK) for frame in decode(path)]
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0)][23]
    assert place is not None
    content = path.read_bytes()
    path.write_bytes(content[: place + 188] + content[place + 2 * 188 :])
    shown: list[DecodedFrame] = []
    with pytest.raises(LostPacketsError, match="lost in 1 place, first after 2"):
        shown.extend(decode_frames(path))
    (resumed,) = [idx for idx, frame in enumerate(shown) if frame.follows_loss]
    pictures = [frame.rgb(BLACK) for frame in shown]
    assert 20 <= resumed <= 24 < len(shown) < 50
    np.testing.assert_array_equal(pictures[:resumed], whole[:resumed])
    np.testing.assert_array_equal(pictures[resumed:], whole[resumed - len(shown) :])


@pytest.mark.parametrize("is_filled", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_a_gif_is_shown_as_ffmpeg_shows_it(tmp_path: Path, seed: int, is_filled: bool) -> None:
    path = random_gif(tmp_path / "a.gif", 8, 12, 16, seed, is_filled)
    shown = ffmpeg_pictures(path, 12, 16)
    np.testing.assert_array_equal([frame.rgb(BLACK) for frame in decode(path)], shown)
    np.testing.assert_array_equal(read_clip(path).frames, shown)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert error_of(tmp_path / "empty.mp4") == "the file is empty (0 bytes)"
    (tmp_path / "text.mp4").write_text("a text that somebody named so\n" * 20)
    assert "not a readable video: Invalid data" in error_of(tmp_path / "text.mp4")
    assert "audio only" in error_of(write_audio(tmp_path / "sound.mp4"))
    assert error_of(tmp_path / "missing.mp4") == "cannot be opened: No such file or directory"
    (tmp_path / "folder.mp4").mkdir()
    assert "cannot be opened" in error_of(tmp_path / "folder.mp4")


@pytest.mark.parametrize(
    "name", ["10:30 interview.mp4", "http:x.mp4", "take:1/a.mkv", "100%d.mp4", "file:a.mp4"]
)
def test_a_relative_name_is_the_name_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_video(tmp_path / "plain.mkv", moving_bar(3))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "plain.mkv").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(decode(Path(name))) == 3


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.m2ts", "mpeg2video"),
        ("a.mts", "libx264"),
        ("a.mxf", "mpeg2video"),
        ("a.vob", "mpeg2video"),
        ("a.asf", "msmpeg4"),
        ("a.m2v", "mpeg2video"),
        ("a.dv", "dvvideo"),
        ("a.rm", "rv20"),
        ("a.apng", "apng"),
    ],
)
def test_formats_of_cameras_and_studios_are_decoded(tmp_path: Path, name: str, codec: str) -> None:
    size = {"dvvideo": (576, 720), "rv20": (144, 176)}.get(codec, (48, 64))
    form = {"apng": "rgb24"}.get(codec, "yuv420p")
    frames = moving_bar(25, *size)
    write_video(tmp_path / name, frames, rate=25, codec=codec, pixel_format=form, bit_rate=4_000_000)
    decoded = decode(tmp_path / name)
    assert len(decoded) == 25
    assert decoded[0].format.codec in (codec, codec.removeprefix("lib"), "h264")
    for frame, expected in zip(decoded, frames, strict=True):
        assert np.abs(frame.rgb(BLACK).astype(int) - expected).mean() < 16


@pytest.mark.parametrize(
    ("name", "still"),
    [("a.mp4", "mjpeg"), ("a.mp4", "png"), ("a.mkv", "mjpeg"), ("a.mov", "png"), ("a.avi", "mjpeg")],
)
def test_a_still_before_the_video_does_not_hide_it(tmp_path: Path, name: str, still: str) -> None:
    frames = moving_bar(12)
    with av.open(tmp_path / name, "w") as container:
        cover: Any = container.add_stream(still, rate=24, width=16, height=16)
        cover.pix_fmt = "yuvj420p" if still == "mjpeg" else "rgb24"
        video: Any = container.add_stream("libx264", rate=24, width=64, height=48)
        for stream, pictures in ((cover, moving_bar(1, 16, 16)), (video, frames)):
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode())
    decoded = decode(tmp_path / name)
    assert len(decoded) == 12
    assert (decoded[0].format.codec, decoded[0].format.width) == ("h264", 64)


def test_numbered_pictures_are_decoded_exactly_at_the_given_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = moving_bar(12)
    folder = tmp_path / "take:1 at 50%d"
    folder.mkdir()
    for number, frame in enumerate(frames, start=95):
        Image.fromarray(frame).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    decoded = decode_frames(Path(folder.name, "[95-106].png"), picture_fps=12.5)
    for idx, (frame, expected) in enumerate(zip(decoded, frames, strict=True)):
        np.testing.assert_array_equal(frame.rgb(BLACK), expected)
        assert (frame.start, frame.duration) == (Fraction(idx * 2, 25), Fraction(2, 25))


@pytest.mark.parametrize("suffix", ["bmp", "tif", "tga", "ppm", "webp", "gif", "exr", "avif", "jpg"])
def test_numbered_pictures_of_all_formats_are_decoded(tmp_path: Path, suffix: str) -> None:
    frames = moving_bar(9)
    for number, frame in enumerate(frames, start=1000):
        path = tmp_path / f"a_{number}.{suffix}"
        if suffix == "exr":
            Image.fromarray(frame).save(tmp_path / "a.png")
            run_ffmpeg("-i", str(tmp_path / "a.png"), str(path))
        else:
            Image.fromarray(frame).save(path)
    decoded = decode(tmp_path / f"a_[1000-1008].{suffix}")
    assert [frame.start for frame in decoded] == [Fraction(idx, 25) for idx in range(9)]
    for frame, expected in zip(decoded, frames, strict=True):
        assert np.abs(frame.rgb(BLACK).astype(int) - expected).mean() < 16
        assert (frame.format.container, frame.format.rate) == ("image2", Fraction(25))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_ffmpeg_turns_them(tmp_path: Path, orientation: int) -> None:
    """Cameras state it in Exif, of which PyAV below 19 knows nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "0.jpg"
    Image.fromarray(moving_bar(1)[0]).save(path, exif=exif, quality=95, subsampling=0)
    (frame,) = decode(path)
    shown = ffmpeg_pictures(path, frame.format.height, frame.format.width)[0]
    assert np.abs(frame.rgb(BLACK).astype(int) - shown).max() <= 3
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert np.abs(frame.rgb(BLACK).astype(int) - upright).max() <= 3


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(moving_bar(1, 48, 64 if number < 5 else 48)[0]).save(tmp_path / f"{number}.png")
    assert error_of(tmp_path / "[0-7].png") == "changes its size from 64x48 to 48x48 at 5.png"
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    assert error_of(tmp_path / "[0-7].png").startswith("3.png: ")
