"""Clips written and read again: frames, rate and recipe in every format."""

import hashlib
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from tests.clips import ALL, LOSSLESS, moving_disc, noise_clip
from videogen.io import frames_to_uint8, read_clip, read_recipe, rounded_to_uint8, write_clip

NASTY = {
    "prompt": "a \"quoted\" 'cat'; #1 = 100%\\ \n new line\r\ttab [STREAM] ;FFMETADATA1\ncomment=no",
    "chinese": "一只红色的猫在跳舞",
    "emoji": "🐑🚀❤️‍🔥",
    "long": "very " * 2_000 + "long",
    "long_emoji": "🐑" * 10_000,
    "controls": "".join(map(chr, range(32))) + "\x7f\u2028\ud800",
    "nested": {"seed": 2**63, "guidance_scale": 7.5, "none": None, "flags": [True, False], "": ""},
}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def ffmpeg_describes(path: Path) -> str:
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    return subprocess.run([ffmpeg, "-i", str(path)], capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize(
    "frames", [noise_clip(), moving_disc(3, 15, 17), noise_clip(1)], ids=["noise", "odd", "one"]
)
def test_lossless_round_trip(name: str, frames: np.ndarray, tmp_path: Path) -> None:
    written = write_clip(frames, tmp_path / name, fps=12.5, recipe={"seed": 1})
    clip = read_clip(written.path)
    assert clip.frames.dtype == np.uint8
    np.testing.assert_array_equal(clip.frames, frames)
    assert (clip.fps, clip.recipe) == (12.5, {"seed": 1})
    assert (written.num_frames, written.height, written.width) == frames.shape[:3]
    assert written.padded is None
    files = list(written.path.iterdir()) if written.path.is_dir() else [written.path]
    assert written.num_bytes == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("order", [[0, 0, 0, 1, 1, 2, 0, 0], [0] * 6], ids=["runs", "frozen"])
def test_equal_frames_are_all_read(name: str, order: list[int], tmp_path: Path) -> None:
    frames = moving_disc(3)[order]
    write_clip(frames, tmp_path / name, fps=Fraction(24_000, 1001))
    clip = read_clip(tmp_path / name)
    assert clip.frames.shape == frames.shape
    assert psnr(clip.frames, frames) > 30
    assert clip.fps == 24_000 / 1001


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("fps", [1 / 3, 8, 23.976, 24_000 / 1001, 29.97, 50])
def test_frame_rate_is_exact(name: str, fps: float, tmp_path: Path) -> None:
    written = write_clip(moving_disc(7, 16, 16), tmp_path / name, fps=fps)
    clip = read_clip(tmp_path / name)
    assert clip.fps == written.fps == fps
    assert len(clip.frames) == 7


@pytest.mark.parametrize(
    "fps",
    [
        *(0.1, Fraction(1, 3), 1, 1.001, Fraction(1000, 1001), 7.123456, Fraction(24_000, 1001), 59.94),
        *(119.88, Fraction(120_000, 1001), 239.76, Fraction(240_000, 1001), 239.999, 240),
        *(Fraction(1_000_999, 1_001_000), Fraction(1_001_000, 4171)),
    ],
)
@pytest.mark.parametrize("num_frames", [1, 7])
def test_mp4_has_the_rate_that_was_asked_for(fps: float | Fraction, num_frames: int, tmp_path: Path) -> None:
    path, rate = tmp_path / "clip.mp4", Fraction(str(fps))
    write_clip(moving_disc(num_frames, 16, 16), path, fps=fps)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate and stream.time_base is not None
        times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        seconds = [(time - times[0]) * stream.time_base for time in times]
    assert seconds == [idx / rate for idx in range(num_frames)]
    assert read_clip(path).fps == float(rate)


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        *((np.float32(24), 24.0), (np.float32(23.976), 23.976), (np.float16(24), 24.0)),
        *((np.float64(12.5), 12.5), (np.int64(25), 25.0), (np.uint8(30), 30.0)),
    ],
)
def test_a_rate_may_be_of_numpy(fps: float, rate: float, tmp_path: Path) -> None:
    for name in ALL:
        assert write_clip(moving_disc(3, 16, 16), tmp_path / name, fps=fps).fps == rate
        assert read_clip(tmp_path / name).fps == rate


@pytest.mark.parametrize("name", ALL)
def test_nasty_recipe_comes_back(name: str, tmp_path: Path) -> None:
    write_clip(moving_disc(2, 16, 16), tmp_path / name, recipe=NASTY)
    assert read_recipe(tmp_path / name) == NASTY
    assert read_clip(tmp_path / name).recipe == NASTY


@pytest.mark.parametrize("name", ALL)
def test_longest_recipe_comes_back(name: str, tmp_path: Path) -> None:
    recipe = {"prompt": "=" * 999_900}
    write_clip(moving_disc(2, 16, 16), tmp_path / name, recipe=recipe)
    assert read_recipe(tmp_path / name) == recipe


@pytest.mark.parametrize("name", ALL)
def test_no_recipe_is_none(name: str, tmp_path: Path) -> None:
    write_clip(moving_disc(2, 16, 16), tmp_path / name)
    assert read_recipe(tmp_path / name) is None
    assert read_clip(tmp_path / name).recipe is None


@pytest.mark.parametrize("name", [name for name in ALL if name != "clip"])
def test_same_clip_same_bytes(name: str, tmp_path: Path) -> None:
    digests = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = write_clip(moving_disc(noise=3), tmp_path / folder / name, recipe={"seed": 1}).path
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_mp4_plays_in_a_browser(tmp_path: Path) -> None:
    path = write_clip(moving_disc(), tmp_path / "clip.mp4", fps=Fraction(30_000, 1001)).path
    text = ffmpeg_describes(path)
    assert re.search(
        r"Video: h264 \(High\) \(avc1.*yuv420p\(tv, bt709, progressive\), 64x64.* 29\.97 fps", text
    )
    data = path.read_bytes()
    assert data[4:8] == b"ftyp"
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_mp4_is_close_and_crf_matters(tmp_path: Path) -> None:
    frames = moving_disc(height=128, width=128)
    write_clip(frames, tmp_path / "fine.mp4")
    write_clip(frames, tmp_path / "coarse.mp4", crf=40)
    fine, coarse = (psnr(read_clip(tmp_path / name).frames, frames) for name in ("fine.mp4", "coarse.mp4"))
    assert fine > 36
    assert coarse < fine - 5


def test_mp4_keeps_colours(tmp_path: Path) -> None:
    palette = np.array(
        [[215, 35, 40], [45, 175, 65], [45, 85, 230], [245, 220, 45], [0, 0, 0], [255, 255, 255]]
    )
    frames = np.broadcast_to(palette.repeat(16, axis=0)[None, None], (4, 32, 96, 3)).astype(np.uint8)
    write_clip(frames, tmp_path / "clip.mp4")
    middles = read_clip(tmp_path / "clip.mp4").frames[:, :, 8::16].astype(int)
    assert np.abs(middles - palette).max() <= 4


@pytest.mark.parametrize(
    ("height", "width", "padded"),
    [(31, 47, (32, 48)), (31, 48, (32, 48)), (16, 17, (16, 18)), (1, 1, (2, 2))],
)
def test_mp4_pads_odd_sizes_with_the_edge(
    height: int, width: int, padded: tuple[int, int], tmp_path: Path
) -> None:
    frames = np.full((3, height, width, 3), 200, np.uint8)
    written = write_clip(frames, tmp_path / "clip.mp4")
    assert (written.height, written.width, written.padded) == (height, width, padded)
    clip = read_clip(tmp_path / "clip.mp4")
    assert clip.frames.shape == (3, *padded, 3)
    assert np.abs(clip.frames.astype(int) - 200).max() <= 3


def test_mp4_of_one_frame(tmp_path: Path) -> None:
    write_clip(moving_disc(1), tmp_path / "clip.mp4", fps=5)
    clip = read_clip(tmp_path / "clip.mp4")
    assert (len(clip.frames), clip.fps) == (1, 5.0)


def test_mp4_with_uneven_times_is_read_frame_by_frame(tmp_path: Path) -> None:
    write_clip(moving_disc(6), tmp_path / "even.mp4", fps=10)
    select = ["-vf", "select='not(eq(n,2)+eq(n,3))'", "-fps_mode", "vfr"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "even.mp4", *select]
    subprocess.run([*command, tmp_path / "uneven.mp4"], check=True)
    clip = read_clip(tmp_path / "uneven.mp4")
    assert len(clip.frames) == 4  # at 0, 0.1, 0.4 and 0.5 s
    assert clip.fps == pytest.approx(3 / 0.5)


@pytest.mark.parametrize(
    "name", ["it's 100% - a=b;c#d.mp4", "-i.mp4", "frame_%03d.mp4", "电影 🐑.mp4", "x:y.mp4"]
)
def test_mp4_with_an_awkward_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(moving_disc(2, 16, 16), name, recipe={"seed": 1})
    assert os.listdir() == [name]
    assert read_clip(name).recipe == {"seed": 1}


def test_gif_with_few_colours_is_exact(tmp_path: Path) -> None:
    write_clip(moving_disc(), tmp_path / "clip.gif")
    np.testing.assert_array_equal(read_clip(tmp_path / "clip.gif").frames, moving_disc())


def test_gif_with_few_colours_in_each_frame_is_exact(tmp_path: Path) -> None:
    frames = noise_clip(6, 12, 20)  # 240 colours a frame, 1440 in all
    write_clip(frames, tmp_path / "clip.gif")
    np.testing.assert_array_equal(read_clip(tmp_path / "clip.gif").frames, frames)


@pytest.mark.parametrize("size", [64, 160])
def test_gif_with_many_colours_is_close(size: int, tmp_path: Path) -> None:
    frames = moving_disc(3, size, size, noise=2)
    write_clip(frames, tmp_path / "clip.gif")
    assert psnr(read_clip(tmp_path / "clip.gif").frames, frames) > 40


def test_gif_times_do_not_drift(tmp_path: Path) -> None:
    write_clip(moving_disc(16), tmp_path / "clip.gif", fps=8)  # 125 ms a frame, and a GIF counts in 10 ms
    with Image.open(tmp_path / "clip.gif") as image:
        durations = []
        for idx in range(16):
            image.seek(idx)
            durations.append(image.info["duration"])
    assert sum(durations) == 2000
    assert set(durations) == {120, 130}


@pytest.mark.parametrize(("name", "forever", "once"), [("a.gif", 0, None), ("a.webp", 0, 1), ("a.png", 0, 1)])
def test_loop(name: str, forever: int, once: int | None, tmp_path: Path) -> None:
    for loop, expected in ((True, forever), (False, once)):
        write_clip(moving_disc(3), tmp_path / name, loop=loop)
        with Image.open(tmp_path / name) as image:
            assert image.info.get("loop") == expected


def test_floats_are_rounded(tmp_path: Path) -> None:
    frames = noise_clip(2)
    for dtype in (np.float32, np.float64):
        write_clip((frames / 255).astype(dtype), tmp_path / "clip.npz")
        np.testing.assert_array_equal(read_clip(tmp_path / "clip.npz").frames, frames)


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_clip(noise_clip(5), tmp_path / "clip")
    write_clip(noise_clip(2), f"{tmp_path}/clip/", recipe={"seed": 2})
    assert sorted(os.listdir(tmp_path / "clip")) == ["frame_0000.png", "frame_0001.png", "recipe.json"]
    assert os.listdir(tmp_path) == ["clip"]
    assert json.loads((tmp_path / "clip/recipe.json").read_text())["recipe"] == {"seed": 2}


def test_files_of_other_origin(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in moving_disc(3)]
    first, rest = images[0], images[1:]
    first.save(
        tmp_path / "a.gif", save_all=True, append_images=rest, duration=200, comment=b"made \xff elsewhere"
    )
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest, duration=200, lossless=True)
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, duration=200)
    for name in ("a.gif", "a.webp", "a.png"):
        clip = read_clip(tmp_path / name)
        np.testing.assert_array_equal(clip.frames, moving_disc(3))
        assert (clip.fps, clip.recipe, read_recipe(tmp_path / name)) == (5.0, None, None)
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert not read_clip(tmp_path / "clear.png").frames.any()


def test_retimed_file_gives_its_new_rate(tmp_path: Path) -> None:
    write_clip(moving_disc(4), tmp_path / "a.gif", fps=10, recipe={"seed": 1})
    with Image.open(tmp_path / "a.gif") as image:
        image.save(tmp_path / "b.gif", save_all=True, duration=200, comment=image.info["comment"])
    clip = read_clip(tmp_path / "b.gif")
    assert (len(clip.frames), clip.fps, clip.recipe) == (4, 5.0, {"seed": 1})


def test_import_is_light() -> None:
    code = (
        "import sys, videogen.io; print({'PIL', 'imageio', 'imageio_ffmpeg', 'torch'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(
    "name", [f"{start}{name}" for start in ("10:30 ", "http:", "take:1/") for name in ALL]
)
def test_a_colon_in_a_relative_path_begins_no_protocol(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("take:1").mkdir()
    written = write_clip(moving_disc(3), name, recipe={"seed": 1})
    assert written.path.exists()
    assert len(read_clip(name).frames) == 3
    assert read_recipe(name) == {"seed": 1}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_a_tensor_has_its_channels_before_the_rows(dtype: torch.dtype) -> None:
    levels = torch.randint(0, 256, (2, 5, 7, 3), generator=torch.Generator().manual_seed(0))
    frames = levels.byte() if dtype == torch.uint8 else (levels / 255).to(dtype)
    expected = frames_to_uint8(frames.numpy() if dtype != torch.bfloat16 else frames.float().numpy())
    assert np.array_equal(frames_to_uint8(frames.permute(0, 3, 1, 2)), expected)
    with pytest.raises(ValueError, match=r"a tensor \(F, 3, H, W\), got \(2, 5, 7, 3\)"):
        frames_to_uint8(frames)


@pytest.mark.filterwarnings("error")
def test_floats_are_rounded_to_the_nearest_level() -> None:
    halves = (torch.arange(255) + 0.5) / 255
    values = torch.cat([halves, torch.rand(1000, generator=torch.Generator().manual_seed(0))])
    expected = (values * 255).round().byte().numpy()
    for dtype in (np.float32, np.float64):
        assert np.array_equal(rounded_to_uint8(values.numpy().astype(dtype)), expected)
    frames = np.full((2, 1, 1, 3), [0.5, -1, 2], np.float32)
    frames[1] = [np.nan, np.inf, -np.inf]
    assert rounded_to_uint8(frames).reshape(2, 3).tolist() == [[128, 0, 255], [0, 255, 0]]
