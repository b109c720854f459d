"""Inspection: the times of frames where some time stamps are missing, doubled, or far away."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.videos import moving_bar, run_ffmpeg, write_video
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
    np.testing.assert_array_equal(inspection.times, good.times)
    assert np.diff(inspection.signature_idxs).max() <= 3
    assert any(
        "40 time stamps is missing or out of order, the first that of frame 5" in note
        for note in inspection.notes
    )


def test_the_last_frame_lasts_as_long_as_the_others_where_the_file_knows_one_rate_alone(
    tmp_path: Path,
) -> None:
    """Ten frames a second, in a file that states 24."""
    path = write_video(tmp_path / "a.mkv", moving_bar(8), ticks=[100 * idx for idx in range(8)])
    assert inspect_video(path, "").seconds == 0.8


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.m2ts"])
def test_a_clock_that_wraps_goes_on(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / "a.mkv", moving_bar(48), codec="mpeg2video")
    wrap = 2**33 / 90_000  # seconds, of the clock of MPEG
    offset = ["-output_ts_offset", str(wrap - 1)]
    run_ffmpeg("-i", str(tmp_path / "a.mkv"), "-c", "copy", *offset, str(tmp_path / name))
    inspection = inspect_video(tmp_path / name, "")
    np.testing.assert_allclose(inspection.times, np.arange(49) * (1e9 / 24), atol=2e6)
    assert inspection.notes == ()


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pictures_of_an_avi_follow_each_other_evenly(tmp_path: Path, codec: str) -> None:
    """It states when pictures are decoded, and some are shown in another order."""
    path = write_video(tmp_path / "a.avi", moving_bar(48), codec=codec, max_b_frames=2)
    inspection = inspect_video(path, "")
    np.testing.assert_allclose(inspection.times, np.arange(49) * (1e9 / 24), atol=1)
    assert inspection.notes == ()


def test_a_file_without_a_suffix_is_not_said_to_have_a_wrong_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4").rename(tmp_path / "clip")
    assert inspect_video(path, "").notes == ()
