"""Discovery of footage: nothing in a folder is overlooked, and what cannot be read is named."""

import os
import unicodedata
from pathlib import Path

import pytest

from videogen.data.footage.discovery import find_footage


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
    touch(tmp_path, "a.mp4", "empty/notes.txt")
    with pytest.raises(ValueError, match="is a file"):
        find_footage(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"holds no video file: known suffixes are 3gp avi .* webp"):
        find_footage(tmp_path / "empty")


def test_a_name_in_decomposed_letters_keeps_its_bytes(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "Zoë.mp4")
    touch(tmp_path, name)
    assert find_footage(tmp_path).videos == (name,)  # it could not be opened under another
