"""Clips that cannot be written or read: what is said, and that nothing is left behind."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.clips import ALL, moving_disc, noise_clip
from tests.full_disk import full_disk
from videogen.io import check_output_path, read_clip, read_recipe, write_clip


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("older", [False, True])
def test_full_disk_leaves_nothing_behind(name: str, older: bool, tmp_path: Path) -> None:
    if older:
        write_clip(moving_disc(2), tmp_path / name, recipe={"seed": 1})
    before = sorted(tmp_path.rglob("*"))
    with full_disk(3000), pytest.raises(OSError, match=re.escape(str(tmp_path / name))) as error:
        write_clip(noise_clip(8, 64, 64), tmp_path / name)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    if older:
        assert read_recipe(tmp_path / name) == {"seed": 1}


def test_folders_are_made_and_taken_away_if_nothing_was_written(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with full_disk(3000), pytest.raises(OSError, match="cannot write"):
        write_clip(noise_clip(8, 64, 64), tmp_path / "mine/new/deep/clip.gif")
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    write_clip(moving_disc(2), tmp_path / "mine/new/deep/clip.gif")
    assert len(read_clip(tmp_path / "mine/new/deep/clip.gif").frames) == 2


def test_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(image: Image.Image, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    for name in ("clip.gif", "clip"):
        with pytest.raises(KeyboardInterrupt):
            write_clip(moving_disc(2), tmp_path / name)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_frames_are_an_error(value: float, tmp_path: Path) -> None:
    frames = np.zeros((5, 8, 8, 3), np.float32)
    frames[3:, 2, 2, 1] = value
    with pytest.raises(ValueError, match="first in frame 3"):
        write_clip(frames, tmp_path / "clip.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((1, 2, 8, 8, 3), np.uint8)}, r"\(F, H, W, 3\), got shape \(1, 2, 8, 8, 3\)"),
        ({"frames": np.zeros((2, 8, 8, 4), np.uint8)}, "got shape"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8)}, "got shape"),
        ({"frames": [[1]]}, "numpy array, .*got list"),
        ({"frames": np.zeros((2, 8, 8, 3), np.int64)}, "got int64"),
        ({"frames": np.full((2, 8, 8, 3), -1.0)}, r"\[0, 1\], but frame 0 spans -1 to -1"),
        ({"fps": 0}, "`fps` must be"),
        ({"fps": float("nan")}, "`fps` must be"),
        ({"fps": "24"}, "`fps` must be a number or a Fraction, got str '24'"),
        ({"fps": True}, "`fps` must be a number or a Fraction, got bool True"),
        ({"fps": 60}, r"between 0.1 and 50 in \.gif, got 60"),
        ({"crf": 20}, "`crf` is the quality of an .mp4"),
        ({"crf": 0, "path": "clip.mp4"}, "`crf` must be between 1 and 51"),
        ({"recipe": {"seed": float("nan")}}, "what JSON can"),
        ({"recipe": {"path": Path()}}, "what JSON can"),
        ({"recipe": "a cat"}, "got str"),
        ({"recipe": {"prompt": "x" * 1_000_001}}, "at most 1000000 characters"),
        ({"path": "clip.avi"}, r"unknown suffix '\.avi'.*\.mp4, \.gif, \.webp, \.apng, \.png, \.npz"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = {"frames": moving_disc(2), "path": "clip.gif", **change}
    arguments["path"] = tmp_path / arguments["path"]
    with pytest.raises(ValueError, match=message):
        write_clip(**arguments)
    assert os.listdir(tmp_path) == []


def test_size_that_the_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError), match=re.escape(str(tmp_path / "clip.webp"))):
        write_clip(np.zeros((2, 1, 17_000, 3), np.uint8), tmp_path / "clip.webp")
    assert os.listdir(tmp_path) == []


def test_check_output_path(tmp_path: Path) -> None:
    assert check_output_path(tmp_path / "CLIP.MP4") == tmp_path / "CLIP.MP4"
    assert check_output_path(f"{tmp_path}/v1.5/") == tmp_path / "v1.5"
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.mp4/notes.txt").touch()
    with pytest.raises(ValueError, match="this is a file"):
        check_output_path(tmp_path / "file")
    assert check_output_path(tmp_path / "new/deep/clip.gif") == tmp_path / "new/deep/clip.gif"
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="file is no folder"):
        check_output_path(tmp_path / "file/deep/clip.gif")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ValueError, match="dangling is no folder"):
        check_output_path(tmp_path / "dangling/clip.gif")
    with pytest.raises(ValueError, match="it is a folder"):
        check_output_path(tmp_path / "folder.mp4")
    with pytest.raises(ValueError, match=r"other things, such as notes\.txt"):
        check_output_path(f"{tmp_path}/folder.mp4/")
    for nameless in ("", ".", "./", "/", "..", "a/.."):
        with pytest.raises(ValueError, match="it names no file"):
            check_output_path(nameless)
    with pytest.raises(ValueError, match=r"put a name before \.mp4"):
        check_output_path(tmp_path / ".mp4")
    with pytest.raises(ValueError, match="unknown suffix"):
        check_output_path(tmp_path / "clip.mpeg")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_check_output_path_where_nobody_can_write() -> None:
    with pytest.raises(OSError, match=r"cannot write /proc/clip\.mp4"):
        check_output_path("/proc/clip.mp4")


@pytest.mark.parametrize("read", [read_clip, read_recipe])
def test_missing_and_unknown_files(read, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.mp4 does not exist"):
        read(tmp_path / "missing.mp4")
    (tmp_path / "text.txt").touch()
    with pytest.raises(ValueError, match=r"unknown suffix '\.txt'"):
        read(tmp_path / "text.txt")


@pytest.mark.parametrize("name", [name for name in ALL if name != "clip"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.7, 0.97])
def test_truncated_file_is_an_error(name: str, part: float, tmp_path: Path) -> None:
    path = write_clip(noise_clip(), tmp_path / name, recipe={"seed": 1}).path
    os.truncate(path, int(part * path.stat().st_size))
    with pytest.raises(ValueError, match=re.escape(f"cannot read clip {path}: ")) as error:
        read_clip(path)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ["clip.gif", "clip.webp", "clip.png", "clip.npz"])
@pytest.mark.parametrize("read", [read_clip, read_recipe])
def test_damaged_file_is_read_or_an_error(name: str, read, tmp_path: Path) -> None:
    path = write_clip(moving_disc(2, 16, 16, noise=2), tmp_path / name, recipe={"seed": 1}).path
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(len(data), size=4)] = rng.integers(256, size=4)
        path.write_bytes(damaged.tobytes())
        with suppress(ValueError):  # any other error fails the test
            read(path)


def test_broken_recipe_is_an_error(tmp_path: Path) -> None:
    broken = '{"videogen_clip": 1, "fps": "8", "recipe": {'
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif", comment=broken)
    write_clip(moving_disc(2), tmp_path / "a")
    (tmp_path / "a/recipe.json").write_text(broken)
    for name in ("a.gif", "a"):
        for read in (read_clip, read_recipe):
            with pytest.raises(ValueError, match="its recipe is broken"):
                read(tmp_path / name)


def test_folder_without_recipe(tmp_path: Path) -> None:
    write_clip(noise_clip(), tmp_path / "clip", fps=12)
    (tmp_path / "clip/recipe.json").unlink()
    clip = read_clip(tmp_path / "clip")
    assert (len(clip.frames), clip.fps, clip.recipe) == (5, 8.0, None)
    shutil.rmtree(tmp_path / "clip")
    (tmp_path / "clip").mkdir()
    with pytest.raises(ValueError, match=r"holds no frame_0000\.png"):
        read_clip(tmp_path / "clip")
