"""The contact sheet shows the right frames in the right places, under captions of any text."""

from typing import Any

import numpy as np
import pytest

from videogen.contact_sheet import contact_sheet


def numbered_clip(clip_idx: int, num_frames: int = 9, height: int = 20, width: int = 30) -> np.ndarray:
    """Frames of one colour each, which says the clip and the frame, (F, H, W, 3) uint8."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = 10 + clip_idx
    frames[..., 1] = 10 + np.arange(num_frames)[:, None, None]
    return frames


def colours_in_reading_order(sheet: np.ndarray) -> list[tuple[int, int]]:
    """(clip, frame) of every picture on the sheet, row by row."""
    corners = (
        np.argwhere((sheet[1:, 1:, 2] == 0) & (sheet[:-1, 1:, 2] == 255) & (sheet[1:, :-1, 2] == 255)) + 1
    )
    return [(int(sheet[y, x, 0]) - 10, int(sheet[y, x, 1]) - 10) for y, x in corners]


def test_frames_in_reading_order() -> None:
    sheet = contact_sheet([numbered_clip(idx) for idx in range(3)], columns=2, frames_per_clip=3)
    assert sheet.dtype == np.uint8
    assert colours_in_reading_order(sheet) == [
        (0, 0),
        (0, 4),
        (0, 8),
        (1, 0),
        (1, 4),
        (1, 8),
        (2, 0),
        (2, 4),
        (2, 8),
    ]
    assert (sheet[..., 2] == 0).sum() == 9 * 20 * 30  # every picture is whole


def test_short_clip_is_shown_whole() -> None:
    sheet = contact_sheet([numbered_clip(0, 2), numbered_clip(1, 9)], columns=1, frames_per_clip=4)
    assert colours_in_reading_order(sheet) == [(0, 0), (0, 1), (1, 0), (1, 3), (1, 5), (1, 8)]


def test_floats_and_bytes_look_the_same() -> None:
    clip = numbered_clip(0)
    np.testing.assert_array_equal(contact_sheet([clip / 255], columns=1), contact_sheet([clip], columns=1))


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle moves left",
        "two\nlines",
        "一只红色的猫在跳舞" * 30,
        "🐑" * 50,
        "x" * 9999,
        "\ud800",
        "\0",
        "é…",
    ],
)
def test_any_caption_is_drawn_above_the_frames(caption: str) -> None:
    clips = [numbered_clip(idx) for idx in range(2)]
    plain = contact_sheet(clips, columns=2)
    sheet = contact_sheet(clips, columns=2, captions=[caption, ""])
    added = len(sheet) - len(plain)
    assert added in (16, 32, 48)
    np.testing.assert_array_equal(sheet[added + 8 :], plain[8:])
    cell = sheet.shape[1] // 2
    assert (sheet[: added + 8, :cell] < 255).any()
    assert (sheet[: added + 8, cell - 8 :] == 255).all()  # no text runs into the next clip


def test_empty_captions_take_no_room() -> None:
    clips = [numbered_clip(0)]
    np.testing.assert_array_equal(contact_sheet(clips, 1, captions=[""]), contact_sheet(clips, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": []}, "at least one clip"),
        ({"clips": [numbered_clip(0), numbered_clip(1, width=32)]}, r"got \[\(20, 30\), \(20, 32\)\]"),
        ({"captions": ["a", "b"]}, "each of 1 clips, got 2"),
        ({"columns": 0}, "at least 1"),
        ({"frames_per_clip": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contact_sheet(**{"clips": [numbered_clip(0)], "columns": 1, **change})
