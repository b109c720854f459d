"""Discovery of footage: nothing in a folder is overlooked, and what cannot be read is named."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tests.videos import moving_bar, run_ffmpeg, write_audio, write_pictures, write_video
from videogen.data.footage.discovery import describe_ignored, find_footage


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_videos_are_found_at_any_depth_whatever_their_names(tmp_path: Path) -> None:
    names = ("a b.MP4", "deep/er/猫 と 犬.webm", "Zoë.gif", "x.mov", "x.mkv", "x.avi", "x.webp")
    touch(tmp_path, *names)
    assert sorted(find_footage(tmp_path).videos) == sorted(names)


def test_what_is_no_video_is_listed_and_captions_are_set_apart(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.txt", "sub/b.caption", "metadata.jsonl", "sub/metadata.csv")
    touch(tmp_path, "LICENSE", "a.srt", "._a.mp4", ".git/x.mp4")
    found = find_footage(tmp_path)
    assert found.videos == ("a.mp4",)
    assert found.captions == ("a.txt", "sub/b.caption")
    assert found.metadata == ("metadata.jsonl", "sub/metadata.csv")
    assert {item.name: item.reason for item in found.ignored} == {
        ".git": "hidden",
        "._a.mp4": "hidden",
        "LICENSE": "no video",
        "a.srt": "no video",
    }
    assert found.problems == ()


@pytest.mark.parametrize("suffix", ["m2ts", "mts", "mxf", "vob", "asf", "m2v", "dv", "rm", "apng"])
def test_a_suffix_of_cameras_and_studios_is_one_of_a_video(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a.{suffix}", f"B.{suffix.upper()}")
    assert set(find_footage(tmp_path).videos) == {f"a.{suffix}", f"B.{suffix.upper()}"}


def test_without_the_suffix_of_a_video_the_content_decides(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4").rename(tmp_path / "no suffix")
    write_video(tmp_path / "a.mkv").rename(tmp_path / "a.download")
    write_pictures(tmp_path / "animated.png", moving_bar(3), 40)
    write_pictures(tmp_path / "a.webp", moving_bar(3), 40).rename(tmp_path / "animated.jpg")
    run_ffmpeg("-i", str(tmp_path / "no suffix"), "-c", "copy", str(tmp_path / "a.nut"))
    videos = {"no suffix", "a.download", "animated.png", "animated.jpg", "a.nut"}
    Image.fromarray(moving_bar(1)[0]).save(tmp_path / "still.png")
    Image.fromarray(moving_bar(1)[0]).save(tmp_path / "still.bin", "JPEG")
    write_audio(tmp_path / "b.mp4").rename(tmp_path / "sound.m4a")
    (tmp_path / "art.nfo").write_text("a text that FFmpeg would draw\n" * 50)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nno suffix\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile a.nut\n")
    (tmp_path / "cut.part").write_bytes((tmp_path / "no suffix").read_bytes()[:500])
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    found = find_footage(tmp_path)
    assert set(found.videos) == videos
    assert found.problems == ()
    assert {item.name: item.reason for item in found.ignored} == {
        "still.png": "picture",
        "still.bin": "picture",
        "pipe.mp4": "no file",
        **dict.fromkeys(
            ("sound.m4a", "art.nfo", "list.m3u8", "list.ffconcat", "cut.part", "empty"), "no video"
        ),
    }
    assert describe_ignored(found.ignored).startswith("9 files are passed over: 6 no video (")


def test_numbered_pictures_are_one_video_and_others_stay_pictures(tmp_path: Path) -> None:
    for name in [f"shot/frame_{number:04d}.png" for number in range(7, 19)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(moving_bar(1)[0]).save(tmp_path / name)
    content = (tmp_path / "shot/frame_0007.png").read_bytes()
    names = [f"two/a{number}.png" for number in range(9, 22)]  # 9, 10, ...: without leading zeros
    names += [f"two/b-{number:02d}.png" for number in (*range(8), *range(9, 20))]  # one is missing
    names += [f"photo_{number}.png" for number in range(4)] + ["x.png"]
    names += [f"view_{number}.png" for number in range(10)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    touch(tmp_path, *(f"view_{number}.mp4" for number in range(10)))
    found = find_footage(tmp_path)
    assert found.videos[10:] == (
        "shot/frame_[0007-0018].png",
        "two/a[9-21].png",
        "two/b-[00-07].png",
        "two/b-[09-19].png",
    )
    assert describe_ignored(found.ignored) == "15 files are passed over: 15 picture (.png)"


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_what_holds_videos_may_hold_numbered_pictures(tmp_path: Path, suffix: str) -> None:
    for number in range(1000, 1010):
        Image.fromarray(moving_bar(1)[0]).save(tmp_path / f"a{number}.{suffix}")
        write_pictures(tmp_path / f"b{number}.{suffix}", moving_bar(2), 40)
    Image.fromarray(moving_bar(1)[0]).save(tmp_path / f"still.{suffix}")
    (tmp_path / f"broken.{suffix}").write_bytes(b"GIF89a or RIFF")
    found = find_footage(tmp_path)
    moving = tuple(f"b{number}.{suffix}" for number in range(1000, 1010))
    assert found.videos == (*moving, f"broken.{suffix}", f"a[1000-1009].{suffix}")
    assert [(item.name, item.reason) for item in found.ignored] == [(f"still.{suffix}", "picture")]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "here/a.mp4", "elsewhere/b.mp4")
    root = tmp_path / "here"
    (root / "round").symlink_to(root, target_is_directory=True)
    (root / "there").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "self.mp4").symlink_to(root / "self.mp4")
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    found = find_footage(root)
    assert found.videos == ("a.mp4", "there/b.mp4")
    assert [item.name for item in found.ignored] == ["round"]
    reasons = {problem.name: problem.detail for problem in found.problems}
    assert reasons.keys() == {"self.mp4", "gone.mp4"}
    assert "Too many levels of symbolic links" in reasons["self.mp4"]
    assert "No such file" in reasons["gone.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_a_folder_without_permission_is_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "closed/b.mp4")
    (tmp_path / "closed").chmod(0)
    try:
        found = find_footage(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert [problem.name for problem in found.problems] == ["closed"]
    assert "Permission denied" in found.problems[0].detail


def test_a_folder_that_cannot_be_footage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`folder` must be a folder of video files, but .*does not exist"):
        find_footage(tmp_path / "missing")
    touch(tmp_path, "a.mp4", "empty/notes.md")
    with pytest.raises(ValueError, match="is a file"):
        find_footage(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"holds no video file: 1 file is passed over: 1 no video \(\.md\)"):
        find_footage(tmp_path / "empty")


def test_a_name_in_decomposed_letters_keeps_its_bytes(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "Zoë.mp4")
    touch(tmp_path, name)
    assert find_footage(tmp_path).videos == (name,)  # it could not be opened under another
