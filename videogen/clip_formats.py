"""How each file format holds a clip: its frames, its rate, and a note with the recipe."""

import itertools
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_FPS = 8.0

_OPAQUE = 255
_MAX_PALETTE_SIDE = 128
_EXIF_IMAGE_DESCRIPTION = 0x010E


@dataclass(frozen=True)
class Clip:
    """A clip read from a file.

    Attributes:
        frames: (F, H, W, 3) uint8, every frame that the file shows; transparent pixels are black.
        fps: frames per second; in a file of other origin the mean rate, and `DEFAULT_FPS` if it states none.
        recipe: what the clip was made with, or None where the file carries no recipe.
    """

    frames: np.ndarray
    fps: float
    recipe: dict[str, Any] | None


@dataclass(frozen=True)
class ClipNote:
    """What lies in a file beside the pictures: the recipe, and the timing that some formats round."""

    fps: Fraction
    num_frames: int
    recipe: dict[str, Any] | None

    def to_json(self, indent: int | None = None) -> str:
        """The note as JSON in ASCII, which neither a format's text encoding nor a lone surrogate can harm."""
        timing = {"videogen_clip": 1, "fps": str(self.fps), "num_frames": self.num_frames}
        return json.dumps({**timing, "recipe": self.recipe}, allow_nan=False, indent=indent)


@dataclass(frozen=True)
class ClipFormat:
    """The three functions of one format; the two that read may raise whatever their decoder raises.

    Attributes:
        write: takes pixels (F, H, W, 3) uint8, the file to create, the note, the H.264 quality, and whether
            the clip plays without end.
        read: decodes the whole file.
        read_recipe: decodes no frame; None where there is no recipe of ours.
    """

    write: Callable[[np.ndarray, Path, ClipNote, int, bool], None]
    read: Callable[[Path], Clip]
    read_recipe: Callable[[Path], dict[str, Any] | None]


def _parse_note(text: str) -> ClipNote:
    try:
        note = json.loads(text)
        return ClipNote(Fraction(note["fps"]), note["num_frames"], note["recipe"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"its recipe is broken: {error}") from error


def _parse_comment(text: str) -> ClipNote | None:
    """Parse the comment of a file, which is somebody else's unless it begins as ours do."""
    return _parse_note(text) if text.startswith('{"videogen_clip"') else None


def _ffmpeg(arguments: list[str], pixels: np.ndarray | None = None) -> bytes:
    """Run ffmpeg, with pixels on its standard input if there are any, and return its standard output."""
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    data = b"" if pixels is None else pixels.reshape(-1).data
    result = subprocess.run(command, input=data, capture_output=True, check=False)
    if result.returncode:
        messages = result.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError(messages[-1] if messages else f"ffmpeg ended with status {result.returncode}")
    return result.stdout


def _write_mp4(pixels: np.ndarray, file: Path, note: ClipNote, crf: int, loop: bool) -> None:
    height, width = pixels.shape[1:3]
    pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    size = f"{width + width % 2}x{height + height % 2}"
    to_yuv = (
        "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p,"
        "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    )
    with tempfile.TemporaryDirectory() as folder:
        # In a file, for a recipe may be longer than a command line may be.
        metadata = Path(folder, "metadata.txt")
        comment = re.sub(r"([=;#\\])", r"\\\1", note.to_json())
        metadata.write_text(f";FFMETADATA1\ncomment={comment}\n", encoding="ascii")
        arguments = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", size, "-framerate", str(note.fps)]
        arguments += ["-i", "pipe:0", "-f", "ffmetadata", "-i", str(metadata)]
        # The rate a second time: ffmpeg takes that of its input for the nearest usual one.
        arguments += ["-map", "0:v", "-map_metadata", "1", "-vf", to_yuv, "-r", str(note.fps)]
        arguments += ["-c:v", "libx264", "-preset", "medium", "-crf", str(crf)]
        # x264's output depends on its number of threads, which by default follows the number of cores.
        arguments += ["-x264-params", "threads=4:lookahead-threads=1", "-movflags", "+faststart"]
        _ffmpeg([*arguments, "-f", "mp4", f"file:{file.absolute()}"], pixels)


def _decode_each(path: Path, pixel_format: str) -> tuple[np.ndarray, list[int], Fraction]:
    """Every frame once, as stored: none is repeated or dropped to even out the rate.

    Returns:
        `(F, H, W, C)` uint8; when each frame starts, and the last one ends, in ticks; the seconds of a tick.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder, "index.txt")
        each = ["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base:v", "demux"]
        each += ["-pix_fmt", pixel_format, "-c:v", "rawvideo"]
        each += ["-sws_flags", "bicubic+accurate_rnd+full_chroma_int"]
        arguments = ["-xerror", "-i", f"file:{path.absolute()}", *each, "-f", "framecrc", f"file:{index}"]
        raw = _ffmpeg([*arguments, *each, "-f", "rawvideo", "pipe:1"])
        text = index.read_text(encoding="utf-8")
    header = dict(re.findall(r"^#(\w+) 0: (.*)$", text, re.MULTILINE))
    width, height = map(int, header["dimensions"].split("x"))
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    frames = np.frombuffer(raw, np.uint8).reshape(len(rows), height, width, -1).copy()
    starts = [int(row[2]) for row in rows]
    return frames, [*starts, starts[-1] + int(rows[-1][3])], Fraction(header["tb"])


def _read_mp4(path: Path) -> Clip:
    frames, times, tick = _decode_each(path, "rgb24")
    count = max(1, len(frames) - 1)  # what the last one lasts, no format is sure of
    return Clip(frames, float(count / ((times[count] - times[0]) * tick)), _read_mp4_recipe(path))


def _read_mp4_recipe(path: Path) -> dict[str, Any] | None:
    text = _ffmpeg(["-i", f"file:{path.absolute()}", "-f", "ffmetadata", "pipe:1"]).decode("utf-8", "replace")
    comment = re.search(r"^comment=((?:[^\\\n]|\\.)*)", text, re.MULTILINE | re.DOTALL)
    note = _parse_comment(re.sub(r"\\(.)", r"\1", comment[1], flags=re.DOTALL)) if comment else None
    return note.recipe if note else None


def _save_pictures(
    images: "list[Image.Image]", file: Path, note: ClipNote, unit: int, **options: Any
) -> None:
    """Save with Pillow; frame times are rounded to units of milliseconds, so that no error adds up."""
    times = [round(idx * 1000 / note.fps / unit) * unit for idx in range(len(images) + 1)]
    durations = [end - start for start, end in itertools.pairwise(times)]
    images[0].save(file, save_all=True, append_images=images[1:], duration=durations, **options)


def _write_gif(pixels: np.ndarray, file: Path, note: ClipNote, crf: int, loop: bool) -> None:
    from PIL import Image

    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    colours = red << 16 | green << 8 | blue  # (F, H, W)

    def exact(packed: np.ndarray, palette: np.ndarray) -> Image.Image:
        image = Image.fromarray(np.searchsorted(palette, packed).astype(np.uint8)).convert("P")
        image.putpalette(palette.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())
        return image

    def nearest(frame: np.ndarray) -> Image.Image:
        # Maximum coverage keeps the rare colours that median cut gives up for the noise of a background.
        step = math.ceil(max(frame.shape) / _MAX_PALETTE_SIDE)
        sample = Image.fromarray(np.ascontiguousarray(frame[::step, ::step]))
        sample = sample.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
        if step == 1:
            return sample
        return Image.fromarray(frame).quantize(palette=sample, dither=Image.Dither.NONE)

    palettes = [np.unique(packed) for packed in colours]
    common = np.unique(np.concatenate(palettes))
    if len(common) <= 256:
        palettes = [common] * len(palettes)
    images = [
        exact(packed, palette) if len(palette) <= 256 else nearest(frame)
        for packed, palette, frame in zip(colours, palettes, pixels, strict=True)
    ]
    options = {"loop": 0} if loop else {}
    comment = note.to_json().encode()
    _save_pictures(images, file, note, unit=10, format="GIF", optimize=False, comment=comment, **options)


def _write_webp(pixels: np.ndarray, file: Path, note: ClipNote, crf: int, loop: bool) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[_EXIF_IMAGE_DESCRIPTION] = note.to_json()
    images = [Image.fromarray(frame) for frame in pixels]
    options = {"lossless": True, "method": 4, "loop": 0 if loop else 1, "exif": exif.tobytes()}
    _save_pictures(images, file, note, unit=1, format="WEBP", **options)


def _write_png(pixels: np.ndarray, file: Path, note: ClipNote, crf: int, loop: bool) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    comment = PngInfo()
    comment.add_itxt("Comment", note.to_json(), zip=True)
    images = [Image.fromarray(frame) for frame in pixels]
    _save_pictures(images, file, note, unit=1, format="PNG", loop=0 if loop else 1, pnginfo=comment)


def _comment(image: "Image.Image") -> str:
    """The text in which each picture format keeps our note; "" where there is none."""
    from PIL.PngImagePlugin import PngImageFile

    if isinstance(image, PngImageFile):
        return str(image.text.get("Comment", ""))
    if image.format == "GIF":
        return bytes(image.info.get("comment", b"")).decode("utf-8", "replace")
    return str(image.getexif().get(_EXIF_IMAGE_DESCRIPTION, ""))


def shown_pictures(image: "Image.Image") -> "Iterator[Image.Image]":
    """Each picture of an animation that Pillow has opened, in RGBA, while `image.info` says how it is shown.

    Args:
        image: The animation, or a still picture, which gives itself.
    """
    for idx in range(getattr(image, "n_frames", 1)):
        image.seek(idx)
        yield image.convert("RGBA")


def gif_is_whole(path: Path) -> bool:
    """Whether no block of a GIF is cut off; the byte that ends it may be missing, or others may follow."""
    content = path.read_bytes()

    def byte(place: int) -> int:
        return content[place] if place < len(content) else 0

    def palette_size(flags: int) -> int:
        return 6 << (flags & 7) if flags & 0x80 else 0

    place = 13 + palette_size(byte(10))
    while byte(place) in b"!,":
        # An extension begins with its kind; a picture with its box, its palette, and the size of its codes.
        place += 2 if byte(place) == ord("!") else 11 + palette_size(byte(place + 9))
        while size := byte(place):
            place += 1 + size
        place += 1
    return place <= len(content)


def _read_pictures(path: Path) -> Clip:
    from PIL import Image

    frames, durations = [], []
    with Image.open(path) as image:
        note = _parse_comment(_comment(image))
        for picture in shown_pictures(image):
            black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
            frames.append(np.asarray(Image.alpha_composite(black, picture))[..., :3])
            durations.append(image.info.get("duration", 0))  # ms
    return _clip_of_pictures(np.stack(frames), durations, note)


def _read_gif(path: Path) -> Clip:
    """Through FFmpeg, as Pillow shows pictures that do not fill the screen, or are disposed of, otherwise."""
    from PIL import Image

    durations = []
    with Image.open(path) as image:
        note = _parse_comment(_comment(image))
        for idx in range(getattr(image, "n_frames", 1)):
            image.seek(idx)
            durations.append(image.info.get("duration", 0))  # ms
    if not gif_is_whole(path):
        raise OSError("image file is truncated")
    pictures = _decode_each(path, "rgba")[0]
    # A pixel of a GIF is opaque or transparent.
    return _clip_of_pictures(pictures[..., :3] * (pictures[..., 3:] == _OPAQUE), durations, note)


def _clip_of_pictures(frames: np.ndarray, durations: list[float], note: ClipNote | None) -> Clip:
    """The clip of an animation whose frames last so many milliseconds, 0 where it does not say."""
    total = float(sum(durations))
    if note:
        # An encoder merges equal frames into one that lasts longer; one that is left alone loses its time.
        ends = np.rint(np.cumsum(durations) / 1000 * float(note.fps)).astype(int)
        repeats = np.diff(ends, prepend=0) if total else np.array([note.num_frames])
        if len(repeats) == len(frames) and repeats.min() > 0 and repeats.sum() == note.num_frames:
            return Clip(np.repeat(frames, repeats, axis=0), float(note.fps), note.recipe)
    fps = 1000 * len(frames) / total if total else DEFAULT_FPS
    return Clip(frames, fps, note.recipe if note else None)


def _read_pictures_recipe(path: Path) -> dict[str, Any] | None:
    from PIL import Image

    with Image.open(path) as image:
        note = _parse_comment(_comment(image))
    return note.recipe if note else None


def _write_npz(pixels: np.ndarray, file: Path, note: ClipNote, crf: int, loop: bool) -> None:
    with file.open("wb") as stream:  # to a name, numpy would add a suffix
        np.savez_compressed(stream, frames=pixels, fps=float(note.fps), recipe=json.dumps(note.recipe))


def _read_npz(path: Path) -> Clip:
    with np.load(path, allow_pickle=False) as arrays:
        frames = arrays["frames"]
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"its `frames` are {frames.dtype} {frames.shape}, not (F, H, W, 3) uint8")
        return Clip(frames, float(arrays["fps"]), json.loads(str(arrays["recipe"])))


def _read_npz_recipe(path: Path) -> dict[str, Any] | None:
    with np.load(path, allow_pickle=False) as arrays:
        recipe: dict[str, Any] | None = json.loads(str(arrays["recipe"]))
        return recipe


def _write_folder(pixels: np.ndarray, folder: Path, note: ClipNote, crf: int, loop: bool) -> None:
    from PIL import Image

    for idx, frame in enumerate(pixels):
        Image.fromarray(frame).save(folder / f"frame_{idx:04d}.png")
    (folder / "recipe.json").write_text(note.to_json(indent=2) + "\n", encoding="ascii")


def _read_folder(path: Path) -> Clip:
    from PIL import Image

    files = sorted(path.glob("frame_*.png"), key=lambda file: int(file.stem.removeprefix("frame_")))
    if not files:
        raise ValueError("the folder holds no frame_0000.png, frame_0001.png, ...")
    frames = []
    for file in files:
        with Image.open(file) as image:
            frames.append(np.asarray(image.convert("RGB")))
    note = _read_folder_note(path)
    return Clip(np.stack(frames), float(note.fps) if note else DEFAULT_FPS, note.recipe if note else None)


def _read_folder_note(path: Path) -> ClipNote | None:
    file = path / "recipe.json"
    return _parse_note(file.read_text(encoding="utf-8")) if file.exists() else None


def _read_folder_recipe(path: Path) -> dict[str, Any] | None:
    note = _read_folder_note(path)
    return note.recipe if note else None


# The key is the file's suffix; "" is a folder of PNG frames.
FORMATS = {
    ".mp4": ClipFormat(_write_mp4, _read_mp4, _read_mp4_recipe),
    ".gif": ClipFormat(_write_gif, _read_gif, _read_pictures_recipe),
    ".webp": ClipFormat(_write_webp, _read_pictures, _read_pictures_recipe),
    ".apng": ClipFormat(_write_png, _read_pictures, _read_pictures_recipe),
    ".png": ClipFormat(_write_png, _read_pictures, _read_pictures_recipe),
    ".npz": ClipFormat(_write_npz, _read_npz, _read_npz_recipe),
    "": ClipFormat(_write_folder, _read_folder, _read_folder_recipe),
}
