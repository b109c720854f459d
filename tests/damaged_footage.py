"""A folder of footage in which much is damaged or odd, to see what `videogen prepare` makes of it.

    python -m tests.damaged_footage FOLDER
    videogen prepare FOLDER --out DATASET; echo $?    # 3: a dataset, but not of everything

The first command prints what is to be expected of each file.
"""

import os
import sys
from pathlib import Path

import numpy as np

from tests.videos import moving_bar, run_ffmpeg, truncate, write_audio, write_pictures, write_video

USED = "used"

EXPECTED = {
    "good.mp4": USED,
    "matroska with the suffix of a GIF.gif": USED,
    "GIF with the suffix of an MP4.mp4": USED,
    "variable rate.mkv": USED,
    "turned by its rotation flag.mp4": USED,
    "cut off, index last.mp4": "unreadable",
    "cut off, index first.mp4": "unreadable",
    "cut off.mkv": "unreadable",
    "broken moov.mp4": "unreadable",
    "empty.mp4": "unreadable",
    "text.mp4": "unreadable",
    "sound only.mp4": "unreadable",
    "link to itself.mp4": "unreadable",
    "no permission.mp4": USED if os.geteuid() == 0 else "unreadable",  # root may read everything
    "one frame.mp4": "single frame",
    "100000 pixels wide, 1 high.mkv": "extreme shape",
}
"""What becomes of each file: it is used, or the reason for which it is dropped."""


def write_damaged_footage(folder: Path) -> Path:
    """Write the files of `EXPECTED`; those that can be used show different things."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)

    write_video(folder / "good.mp4", moving_bar(48, seed=1))
    matroska = write_video(folder / "a.mkv", moving_bar(48, seed=2))
    matroska.rename(folder / "matroska with the suffix of a GIF.gif")
    pictures = write_pictures(folder / "a.gif", moving_bar(24, seed=3), 80)
    pictures.rename(folder / "GIF with the suffix of an MP4.mp4")
    ticks = [20 * idx if idx < 24 else 480 + 70 * (idx - 24) for idx in range(48)]
    write_video(folder / "variable rate.mkv", moving_bar(48, seed=4), ticks=ticks)
    upright = write_video(folder / "upright.mp4", moving_bar(48, seed=5))
    turned = folder / "turned by its rotation flag.mp4"
    run_ffmpeg("-display_rotation", "90", "-i", str(upright), "-c", "copy", str(turned))
    upright.unlink()

    truncate(write_video(folder / "cut off, index last.mp4", noise), 0.7)
    index_first = folder / "cut off, index first.mp4"
    truncate(write_video(index_first, noise, options={"movflags": "faststart"}), 0.7)
    truncate(write_video(folder / "cut off.mkv", noise), 0.5)
    _break_moov(write_video(folder / "broken moov.mp4", moving_bar(48, seed=6)))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("a text that somebody named so\n" * 20)
    write_audio(folder / "sound only.mp4")
    (folder / "link to itself.mp4").symlink_to("link to itself.mp4")
    write_video(folder / "no permission.mp4", moving_bar(48, seed=7)).chmod(0)
    write_video(folder / "one frame.mp4", moving_bar(1, seed=8))
    wide = moving_bar(16, 1, 100_000, seed=9)
    path = folder / "100000 pixels wide, 1 high.mkv"
    write_video(path, wide, rate=8, codec="ffv1", pixel_format="bgr0")
    return folder


def _break_moov(path: Path) -> None:
    """Overwrite the tables of the index, within boxes whose names and sizes stay."""
    content = bytearray(path.read_bytes())
    start = content.index(b"stbl") + 4
    content[start : start + 200] = bytes(range(200))
    path.write_bytes(content)


def main() -> None:
    """Write the folder that the command line names, and print what is to be expected."""
    write_damaged_footage(Path(sys.argv[1]))
    for name, expected in EXPECTED.items():
        print(f"{name}: {expected}")


if __name__ == "__main__":
    main()
