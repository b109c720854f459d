"""Makes a folder of artwork for the world `emoji` out of packages of npm.

    python -m videogen.data.emoji.fetch FOLDER

downloads them with `npm pack` (740 MB) and leaves a folder of 40 MB. What is animated is kept, in one skin
tone and without the variants of gender and hair, at 96x96 pixels and 8 frames a second. The artwork is
Microsoft's Fluent Emoji and the packages are LobeHub's, both under the MIT License, as are emojibase-data
(the names) and emojilib (the keywords); keep the notice that is written beside the artwork when you pass it
on.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from videogen.data.emoji.artwork import NUM_TICKS, SPRITE_SIZE, TICK_MS

ARTWORK_PACKAGES = tuple(f"@lobehub/fluent-emoji-anim-{part}@1.0.0" for part in (1, 2, 3, 4))
NAMES_PACKAGE = "emojibase-data@17.0.0"
KEYWORDS_PACKAGE = "emojilib@4.0.3"

_VARIANT = re.compile("1f3f[b-f]|264[02]|1f9b[0-3]")
"""Code points of skin tones, of gender signs and of hair."""

_WORDS = re.compile("[a-z0-9' -]+", re.IGNORECASE)

_NOTICE = """Artwork: Fluent Emoji, Copyright (c) Microsoft Corporation, MIT License; distributed in the npm
packages @lobehub/fluent-emoji-anim-1 to -4 (Copyright (c) LobeHub, MIT License), here resized and reduced in
frames.
Names and groups: emojibase-data (MIT). Keywords: emojilib (MIT).
"""


@dataclass(frozen=True)
class _Names:
    """What emojibase-data and emojilib say, by code points without variation selectors."""

    entries: dict[str, dict[str, Any]]
    groups: list[str]
    keywords: dict[str, list[str]]

    def row(self, code: str) -> dict[str, Any] | None:
        """The line of `captions.jsonl` for an artwork; None if it has no name."""
        plain = _without_selectors(code)
        if plain not in self.entries or "group" not in self.entries[plain]:
            return None
        entry = self.entries[plain]
        name = entry["label"]
        words = [word.replace("_", " ") for word in self.keywords.get(plain, [])] + entry.get("tags", [])
        keywords = [word for word in dict.fromkeys(words) if word != name and _WORDS.fullmatch(word)]
        return {
            "file": f"clips/{code}.webp",
            "name": name,
            "keywords": keywords,
            "group": self.groups[entry["group"]],
        }


def download(folder: Path) -> None:
    """Put the packages into a folder, with npm.

    Raises:
        ValueError: If npm is not installed, or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            "npm is not installed: install Node.js, or get the packages elsewhere with `npm pack "
            f"{' '.join((*ARTWORK_PACKAGES, NAMES_PACKAGE, KEYWORDS_PACKAGE))}` and pass their folder "
            "as `--packages`"
        )
    for package in tqdm((*ARTWORK_PACKAGES, NAMES_PACKAGE, KEYWORDS_PACKAGE), desc="packages"):
        command = [npm, "pack", "--silent", package]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if run.returncode:
            raise ValueError(f"`npm pack {package}` failed: {run.stderr.strip()}")


def convert(packages: Path, folder: Path) -> int:
    """Make a folder of artwork out of a folder of packages; returns the number of subjects.

    The list of subjects is written last, so that a folder that has one is whole.

    Raises:
        ValueError: If a package is missing, or holds no animation that has a name.
    """
    paths = {
        package: _find(packages, package) for package in (*ARTWORK_PACKAGES, NAMES_PACKAGE, KEYWORDS_PACKAGE)
    }
    names = _read_names(paths[NAMES_PACKAGE], paths[KEYWORDS_PACKAGE])
    listing = folder / "captions.jsonl"
    listing.unlink(missing_ok=True)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for package in ARTWORK_PACKAGES:
        for code, picture in tqdm(_animations(paths[package]), desc=package, unit=" subjects"):
            row = names.row(code)
            if row is not None:
                _write_loop(picture, folder / row["file"])
                rows.append(row)
    if not rows:
        raise ValueError(f"the packages in {packages} hold no animation that has a name")
    (folder / "LICENSE").write_text(_NOTICE, encoding="utf-8")
    lines = (json.dumps(row, ensure_ascii=False) for row in sorted(rows, key=lambda row: row["file"]))
    listing.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(rows)


def _find(packages: Path, package: str) -> Path:
    """Where `npm pack` put a package."""
    path = packages / f"{package.removeprefix('@').replace('/', '-').replace('@', '-')}.tgz"
    if not path.is_file():
        raise ValueError(f"{path} is missing: `npm pack {package}` makes it")
    return path


def _read_names(names: Path, keywords: Path) -> _Names:
    with tarfile.open(names) as archive:
        entries = json.load(_member(archive, "package/en/data.json"))
        messages = json.load(_member(archive, "package/en/messages.json"))
    with tarfile.open(keywords) as archive:
        words = json.load(_member(archive, "package/dist/emoji-en-US.json"))
    return _Names(
        {_without_selectors(entry["hexcode"].lower()): entry for entry in entries},
        [group["message"] for group in sorted(messages["groups"], key=lambda group: group["order"])],
        {
            _without_selectors("-".join(f"{ord(sign):x}" for sign in emoji)): found
            for emoji, found in words.items()
        },
    )


def _member(archive: tarfile.TarFile, name: str) -> io.BytesIO:
    member = archive.extractfile(name)
    assert member is not None
    return io.BytesIO(member.read())


def _without_selectors(code: str) -> str:
    return code.replace("-fe0f", "")


def _animations(package: Path) -> Iterator[tuple[str, Image.Image]]:
    """The code points and the animations of one package, but for variants."""
    with tarfile.open(package) as archive:
        for member in archive:
            code = Path(member.name).stem
            if member.name.endswith(".webp") and not _VARIANT.search(code):
                with Image.open(_member(archive, member.name)) as picture:
                    if getattr(picture, "n_frames", 1) > 1:
                        yield code, picture


def _write_loop(picture: Image.Image, path: Path) -> None:
    """Write an animation at as many moments as a loop has frames; it is made to last as long as all others."""
    frames, ends = [], []
    for frame_idx in range(getattr(picture, "n_frames", 1)):
        picture.seek(frame_idx)
        frame = picture.convert("RGBA").resize((SPRITE_SIZE, SPRITE_SIZE), Image.Resampling.LANCZOS)
        frames.append(frame)
        ends.append(picture.info["duration"] + (ends[-1] if ends else 0))
    moments = np.arange(NUM_TICKS) * ends[-1] / NUM_TICKS
    first, *others = (frames[frame_idx] for frame_idx in np.searchsorted(ends, moments, side="right"))
    first.save(path, save_all=True, append_images=others, duration=TICK_MS, loop=0, quality=80, method=4)


def main() -> None:
    """Download the packages, unless they are there, and make the folder."""
    parser = argparse.ArgumentParser(prog="python -m videogen.data.emoji.fetch", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to put the artwork")
    parser.add_argument("--packages", type=Path, help="a folder with the packages, as `npm pack` makes them")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            packages = args.packages or Path(temporary)
            if args.packages is None:
                download(packages)
            count = convert(packages, args.folder)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{count} subjects in {args.folder}")


if __name__ == "__main__":
    main()
