"""Re-timing: what a viewer would see at each instant, whatever the rate of the file."""

import numpy as np
import pytest

from videogen.data.footage.retiming import num_frames_at, retime, split_into_clips


def constant(num_frames: int, fps: float) -> np.ndarray:
    """Times of a video at a constant rate, in nanoseconds."""
    return np.rint(np.arange(num_frames + 1) * (1e9 / fps)).astype(np.int64)


@pytest.mark.parametrize("fps", [8, 23.976, 24, 25, 29.97, 59.94])
def test_the_same_rate_keeps_every_frame(fps: float) -> None:
    np.testing.assert_array_equal(retime(constant(100, fps), 0, 100, fps), np.arange(100))


def test_times_rounded_to_milliseconds_change_nothing() -> None:
    rounded = constant(300, 30) // 1_000_000 * 1_000_000
    np.testing.assert_array_equal(retime(rounded, 0, 300, 30), np.arange(300))


def test_a_third_of_the_rate_takes_every_third_frame() -> None:
    np.testing.assert_array_equal(retime(constant(48, 24), 0, 48, 8), np.arange(1, 48, 3))


def test_a_higher_rate_shows_frames_again() -> None:
    np.testing.assert_array_equal(retime(constant(4, 5), 0, 4, 10), [0, 0, 1, 1, 2, 2, 3, 3])


def test_frames_of_variable_length_count_by_their_time() -> None:
    times = np.array([0, 100, 200, 1200, 1300]) * 1_000_000  # milliseconds; the third frame lasts a second
    np.testing.assert_array_equal(retime(times, 0, 4, 10), [0, 1, *[2] * 10, 3])


def test_a_scene_gives_only_its_own_frames() -> None:
    shown = retime(constant(100, 24), 37, 73, 8)
    assert len(shown) == 12
    assert shown.min() >= 37
    assert shown.max() < 73


def test_counts_are_rounded_to_the_nearest() -> None:
    assert [num_frames_at(seconds, 8) for seconds in (1.93, 1.94, 2.0, 2.06)] == [15, 16, 16, 16]


def test_clips_follow_each_other_the_longest_first_with_the_rest_at_both_ends() -> None:
    assert split_into_clips(16, (16,)) == [(0, 16)]
    assert split_into_clips(37, (8, 16)) == [(2, 18), (18, 34)]
    assert split_into_clips(29, (8, 12, 16)) == [(0, 16), (16, 28)]
    assert split_into_clips(7, (8, 16)) == []
