"""Plans for videos: every clip says where it comes from, and everything that is dropped says why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.videos import moving_bar, run_ffmpeg, write_pictures, write_video
from videogen.data.footage.captions import Caption
from videogen.data.footage.discovery import Problem
from videogen.data.footage.framing import Bucket
from videogen.data.footage.inspection import Inspection, inspect_video
from videogen.data.footage.planning import FootageSettings, VideoPlan, plan_videos
from videogen.data.footage.reading import in_threads, read_clips

SETTINGS = FootageSettings(num_frames=(8, 16), sizes=((32, 32),), fps=8)


def inspect(path: Path, find_cuts: bool = False) -> Inspection:
    return inspect_video(path, f"hash of {path.name}", find_cuts=find_cuts)


def plan(
    *paths: Path, settings: FootageSettings = SETTINGS, captions: dict[str, str] | None = None
) -> list[VideoPlan]:
    inspections = {path.name: inspect(path, settings.split_scenes) for path in paths}
    texts = {path.name: Caption((captions or {}).get(path.name, "words"), "test") for path in paths}
    return plan_videos(inspections, texts, (), settings)


def one(path: Path, settings: FootageSettings = SETTINGS) -> VideoPlan:
    (only,) = plan(path, settings=settings)
    return only


def reason(video: VideoPlan) -> str:
    (problem,) = video.dropped
    return problem.reason


def test_a_clip_says_what_it_is_made_of_and_reads_back_as_that(tmp_path: Path) -> None:
    frames = moving_bar(48, 48, 64)
    path = write_video(tmp_path / "a.mkv", frames, codec="ffv1", pixel_format="bgr0")
    video = one(path)
    (clip,) = video.clips
    assert clip.frame_idxs == tuple(range(1, 48, 3))  # 24 to 8 frames per second
    assert clip.bucket == Bucket(16, 32, 32)
    assert clip.box == (8.0, 0.0, 56.0, 48.0)
    assert clip.start == 0
    assert clip.end == pytest.approx(2, abs=0.002)  # the file keeps milliseconds
    assert any("cropped in the middle, 75% of the picture is left" in note for note in video.notes)
    (pixels,) = read_clips(path, video.clips, (0, 0, 0))
    assert pixels.shape == (16, 32, 32, 3)
    means = frames[1::3, :, 8:56].reshape(16, -1).mean(1)
    np.testing.assert_allclose(pixels.reshape(16, -1).mean(1), means, atol=1)


def test_a_long_video_gives_many_clips_that_share_no_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving_bar(150), codec="ffv1", pixel_format="bgr0")
    video = one(path)
    assert [clip.bucket.num_frames for clip in video.clips] == [16, 16, 16]
    idxs = [idx for clip in video.clips for idx in clip.frame_idxs]
    assert idxs == sorted(set(idxs))
    assert "0.25 s left over at its ends" in video.notes
    for clip, pixels in zip(video.clips, read_clips(path, video.clips, (0, 0, 0)), strict=True):
        (alone,) = read_clips(path, [clip], (0, 0, 0))
        np.testing.assert_array_equal(pixels, alone)


def test_a_video_of_fewer_frames_repeats_them_and_says_so(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "a.gif", moving_bar(5), 200)
    video = one(path)
    (clip,) = video.clips
    assert clip.notes == ("3 of 8 frames repeat the one before: the video has fewer",)
    (pixels,) = read_clips(path, video.clips, (0, 0, 0))
    repeated = [np.array_equal(pixels[idx], pixels[idx + 1]) for idx in range(7)]
    assert sum(repeated) == 3


def test_a_frame_that_ends_one_clip_may_begin_the_next(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "a.gif", moving_bar(3), 700)  # 2.1 s, 17 frames
    video = one(path, replace(SETTINGS, num_frames=(8,), keep_duplicates=True))
    assert len(video.clips) == 2
    assert video.clips[0].frame_idxs[-1] == video.clips[1].frame_idxs[0] == 1
    assert [len(pixels) for pixels in read_clips(path, video.clips, (0, 0, 0))] == [8, 8]


def test_too_short_says_how_long_it_is_and_what_would_fit(tmp_path: Path) -> None:
    video = one(write_video(tmp_path / "a.mp4", moving_bar(20)))
    assert reason(video) == "too short"
    assert video.dropped[0].detail == "lasts 0.83 s (20 frames), which is 7 frames at 8 fps: a clip needs 8"
    assert one(tmp_path / "a.mp4", replace(SETTINGS, fps=video.needed_fps)).clips


def test_a_frame_that_stays_longer_than_a_clip_ends_the_scene_and_is_told_once(tmp_path: Path) -> None:
    for name, gap in (
        ("pause.mkv", 20 * 3600 * 1000),
        ("hold.mkv", 30_000),
        ("epoch.mkv", 1_700_000_000_000),
    ):
        ticks = [40 * idx + (gap if idx >= 25 else 0) for idx in range(50)]
        video = one(write_video(tmp_path / name, moving_bar(50, seed=len(name)), ticks=ticks))
        assert [(clip.frame_idxs[0], clip.frame_idxs[-1]) for clip in video.clips] == [(1, 23), (26, 48)]
        assert not video.dropped
        (note,) = [note for note in video.notes if "longer than a clip" in note]
        assert "1 frame stays longer than a clip, first frame 24 at 0.96 s" in note
        assert video.clips[0].end == pytest.approx(1)
        assert video.clips[1].start == pytest.approx(1 + gap / 1000)


def test_a_first_stamp_far_away_costs_that_frame_alone(tmp_path: Path) -> None:
    ticks = [0, *(1_700_000_000_000 + 40 * idx for idx in range(1, 50))]
    video = one(write_video(tmp_path / "a.mkv", moving_bar(50), ticks=ticks))
    (clip,) = video.clips
    assert (clip.frame_idxs[0], clip.frame_idxs[-1], len(clip.frame_idxs)) == (2, 49, 16)
    assert video.inspection is not None
    assert video.inspection.seconds == pytest.approx(1.96, abs=0.002)
    assert video.inspection.fps == pytest.approx(25, abs=0.1)
    assert any("frame 0 at 0.00 s for 472222.2 h" in note for note in video.notes)


def test_no_clip_goes_across_what_was_lost_from_a_transport_stream(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    first = write_video(tmp_path / "first.ts", noise, codec="mpeg2video")
    second = write_video(tmp_path / "second.ts", noise[:37], codec="mpeg2video")
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())  # packets seem to be missing between them
    video = one(both, replace(SETTINGS, keep_duplicates=True))
    assert video.inspection is not None
    (start,) = video.inspection.losses
    assert any("lost in 1 place, first after" in note for note in video.notes)
    before, after = video.clips
    assert before.frame_idxs[-1] < start <= after.frame_idxs[0]
    first.write_bytes(first.read_bytes()[: 20 * 188] + first.read_bytes()[24 * 188 :])
    single = inspect(first)  # without another key frame, the rest is lost
    assert 0 < single.num_frames < 40
    assert any("lost in 1 place" in note for note in single.notes)


def test_pictures_that_all_stay_longer_than_a_clip_give_none(tmp_path: Path) -> None:
    video = one(write_pictures(tmp_path / "a.webp", moving_bar(6), 5000))
    assert not video.clips
    assert reason(video) == "too short"
    assert "6 frames stay longer than a clip, first frame 0 at 0.00 s for 5.0 s" in video.dropped[0].detail


def test_one_picture_is_no_clip(tmp_path: Path) -> None:
    assert reason(one(write_pictures(tmp_path / "a.gif", moving_bar(1), 2000))) == "single frame"


def test_an_extreme_shape_is_not_cropped_to_a_sliver(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 2, 3000, 3), np.uint8)
    video = one(write_video(tmp_path / "a.mkv", noise, codec="ffv1", pixel_format="bgr0"))
    assert reason(video) == "extreme shape"
    assert "3000x2 cropped to 32x32 leaves 0.1% of it" in video.dropped[0].detail


def test_plain_colour_is_blank_and_fine_detail_is_not(tmp_path: Path) -> None:
    grey = np.full((24, 48, 64, 3), 70, np.uint8)
    assert reason(one(write_video(tmp_path / "grey.mp4", grey))) == "blank"
    dot = np.zeros((24, 480, 640, 3), np.uint8)
    dot[:, 240:250, 320:330] = 255
    video = one(write_video(tmp_path / "dot.mp4", dot))
    assert video.clips
    assert video.clips[0].notes == ("nothing moves in it",)
    half = moving_bar(24)
    half[:12] = 0
    (clip,) = one(write_video(tmp_path / "half.mp4", half)).clips
    assert "4 of 8 frames are one plain colour" in clip.notes


def test_copies_are_duplicates_and_others_are_not(tmp_path: Path) -> None:
    original = write_video(tmp_path / "a.mp4", moving_bar(24, 240, 320))
    copy = tmp_path / "b.mkv"
    run_ffmpeg("-i", str(original), "-vf", "scale=160:120", "-c:v", "libx264", str(copy))
    other = write_video(tmp_path / "c.mp4", moving_bar(24, 240, 320, seed=1))
    backwards = write_video(tmp_path / "d.mp4", moving_bar(24, 240, 320)[::-1])
    plans = plan(original, copy, other, backwards, captions={"b.mkv": "else"})
    assert [len(video.clips) for video in plans] == [1, 0, 1, 1]
    assert reason(plans[1]) == "duplicate"
    assert "looks the same as a.mp4 from 0.00 s on, which says “words”" in plans[1].dropped[0].detail
    finger = moving_bar(24, 240, 320)
    finger[20:, 100:116, 40:48] = 60  # a difference that is small, late, and in one place
    changed = write_video(tmp_path / "e.mp4", finger)
    assert [len(video.clips) for video in plan(original, changed)] == [1, 1]
    kept = plan(original, copy, settings=replace(SETTINGS, keep_duplicates=True))
    assert [len(video.clips) for video in kept] == [1, 1]


def test_scenes_are_split_at_their_cuts(tmp_path: Path) -> None:
    colours = [(60, 10, 10), (200, 255, 255)]
    scenes = []
    for seed, colour in enumerate(colours):
        frames = moving_bar(40, 96, 128, seed)
        scenes.append((0.4 * frames + 0.6 * np.array(colour)).astype(np.uint8))
    path = write_video(tmp_path / "a.mp4", np.concatenate(scenes))
    split = one(path, replace(SETTINGS, split_scenes=True))
    assert split.inspection is not None
    assert split.inspection.cuts == (40,)
    assert [max(clip.frame_idxs) < 40 or min(clip.frame_idxs) >= 40 for clip in split.clips] == [True, True]
    assert "split into 2 scenes, which share its caption" in split.notes
    whole = one(path)
    assert any("as at a cut: --split-scenes" in note for clip in whole.clips for note in clip.notes)


@pytest.mark.parametrize(
    ("name", "note"),
    [("rate", "variable frame rate: frames last 40 to 160 ms"), ("suffix", "its suffix says mp4")],
)
def test_what_is_unusual_is_noted(tmp_path: Path, name: str, note: str) -> None:
    if name == "rate":
        path = write_video(
            tmp_path / "a.mkv", ticks=[40 * idx + (120 if idx > 9 else 0) for idx in range(24)]
        )
    else:
        path = write_video(tmp_path / "a.mkv").rename(tmp_path / "a.mp4")
    assert any(note in text for text in one(path).notes)


def test_nothing_is_lost_between_what_was_found_and_what_is_planned(tmp_path: Path) -> None:
    good = inspect(write_video(tmp_path / "good.mp4"))
    broken = Problem("broken.mp4", "unreadable", "damaged")
    missing = Problem("gone.mp4", "missing", "named in metadata.jsonl")
    uncaptioned = Problem("mute.mp4", "caption unreadable", "mute.txt is not UTF-8")
    plans = plan_videos(
        {"good.mp4": good, "broken.mp4": broken, "mute.mp4": good},
        {"good.mp4": Caption("x", "test"), "broken.mp4": Caption("y", "test")},
        [missing, uncaptioned],
        SETTINGS,
    )
    assert {video.name: video.dropped for video in plans} == {
        "broken.mp4": (broken,),
        "gone.mp4": (missing,),
        "good.mp4": (),
        "mute.mp4": (uncaptioned,),
    }


def test_threads_give_everything_once_and_pass_errors_on() -> None:
    def work(job: int) -> list[int]:
        if job == 99:
            raise ValueError("job 99")
        return [10 * job + part for part in range(job % 4)]

    expected = sorted(answer for job in range(50) for answer in work(job))
    assert sorted(in_threads(work, range(50), 3)) == expected
    with pytest.raises(ValueError, match="job 99"):
        list(in_threads(work, range(100), 3))


def test_threads_stop_when_nobody_listens() -> None:
    done = []

    def work(job: int) -> list[int]:
        done.append(job)
        return [job] * 10

    answers = in_threads(work, range(1000), 2)
    next(answers)
    answers.close()  # type: ignore[attr-defined] # a generator
    assert len(done) < 100
