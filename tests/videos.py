"""Small real video files for tests, written with PyAV, Pillow and FFmpeg's command line."""

import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image


def moving_bar(num_frames: int = 24, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A light bar that moves over a dim pattern of its own, (F, H, W, 3) uint8."""
    pattern = np.random.default_rng(seed).integers(0, 120, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    pattern = pattern.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    frames = np.stack([pattern] * num_frames)
    for idx, frame in enumerate(frames):
        left = 2 * idx % (width - width // 8)
        frame[:, left : left + width // 8] = 230
    return frames


def write_video(
    path: Path,
    frames: np.ndarray | None = None,
    *,
    rate: int = 24,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    **stream_settings: Any,
) -> Path:
    """Write frames `(F, H, W, 3 or 4)`; frame k is shown at `ticks[k]` milliseconds if they are given."""
    frames = moving_bar() if frames is None else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for name, value in stream_settings.items():
            setattr(stream.codec_context, name, value)
        if ticks is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for idx, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            if ticks is not None:
                frame.pts, frame.time_base = ticks[idx], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_pictures(path: Path, frames: np.ndarray, durations: int | list[int]) -> Path:
    """Write an animated GIF or WebP, lossless where the format allows; durations in milliseconds."""
    images = [Image.fromarray(frame) for frame in frames]
    lossless: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, **lossless)
    return path


def random_gif(path: Path, num_frames: int, height: int, width: int, seed: int, is_filled: bool) -> Path:
    """A GIF of patches at random places, with all ways of disposal, in turn with none stated.

    Its first picture fills the screen if `is_filled`. The colour 0 of a palette is transparent, or none is.
    """
    rng = np.random.default_rng(seed)

    def palette() -> bytes:
        return rng.integers(0, 256, (128, 3), np.uint8).tobytes()

    content = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF6, seed % 4, 0) + palette()
    for idx in range(num_frames):
        box_height, box_width = (int(rng.integers(1, side + 1)) for side in (height, width))
        left, top = int(rng.integers(0, width - box_width + 1)), int(rng.integers(0, height - box_height + 1))
        if idx == 0 and is_filled:
            left, top, box_height, box_width = 0, 0, height, width
        disposal, own_palette = int(rng.integers(0, 4)), bool(rng.integers(0, 2))
        content += b"!\xf9\x04" + struct.pack("<BHBB", disposal << 2 | int(rng.integers(0, 2)), 10, 0, 0)
        content += b"," + struct.pack("<HHHHB", left, top, box_width, box_height, 0x86 if own_palette else 0)
        content += palette() if own_palette else b""
        # With 7 bits of colour a code has 8 bits, and the table is cleared before codes grow.
        pixels = rng.integers(0, 4, box_height * box_width, np.uint8).tobytes()
        codes = (
            b"".join(b"\x80" + pixels[start : start + 126] for start in range(0, len(pixels), 126)) + b"\x81"
        )
        blocks = [codes[start : start + 255] for start in range(0, len(codes), 255)]
        content += b"\x07" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    path.write_bytes(content + b";")
    return path


def ffmpeg_pictures(path: Path, height: int, width: int) -> np.ndarray:
    """What FFmpeg's command line shows of a file, transparent parts on black, (F, H, W, 3) uint8."""
    every = ["-fps_mode", "passthrough", "-pix_fmt", "rgba", "-f", "rawvideo"]
    every += ["-sws_flags", "bicubic+accurate_rnd+full_chroma_int", "pipe:1"]
    command = [get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), *every]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 4).astype(np.uint16)
    return ((pictures[..., :3] * pictures[..., 3:] + 127) // 255).astype(np.uint8)


def write_audio(path: Path) -> Path:
    """Half a second of silence in a container for videos."""
    run_ffmpeg("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "0.5", str(path))
    return path


def run_ffmpeg(*arguments: str) -> None:
    """Run FFmpeg's command line."""
    subprocess.run([get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments], check=True)


def truncate(path: Path, share: float) -> Path:
    """Cut the end off a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
