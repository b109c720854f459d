"""A folder of artwork as small as one can be: discs of one colour each, that blink."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NUM_SUBJECTS = 28
RADIUS = 36  # of the discs, in pixels of 48
DISC_COLOUR = (200, 100, 0)


def save_loop(frames: list[Image.Image], path: Path, durations: list[int]) -> None:
    first, *others = frames
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, lossless=True)


def disc(colour: tuple[int, int, int], radius: int = RADIUS, side: int = 96) -> Image.Image:
    steps = np.arange(side) - (side - 1) / 2
    inside = np.hypot(steps, steps[:, None]) < radius
    return Image.fromarray((inside[..., None] * [*colour, 255]).astype(np.uint8))


def make_artwork(folder: Path, num_subjects: int = NUM_SUBJECTS) -> Path:
    """Subjects 0, 1, 2 ... whose blue tells their number; for two of three seconds the disc is smaller."""
    (folder / "clips").mkdir(parents=True)
    rows = []
    for idx in range(num_subjects):
        colour = (*DISC_COLOUR[:2], 4 * idx)
        path = folder / "clips" / f"{0x1F400 + idx:x}.webp"
        save_loop([disc(colour), disc(colour, 24)], path, [1000, 2000])
        name = {0: "ewe", 1: "paw prints", 2: "family: man, boy"}.get(idx, f"subject {idx}")
        keywords = ["animal", f"only {chr(97 + idx)}"]
        rows.append({"file": f"clips/{path.name}", "name": name, "keywords": keywords, "group": "things"})
    lines = [json.dumps(row) for row in reversed(rows)]  # the order of the list does not matter
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def artwork_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artwork(tmp_path_factory.mktemp("artwork") / "emoji")
