"""Inspection: the times of frames where some time stamps are missing, doubled, or far away."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.videos import moving_bar, write_video
from videogen.data.footage.inspection import inspect_video, shown_times

WRONG = "1 of 6 time stamps is missing or out of order, the first that of frame"


def times_of(milliseconds: list[int | None], rate: int = 25) -> tuple[list[float], list[str]]:
    """When each frame is shown, and the last one ends, in milliseconds; and the notes."""
    starts = [None if value is None else Fraction(value, 1000) for value in milliseconds]
    times, notes = shown_times(starts, None, Fraction(rate))
    return (times / 1e6).tolist(), notes


@pytest.mark.parametrize(
    ("stamps", "wrong"),
    [
        ([0, 100, 200, 200, 400, 500], 3),
        ([0, 100, 300, 300, 400, 500], 2),
        ([0, 0, 200, 300, 400, 500], 1),
        ([0, 100, 200, 300, 400, 400], 5),
        ([0, 100, 200, 150, 400, 500], 3),
        ([0, 100, 350, 300, 400, 500], 2),
        ([0, 100, None, 300, 400, 500], 2),
        ([None, 100, 200, 300, 400, 500], 0),
        ([0, 100, 2**62, 300, 400, 500], 2),
        ([2**62, 100, 200, 300, 400, 500], 0),
        ([0, 100, 200, 300, 400, 2**62], 5),
        ([0, 100, -(2**62), 300, 400, 500], 2),
    ],
)
def test_one_wrong_stamp_is_set_between_its_neighbours_and_named(
    stamps: list[int | None], wrong: int
) -> None:
    times, notes = times_of(stamps)
    assert times == [0, 100, 200, 300, 400, 500, 600]
    assert notes == [f"{WRONG} {wrong}: set between their neighbours"]


def test_a_clock_that_starts_again_goes_on() -> None:
    times, notes = times_of([0, 40, 80, 0, 40, 80])
    assert times == [0, 40, 80, 120, 160, 200, 240]
    assert "3 of 6 time stamps are missing or out of order" in notes[0]


@pytest.mark.parametrize("stamps", [[None] * 6, [70] * 6, [500, 400, 300, 200, 100, 0]])
def test_the_stated_rate_counts_where_most_stamps_are_wrong(stamps: list[int | None]) -> None:
    times, notes = times_of(stamps)
    assert times == [0, 40, 80, 120, 160, 200, 240]
    assert notes == ["its time stamps are missing or out of order: read at its stated 25 fps"]


def test_a_pause_keeps_the_times_on_both_sides() -> None:
    times, notes = times_of([0, 100, 200, 7_200_200, 7_200_300, 7_200_400])
    assert times == [0, 100, 200, 7_200_200, 7_200_300, 7_200_400, 7_200_500]
    assert notes == []


@pytest.mark.parametrize("wrong", [400, 10**12])
def test_a_file_with_one_wrong_stamp_is_read_as_the_one_without(tmp_path: Path, wrong: int) -> None:
    ticks = [100 * idx for idx in range(40)]
    path = write_video(tmp_path / "good.mkv", moving_bar(40), ticks=ticks, codec="mpeg4")
    good = inspect_video(path, "")
    with av.open(str(path)) as source, av.open(str(tmp_path / "wrong.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for idx, packet in enumerate(source.demux(video=0)):
            if packet.size:
                assert packet.dts is not None
                if idx == 5:
                    packet.pts, packet.dts = wrong, min(wrong, packet.dts)
                packet.stream = stream
                target.mux(packet)
    inspection = inspect_video(tmp_path / "wrong.mkv", "")
    np.testing.assert_array_equal(inspection.times[:-1], good.times[:-1])
    assert np.diff(inspection.signature_idxs).max() <= 3
    assert any(
        "40 time stamps is missing or out of order, the first that of frame 5" in note
        for note in inspection.notes
    )
