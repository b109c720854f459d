"""`videogen prepare`: what is printed, what lands in the folder, and the exit status."""

import os
import signal
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.damaged_footage import EXPECTED, USED, write_damaged_footage
from tests.videos import moving_bar, write_video
from videogen.cli import app
from videogen.data.footage.dataset import load_dataset
from videogen.data.footage.framing import Bucket


def run(*arguments: object) -> Result:
    """Runs `videogen prepare` in this process, in which only mistakes of ours may raise."""
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def error_of(*arguments: object) -> str:
    """The message of a command that fails with one line on stderr."""
    result = run(*arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """A wide and an upright video of two seconds."""
    folder = tmp_path / "footage"
    for seed, size in enumerate([(72, 128), (128, 72)]):
        name = ("a wide one.mp4", "sub/猫.mp4")[seed]
        write_video(folder / name, moving_bar(48, *size, seed))
        (folder / name).with_suffix(".txt").write_text("a red circle moves left")
    return folder


def test_a_dataset_for_the_embedded_model_needs_no_option(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    result = run(footage, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""  # no bar where nobody watches
    assert "2 videos of 4 s give 2 clips of 4 s at 8 fps; 0 give none" in result.stdout
    assert "multiples of 4, and heights and widths" in " ".join(result.stdout.split())
    assert "2 clips encoded, 0 there already" in " ".join(result.stdout.split())
    dataset = load_dataset(out)
    assert [clip.source for clip in dataset.clips] == ["a wide one.mp4", "sub/猫.mp4"]
    assert set(dataset.buckets) == {Bucket(16, 64, 64)}
    assert dataset.latents(0).shape == (16, 4, 8, 8)
    again = run(footage, "--out", out)
    assert "0 clips encoded, 2 there already" in " ".join(again.stdout.split())


def test_options_reach_the_clips(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    result = run(
        *(footage, "--out", out, "--num-frames", 4, "--num-frames", 12, "--size", "64x64", "--fps", 6),
        *("--aspect-buckets", "--dtype", "bfloat16", "--num-workers", 1, "--verbose"),
    )
    assert result.exit_code == 0, result.stderr
    dataset = load_dataset(out)
    assert set(dataset.buckets) == {Bucket(12, 48, 88), Bucket(12, 88, 48)}
    assert dataset.fps == 6
    assert dataset.model["dtype"] == "bfloat16"
    shown = " ".join(result.stdout.split())
    assert "128x72, 48 frames, 2.00 s at 24 fps, h264 yuv420p" in shown
    assert "becomes 12 frames at 6 fps, 88x48" in shown


def test_what_is_dropped_is_a_line_and_the_status_says_partial(footage: Path, tmp_path: Path) -> None:
    (footage / "broken.mp4").touch()
    write_video(footage / "short.mp4", moving_bar(8))
    result = run(footage, "--out", tmp_path / "dataset")
    assert result.exit_code == 3
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert any(line.startswith("broken.mp4") and "dropped: unreadable" in line for line in lines)
    assert any(line.startswith("short.mp4") and "dropped: too short" in line for line in lines)
    assert "Dropped: 1 unreadable, 1 too short" in result.stdout
    shown = " ".join(result.stdout.split())
    assert "--fps 22.6 would keep them all" in shown


def test_of_a_damaged_folder_every_file_is_told_and_the_rest_is_used(tmp_path: Path) -> None:
    folder = write_damaged_footage(tmp_path / "footage")
    out = tmp_path / "dataset"
    result = run(folder, "--out", out, "--num-frames", 8, "--size", "16x16", "--verbose")
    assert result.exit_code == 3
    assert result.stderr == ""
    used = {name for name, expected in EXPECTED.items() if expected == USED}
    assert {clip.source for clip in load_dataset(out).clips} == used
    page = (out / "report.html").read_text()
    assert all(name in page for name in EXPECTED)
    for reason in set(EXPECTED.values()) - {USED}:
        count = list(EXPECTED.values()).count(reason)
        assert f"{count} {reason}" in result.stdout
        assert result.stdout.count(f"dropped: {reason}") == count
    assert "object has no attribute" not in page  # every reason is one of ours, or of the decoder's
    assert "its header names no format of pictures" in page


def test_colons_in_relative_names_numbered_pictures_and_what_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "take:1"
    write_video(tmp_path / "plain.mp4", moving_bar(24, seed=1))
    folder.mkdir()
    (tmp_path / "plain.mp4").rename(folder / "10:30 interview.mp4")
    for idx, frame in enumerate(moving_bar(24, seed=2)):
        (folder / "shot").mkdir(exist_ok=True)
        Image.fromarray(frame).save(folder / "shot" / f"{idx:03d}.png")
    for name in ("LICENSE", "notes.md", ".hidden"):
        (folder / name).write_text("a text")
    monkeypatch.chdir(tmp_path)
    options = ("--num-frames", 8, "--size", "16x16", "--split-scenes", "--picture-fps", 24)
    result = run("take:1", "--out", "out:1", *options, "--verbose")
    assert result.exit_code == 0, result.stdout
    clips = load_dataset(Path("out:1")).clips
    assert {clip.source: clip.end for clip in clips} == {"10:30 interview.mp4": 1, "shot/[000-023].png": 1}
    shown = " ".join(result.stdout.split())
    assert "3 files are passed over: 1 hidden (no suffix), 2 no video (no suffix, .md)" in shown
    assert "1 sequence of numbered pictures is read as videos of 24 frames per second" in shown
    assert "numbered pictures, which state no rate: read at 24 fps" in shown
    again = run("take:1", "--out", "out:1", *options)
    assert "0 clips encoded, 2 there already" in " ".join(again.stdout.split())
    slower = run("take:1", "--out", "out:1", *options[:-1], 12)
    assert "2 videos of 3 s give 3 clips" in " ".join(slower.stdout.split())


def test_mistakes_of_tables_name_the_line_and_second_rows_are_told(footage: Path, tmp_path: Path) -> None:
    table = footage / "metadata.csv"
    table.write_text("file_name,text\na wide one.mp4,a red circle, then a ring\n")
    assert "metadata.csv, line 2: it has 3 cells" in error_of(footage, "--out", tmp_path / "dataset")
    table.write_text("file_name;text\na wide one.mp4;a red circle\n")
    (footage / "metadata.jsonl").write_text('{"file_name": "a wide one.mp4", "text": "a ring"}')
    result = run(footage, "--out", tmp_path / "dataset", "--report-only")
    told = "metadata.jsonl, line 1 is not used: metadata.csv, line 2 gives a wide one.mp4 another caption"
    assert result.exit_code == 0
    assert told in " ".join(result.stdout.split())
    assert told in (tmp_path / "dataset" / "report.html").read_text()


def test_a_report_alone_encodes_nothing(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    assert run(footage, "--out", out, "--report-only").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [".lock", "report.html", "videos"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "64"], "`--size` must be WxH, such as 64x64, got '64'"),
        (["--size", "60x64"], "`width` must be a multiple of 8 for this codec, got 60: use 56 or 64"),
        (["--num-frames", "17"], "`num_frames` must be a multiple of 4 for this codec, got 17: use 16 or 20"),
        (["--fps", "-1"], "`fps` must be between 0.1 and 240"),
        (["--picture-fps", "0"], "`picture_fps` must be between 0.1 and 240"),
        (["--background", "colourful"], "`--background` must be a colour"),
        (["--num-workers", "0"], "`num_workers` must be at least 1, got 0"),
        (["--dtype", "float8"], "`dtype` 'float8' is unknown"),
        (["--model", "no/such/model"], "`model` 'no/such/model' is not a folder"),
    ],
)
def test_a_wrong_option_is_one_line_and_leaves_nothing(
    footage: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    assert message in error_of(footage, "--out", tmp_path / "dataset", *options)
    assert not (tmp_path / "dataset").exists()


def test_a_wrong_folder_is_one_line(footage: Path, tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "missing", "--out", tmp_path / "dataset")
    (tmp_path / "empty").mkdir()
    assert "holds no video file" in error_of(tmp_path / "empty", "--out", tmp_path / "dataset")
    assert "lies in the footage" in error_of(footage, "--out", footage / "dataset")
    (tmp_path / "file").touch()
    assert "which is a file: choose a folder" in error_of(footage, "--out", tmp_path / "file" / "dataset")


def test_an_interrupt_is_one_line_and_the_same_command_finishes(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "dataset"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs of a shell script

    def press_ctrl_c(bar: object, stage: str, done: int, total: int) -> None:
        if (stage, done) == ("encoding", 1):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with monkeypatch.context() as patch:
            patch.setattr("videogen.commands.prepare._Bar.update", press_ctrl_c)
            result = run(footage, "--out", out)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    finished = run(footage, "--out", out)
    assert "1 clip encoded, 1 there already" in " ".join(finished.stdout.split())
