"""Read and write clips, each with its recipe inside the file and written whole or not at all."""

import math
import numbers
import os
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from videogen.clip_formats import DEFAULT_FPS, FORMATS, Clip, ClipFormat, ClipNote
from videogen.files import check_folder_of, written_whole

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Clip",
    "WrittenClip",
    "check_output_path",
    "frame_rate",
    "frames_to_uint8",
    "read_clip",
    "read_recipe",
    "rounded_to_uint8",
    "write_clip",
]

DEFAULT_CRF = 16

# Of the two parts of a rate: ffmpeg rounds a ratio with a larger one.
_MAX_RATE_PART = 1_001_000

# A prompt of 80,000 emoji fits; Pillow refuses to read a longer text from a PNG.
_MAX_NOTE_CHARS = 1_000_000

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class WrittenClip:
    """What `write_clip` wrote.

    Attributes:
        path: the file, or the folder of frames.
        num_frames: frames in the clip.
        height: height of the frames as given, in pixels.
        width: width of the frames as given, in pixels.
        fps: frames per second.
        num_bytes: size on disk.
        padded: (height, width) of the picture in the file where yuv420p needed an even size, else None.
    """

    path: Path
    num_frames: int
    height: int
    width: int
    fps: float
    num_bytes: int
    padded: tuple[int, int] | None


def write_clip(
    frames: "np.ndarray | Tensor",
    path: str | os.PathLike[str],
    fps: float | Fraction = DEFAULT_FPS,
    recipe: dict[str, Any] | None = None,
    crf: int | None = None,
    loop: bool = True,
) -> WrittenClip:
    """Write one clip in the format that the suffix of `path` names; an existing clip is replaced.

    - `.mp4`: H.264, yuv420p, bt709, faststart. An odd size is padded by repeating its right or bottom edge.
    - `.webp`, `.apng`, `.png`: animated and lossless (one frame gives a still picture).
    - `.gif`: undithered; exact where the clip, or each of its frames, has at most 256 colours.
    - `.npz`: arrays `frames`, `fps` and `recipe` (JSON).
    - no suffix, or a path that ends with `/`: a folder of `frame_0000.png`, ... and `recipe.json`.

    The same frames and arguments give the same file, byte for byte, on any number of cores.

    Args:
        frames: (F, H, W, 3), uint8 or float in [0, 1]; or a tensor (F, 3, H, W) of the same, such as a
            pipeline gives for `output_type="pt"`.
        path: where to write; folders that are missing on the way are made.
        fps: frames per second, 0.1 to 240, in a GIF to 50; a float such as 24000 / 1001 is that ratio.
        recipe: JSON-able dict to keep inside the file; `read_recipe` gives it back.
        crf: H.264 quality of an .mp4, 1 (best) to 51 (smallest); None is 16, visually near lossless.
        loop: whether .gif, .webp, .apng and .png play without end; elsewhere the player decides.

    Raises:
        ValueError: an argument is wrong, or a frame holds NaN or infinity; nothing is written.
        OSError: writing failed; nothing is left behind, and an older clip at `path` is untouched.
    """
    pixels = frames_to_uint8(frames)
    suffix = _suffix_of(path)
    rate = frame_rate(fps, path)
    if crf is not None and suffix != ".mp4":
        raise ValueError(f"`crf` is the quality of an .mp4, got crf={crf} for {os.fspath(path)}")
    # 0 would be lossless H.264, a profile that browsers do not play.
    if crf is not None and not 1 <= crf <= 51:
        raise ValueError(f"`crf` must be between 1 and 51, got {crf}")
    note = ClipNote(rate, len(pixels), recipe)
    _check_recipe(note)
    target = check_output_path(path)

    try:
        with written_whole(target, is_folder=not suffix) as partial:
            FORMATS[suffix].write(pixels, partial, note, DEFAULT_CRF if crf is None else crf, loop)
    except (ValueError, RuntimeError, struct.error) as error:  # a size or duration past what the format holds
        raise ValueError(f"cannot write {target}: {error}") from error

    files = list(target.iterdir()) if target.is_dir() else [target]
    height, width = pixels.shape[1:3]
    even = (height + height % 2, width + width % 2)
    return WrittenClip(
        path=target,
        num_frames=len(pixels),
        height=height,
        width=width,
        fps=float(rate),
        num_bytes=sum(file.stat().st_size for file in files),
        padded=even if suffix == ".mp4" and even != (height, width) else None,
    )


def frame_rate(fps: float | Fraction, path: str | os.PathLike[str]) -> Fraction:
    """The exact ratio that a frame rate stands for, if the format of a path can hold it.

    Args:
        fps: a number of Python or numpy; it stands for the nearest ratio of two numbers up to 1,001,000.
        path: of the clip.

    Raises:
        ValueError: it is no number, or out of the range of the format.
    """
    suffix = _suffix_of(path)
    max_fps = 50 if suffix == ".gif" else 240
    if isinstance(fps, bool) or not isinstance(fps, numbers.Real):
        raise ValueError(f"`fps` must be a number or a Fraction, got {type(fps).__name__} {fps!r}")
    if not (math.isfinite(fps) and 0.1 <= fps <= max_fps):
        raise ValueError(f"`fps` must be between 0.1 and {max_fps} in {suffix or 'PNG frames'}, got {fps}")
    # By its digits, for those of a float32 are what was meant, not its nearest float64.
    return Fraction(str(fps)).limit_denominator(int(_MAX_RATE_PART / max(1.0, float(fps))))


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Read a clip in any format that `write_clip` writes, decoding all of it: the frame count is exact.

    An .mp4 of a clip with an odd size is read as it plays, with its padding.

    Raises:
        ValueError: the file is missing, damaged or of an unknown format, or its recipe is broken.
    """
    return _read(path, lambda clip_format, file: clip_format.read(file))


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the recipe of a clip without decoding its frames; None where the file carries none.

    Raises:
        ValueError: the file is missing, damaged or of an unknown format, or its recipe is broken.
    """
    return _read(path, lambda clip_format, file: clip_format.read_recipe(file))


def check_output_path(path: str | os.PathLike[str]) -> Path:
    """Check, before any compute is spent, that a clip can be written at `path`, and return it as a Path.

    Raises:
        ValueError: unknown suffix, or something at `path`, or on the way there, that a clip must not replace.
        OSError: the folder cannot be written to.
    """
    suffix, target = _suffix_of(path), Path(path)
    if target.name in ("", ".."):  # as of ".", "/", and what is empty
        raise ValueError(f"cannot write {os.fspath(path)!r}: it names no file, and no folder that can be new")
    if target.name.lower() in FORMATS:
        raise ValueError(f"cannot write {target}: put a name before {target.name}")
    check_folder_of(target)
    if suffix and target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder (a path that ends with / means PNG frames)")
    if not suffix and target.exists():
        if not target.is_dir():
            raise ValueError(f"cannot write {target}: a path without suffix is a folder, and this is a file")
        ours = re.compile(r"frame_\d+\.png|recipe\.json")
        strangers = [file.name for file in target.iterdir() if not ours.fullmatch(file.name)]
        if strangers:
            raise ValueError(f"cannot write {target}: the folder holds other things, such as {strangers[0]}")
    return target


def frames_to_uint8(frames: "np.ndarray | Tensor") -> np.ndarray:
    """Check the frames of one clip and turn floats into bytes, rounded to the nearest.

    Args:
        frames: (F, H, W, 3), uint8 or float in [0, 1]; a tensor is (F, 3, H, W).

    Returns:
        (F, H, W, 3) uint8, contiguous; `frames` itself where it is that already.

    Raises:
        ValueError: another type, shape or range, or a frame that holds NaN or infinity, which is named.
    """
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    if torch is not None and isinstance(frames, torch.Tensor):
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"`frames` must be one clip, a tensor (F, 3, H, W), got {tuple(frames.shape)}")
        is_half = frames.dtype in (torch.bfloat16, torch.float16)
        frames = (frames.float() if is_half else frames).detach().cpu().movedim(1, -1).numpy()
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"`frames` must be a numpy array, (F, H, W, 3), got {type(frames).__name__}")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"`frames` must be one clip, (F, H, W, 3), got shape {frames.shape}")
    if frames.dtype == np.uint8:
        return np.ascontiguousarray(frames)
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"`frames` must be uint8, or float in [0, 1], got {frames.dtype}")
    pixels = np.empty(frames.shape, np.uint8)
    for index, frame in enumerate(frames):
        if not np.isfinite(frame).all():
            raise ValueError(f"`frames` holds NaN or infinity, first in frame {index}")
        # Rounding in a network's dtype may pass the ends by a tenth of one of the 255 steps.
        if frame.min() < -4e-4 or frame.max() > 1 + 4e-4:
            span = f"{float(frame.min()):.3g} to {float(frame.max()):.3g}"
            raise ValueError(f"float `frames` must be in [0, 1], but frame {index} spans {span}")
        pixels[index] = rounded_to_uint8(frame)
    return pixels


def rounded_to_uint8(frames: np.ndarray) -> np.ndarray:
    """Frames of any shape, float in [0, 1], as uint8: the nearest level; values outside clamped, NaN 0."""
    return np.rint(np.nan_to_num(frames.astype(np.float32)).clip(0, 1) * 255).astype(np.uint8)


def _suffix_of(path: str | os.PathLike[str]) -> str:
    """The key of `path` in `FORMATS`; "" stands for a folder of frames."""
    text = os.fspath(path)
    suffix = "" if text.endswith(("/", os.sep)) else Path(text).suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(key for key in FORMATS if key)
        raise ValueError(f"unknown suffix {suffix!r} in {text}: use {known}, or end with / for PNG frames")
    return suffix


def _check_recipe(note: ClipNote) -> None:
    if note.recipe is not None and not isinstance(note.recipe, dict):
        raise ValueError(f"`recipe` must be a dict or None, got {type(note.recipe).__name__}")
    try:
        num_chars = len(note.to_json())
    except (TypeError, ValueError) as error:
        raise ValueError(f"`recipe` must hold only what JSON can: {error}") from error
    if num_chars > _MAX_NOTE_CHARS:
        raise ValueError(f"`recipe` must be at most {_MAX_NOTE_CHARS} characters of JSON, got {num_chars}")


def _read(path: str | os.PathLike[str], read: Callable[[ClipFormat, Path], _Answer]) -> _Answer:
    """Find the file and its format; every way in which a decoder refuses a file becomes one ValueError."""
    file = Path(path)
    clip_format = FORMATS["" if file.is_dir() else _suffix_of(path)]
    if not file.exists():
        raise ValueError(f"clip {file} does not exist")
    try:
        return read(clip_format, file)
    except Exception as error:  # decoders meet damaged files with a dozen unrelated types
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot read clip {file}: {message}") from error
