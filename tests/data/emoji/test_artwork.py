"""Folders of artwork: what is read from them, what is refused and how it is said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.emoji.conftest import NUM_SUBJECTS, RADIUS, disc, make_artwork, save_loop
from videogen.data.emoji.artwork import NUM_TICKS, Artwork, load_artwork


def test_subjects_come_in_the_order_of_their_files(artwork_folder: Path) -> None:
    artwork = Artwork(artwork_folder)
    files = [subject.file for subject in artwork.subjects]
    assert len(artwork) == NUM_SUBJECTS and files == sorted(files)
    assert artwork.subjects[0].name == "ewe" and artwork.subjects[0].keywords == ("animal", "only a")
    assert artwork.index("subject 5") == 5


def test_a_frame_lasts_as_long_as_it_says(artwork_folder: Path) -> None:
    """Two stored frames stand for a loop of 24: 8 of the large disc, 16 of the small one."""
    loop = [np.asarray(frame)[..., 3] for frame in Artwork(artwork_folder).loop(3)]
    taken = [int((alpha > 0).sum()) for alpha in loop]
    assert len(loop) == NUM_TICKS
    assert taken == [taken[0]] * 8 + [taken[-1]] * 16 and taken[0] > 2 * taken[-1]


def test_extent_is_that_of_the_whole_loop(artwork_folder: Path) -> None:
    extent = Artwork(artwork_folder).extent(4)
    assert extent.along == pytest.approx(RADIUS / 48, abs=0.01)
    assert extent.around == pytest.approx(RADIUS / 48, abs=0.02)


def test_levels_are_averages_of_the_artwork(artwork_folder: Path) -> None:
    """At any side, the disc has the same share of the picture and the same colour."""
    levels = Artwork(artwork_folder).levels((96, 48, 17))
    for side, pixels in zip(levels.sides, levels.pixels([5]), strict=True):
        red, green, blue, alpha = (pixels[5, 0].double() / 255).unbind(0)
        assert float(alpha.mean()) == pytest.approx(np.pi * (RADIUS / 96) ** 2, rel=0.03)
        middle = side // 2
        colour = torch.stack([red, green, blue])[:, middle, middle] * 255
        assert colour.round().tolist() == [200, 100, 20]
        assert bool((red <= alpha + 0.01).all())  # colours are times alpha


def test_only_what_is_asked_for_is_decoded(tmp_path: Path) -> None:
    folder = make_artwork(tmp_path / "emoji", 3)
    artwork = Artwork(folder)
    (folder / artwork.subjects[2].file).write_bytes(b"no picture")
    artwork.levels((16,)).pixels([0, 1])
    with pytest.raises(ValueError, match=r"1f402.webp cannot be read as a picture"):
        artwork.levels((16,)).pixels([2])


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no artwork in .*nowhere.*videogen.data.emoji.fetch .*nowhere"):
        load_artwork(tmp_path / "nowhere")


def test_a_partial_folder_is_refused_at_once(tmp_path: Path) -> None:
    folder = make_artwork(tmp_path / "emoji", 4)
    (folder / "clips/1f401.webp").unlink()
    (folder / "clips/1f403.webp").unlink()
    with pytest.raises(ValueError, match=r"2 of the 4 artworks .* missing.*clips/1f40[13].webp.*emoji.fetch"):
        Artwork(folder)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "lists no subject"),
        ("{", "line 1 of .*captions.jsonl is not JSON"),
        ('{"file": "clips/1f400.webp", "name": "ewe"}', "line 1 .*must have .*`keywords`"),
        ("[1]", "line 1 of"),
        (
            '{"file": 3, "name": "ewe", "keywords": [], "group": ""}',
            "line 1 of .*must have the strings `file`",
        ),
        (
            '{"file": "clips/1f400.webp", "name": "ewe", "keywords": "wool", "group": ""}',
            "line 1 of .*keywords",
        ),
    ],
)
def test_a_broken_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    folder = make_artwork(tmp_path / "emoji", 1)
    (folder / "captions.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        Artwork(folder)


def test_two_subjects_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = make_artwork(tmp_path / "emoji", 2)
    row = {"file": "clips/1f400.webp", "name": "ewe", "keywords": [], "group": ""}
    (folder / "captions.jsonl").write_text(
        f"{json.dumps(row)}\n{json.dumps(row | {'file': 'clips/1f401.webp'})}"
    )
    with pytest.raises(ValueError, match="'ewe' is listed 2 times"):
        Artwork(folder)


@pytest.mark.parametrize(
    "save, message",
    [
        (lambda path: disc((9, 9, 9)).save(path), "must be animated, got a single frame"),
        (
            lambda path: save_loop(
                [Image.new("RGB", (96, 96), colour) for colour in ("red", "blue")], path, [1500, 1500]
            ),
            "must have transparency",
        ),
        (
            lambda path: save_loop([disc((9, 9, 9), 20, 64), disc((9, 9, 9), 10, 64)], path, [1500, 1500]),
            "must be 96x96 pixels, got 64x64",
        ),
        (
            lambda path: save_loop([disc((9, 9, 9)), disc((9, 9, 9), 9)], path, [500, 500]),
            "3000 ms, got 1000",
        ),
        (
            lambda path: save_loop(
                [Image.new("RGBA", (96, 96), (9, 9, 9, alpha)) for alpha in (1, 2)], path, [1500, 1500]
            ),
            "shows nothing",
        ),
    ],
)
def test_unfit_artwork_is_refused(tmp_path: Path, save: Callable[[Path], None], message: str) -> None:
    folder = make_artwork(tmp_path / "emoji", 1)
    artwork = Artwork(folder)
    save(folder / "clips/1f400.webp")
    with pytest.raises(ValueError, match=f"1f400.webp .*{message}"):
        artwork.loop(0)


def test_an_unknown_subject_is_refused_with_similar_ones(artwork_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"is called 'subject 1': did you mean"):
        Artwork(artwork_folder).index("subject 1")
    with pytest.raises(ValueError, match=r"is called 'griffin'"):
        Artwork(artwork_folder).index("griffin")


def test_the_whole_artwork(shared: Path) -> None:
    folder = shared / "emoji"
    if not folder.is_dir():
        pytest.skip("there is no folder `emoji` in `shared`")
    artwork = load_artwork(folder)
    assert len(artwork) == 624
    for name in ("people hugging", "fountain", "ewe"):
        extent = artwork.extent(artwork.index(name))
        assert 0.5 < extent.along <= 1 and extent.along <= extent.around
