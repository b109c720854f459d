"""Decide, before anything is encoded, what happens to each video: its clips, or why it gives none."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from videogen.data.footage.captions import Caption
from videogen.data.footage.discovery import Problem
from videogen.data.footage.duplicates import DuplicateFinder, SeenClip
from videogen.data.footage.frames import Colour
from videogen.data.footage.framing import Box, Bucket, best_size, crop_box, kept_share
from videogen.data.footage.inspection import LONGEST_PICTURE, Inspection
from videogen.data.footage.retiming import num_frames_at, retime, split_into_clips
from videogen.data.footage.sequences import DEFAULT_PICTURE_FPS

MIN_KEPT_SHARE = 0.1
"""A picture that would lose more than the rest of its area is refused."""

_BLANK_RANGE = 8  # of 255, between the lightest and the darkest place of a frame without a picture
_STILL_CHANGE = 2  # of 255, which compression alone may cause
_CUT_JUMP = 40  # of 255, mean change of all places at once; only for a hint
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class FootageSettings:
    """What the clips shall be like.

    Attributes:
        num_frames: The frame counts that a clip may have; the longest that a scene fills is taken.
        sizes: The (height, width) that a clip may have; the one is taken that crops least.
        fps: Frames per second.
        background: What transparent parts are put on.
        split_scenes: Whether cuts are looked for, so that no clip goes across one.
        keep_duplicates: Whether clips that look the same are all kept.
        picture_fps: Frames per second of numbered pictures, which state none.
    """

    num_frames: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    fps: float
    background: Colour = (0, 0, 0)
    split_scenes: bool = False
    keep_duplicates: bool = False
    picture_fps: float = DEFAULT_PICTURE_FPS


@dataclass(frozen=True)
class PlannedClip:
    """One clip to be cut from a video.

    Attributes:
        source: Name of the video within the footage.
        sha256: Of the video file.
        frame_idxs: The video's frame that is shown at each frame of the clip.
        start: Of the stretch of video that it shows, in seconds.
        end: Of the same.
        box: What is cut out of the picture, (left, top, right, bottom) in its upright pixels.
        bucket: Its shape.
        caption: What it is said to show.
        notes: What was changed or is unusual, in sentences.
    """

    source: str
    sha256: str
    frame_idxs: tuple[int, ...]
    start: float
    end: float
    box: Box
    bucket: Bucket
    caption: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class VideoPlan:
    """What happens to one video.

    Attributes:
        name: Of the video within the footage.
        inspection: What it holds; None where it cannot be read.
        caption: None where it cannot be read.
        clips: What is cut from it.
        dropped: What is not used, the whole video or a part of it, and why.
        notes: What is unusual about it, or was done to all of it, in sentences.
        needed_fps: The lowest rate at which all of its scenes would be long enough.
    """

    name: str
    inspection: Inspection | None = None
    caption: Caption | None = None
    clips: tuple[PlannedClip, ...] = ()
    dropped: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    needed_fps: float = 0.0


def plan_videos(
    inspections: Mapping[str, Inspection | Problem],
    captions: Mapping[str, Caption],
    problems: Sequence[Problem],
    settings: FootageSettings,
) -> list[VideoPlan]:
    """Plan every video.

    Args:
        inspections: What each video holds, or why it cannot be read, by its name.
        captions: By the name of the video.
        problems: What else is wrong, such as captions that cannot be read; each becomes a dropped video.
        settings: What the clips shall be like.
    """
    refused: dict[str, list[Problem]] = {}
    for problem in problems:
        refused.setdefault(problem.name, []).append(problem)
    duplicates = DuplicateFinder()
    plans = []
    for name, inspection in inspections.items():
        caption = captions.get(name)
        if isinstance(inspection, Problem):
            plan = VideoPlan(name, caption=caption, dropped=(inspection, *refused.pop(name, ())))
        elif name in refused or caption is None:
            plan = VideoPlan(name, inspection, caption, dropped=tuple(refused.pop(name, ())))
        else:
            plan = _VideoPlanner(name, inspection, caption, settings, duplicates).plan()
        plans.append(plan)
    plans += [VideoPlan(name, dropped=tuple(reasons)) for name, reasons in refused.items()]
    return sorted(plans, key=lambda plan: plan.name)


class _VideoPlanner:
    """Plans one readable video, and collects what is to be said about it."""

    def __init__(
        self,
        name: str,
        inspection: Inspection,
        caption: Caption,
        settings: FootageSettings,
        duplicates: DuplicateFinder,
    ) -> None:
        self.name = name
        self.inspection = inspection
        self.caption = caption
        self.settings = settings
        self.duplicates = duplicates
        self.clips: list[PlannedClip] = []
        self.dropped: list[Problem] = []
        self.notes: list[str] = [*inspection.notes, *caption.notes]
        self.needed_fps = 0.0

    def plan(self) -> VideoPlan:
        inspection = self.inspection
        width = inspection.format.width * float(inspection.format.pixel_aspect)
        size = best_size(width, inspection.format.height, self.settings.sizes)
        kept = kept_share(width, inspection.format.height, size)
        if inspection.num_frames == 1:
            self._drop("single frame", "holds one frame: that is a picture, not a clip")
        elif kept < MIN_KEPT_SHARE:
            shape = f"{inspection.format.width}x{inspection.format.height}"
            self._drop("extreme shape", f"{shape} cropped to {size[1]}x{size[0]} leaves {kept:.1%} of it")
        else:
            self._plan_scenes(size)
            if inspection.cuts:
                self.notes.append(f"split into {len(inspection.cuts) + 1} scenes, which share its caption")
            self._note_framing(size, kept)
        return VideoPlan(
            self.name,
            inspection,
            self.caption,
            tuple(self.clips),
            tuple(self.dropped),
            tuple(self.notes),
            self.needed_fps,
        )

    def _plan_scenes(self, size: tuple[int, int]) -> None:
        """Plan what lies between cuts, and between frames that stay longer than any clip."""
        inspection = self.inspection
        durations = np.diff(inspection.times)
        longest = max(self.settings.num_frames) / self.settings.fps
        held = np.flatnonzero(durations > longest * _NANOSECONDS).tolist()
        ends = {*held, *(idx - 1 for idx in inspection.losses)}
        edges = sorted({0, *inspection.cuts, *(idx + 1 for idx in ends), inspection.num_frames})
        for first, last in itertools.pairwise(edges):
            times = inspection.times[first : last + 1] - inspection.times[first]
            if ends and last - first == 1:
                continue
            if last - 1 in ends:  # of the frame that stays, the scene has as much as of others
                times[-1] = times[-2] + int(np.median(durations[first : last - 1]))
            self._plan_scene((first, last), times, size)
        if not held:
            return
        start, seconds = (float(row[held[0]]) / _NANOSECONDS for row in (inspection.times, durations))
        frames = "1 frame stays" if len(held) == 1 else f"{len(held)} frames stay"
        note = (
            f"{frames} longer than a clip, first frame {held[0]} at {start:.2f} s for {_duration(seconds)}: "
            "a pause or a broken time stamp, at which a scene ends"
        )
        if self.clips or self.dropped:
            self.notes.append(note)
        else:
            self._drop("too short", f"{note}, and nothing else is left")

    def _plan_scene(self, scene: tuple[int, int], times: np.ndarray, size: tuple[int, int]) -> None:
        """Plan frames [first, last), of which each is shown at `times` `(F + 1,)`, in nanoseconds from 0."""
        inspection, settings = self.inspection, self.settings
        first, last = scene
        shown = first + retime(times, 0, last - first, settings.fps)
        seconds = float(times[-1]) / _NANOSECONDS
        spans = split_into_clips(len(shown), settings.num_frames)
        if not spans:
            shortest = min(settings.num_frames)
            self.needed_fps = max(self.needed_fps, (shortest - 0.5) / seconds)
            self._drop(
                "too short",
                f"{self._span(scene, seconds)}lasts {seconds:.2f} s ({last - first} frames), which is "
                f"{num_frames_at(seconds, settings.fps)} frames at {settings.fps:g} fps: a clip needs "
                f"{shortest}",
            )
        for start, end in spans:
            begins = float(inspection.times[first]) / _NANOSECONDS
            span = (begins + start / settings.fps, begins + min(end / settings.fps, seconds))
            self._plan_clip(shown[start:end], span, size)
        used = sum(end - start for start, end in spans)
        left_over = (len(shown) - used) / settings.fps
        if spans and left_over >= 1 / settings.fps:
            self.notes.append(f"{self._span(scene, seconds)}{left_over:.2f} s left over at its ends")

    def _plan_clip(self, shown: np.ndarray, times: tuple[float, float], size: tuple[int, int]) -> None:
        inspection, settings = self.inspection, self.settings
        first, last = int(shown[0]), int(shown[-1])
        start, end = times
        where = f"from {start:.2f} to {end:.2f} s: "
        blank = inspection.ranges[shown] <= _BLANK_RANGE
        if blank.all():
            self._drop("blank", f"{where}every frame is one plain colour")
            return
        if not settings.keep_duplicates:
            shown_clip = SeenClip(self.name, start, self.caption.text)
            twin = self.duplicates.find_or_add(shown_clip, inspection.signatures_at(shown))
            if twin is not None:
                other = "" if twin.caption == shown_clip.caption else f", which says “{twin.caption}”"
                self._drop(
                    "duplicate", f"{where}looks the same as {twin.name} from {twin.start:.2f} s on{other}"
                )
                return
        notes = []
        if blank.any():
            notes.append(f"{blank.sum()} of {len(shown)} frames are one plain colour")
        if inspection.changes[first + 1 : last + 1].max(initial=0) <= _STILL_CHANGE:
            notes.append("nothing moves in it")
        repeats = len(shown) - len(np.unique(shown))
        if repeats:
            notes.append(f"{repeats} of {len(shown)} frames repeat the one before: the video has fewer")
        jumps = inspection.jumps[first + 1 : last + 1]
        if not settings.split_scenes and jumps.max(initial=0) > _CUT_JUMP:
            notes.append("the whole picture changes at once, as at a cut: --split-scenes would part it there")
        format_ = inspection.format
        self.clips.append(
            PlannedClip(
                source=self.name,
                sha256=inspection.sha256,
                frame_idxs=tuple(shown.tolist()),
                start=start,
                end=end,
                box=crop_box(format_.width, format_.height, format_.pixel_aspect, size),
                bucket=Bucket(len(shown), *size),
                caption=self.caption.text,
                notes=tuple(notes),
            )
        )

    def _note_framing(self, size: tuple[int, int], kept: float) -> None:
        format_ = self.inspection.format
        if not self.clips:
            return
        if kept < 0.995:
            self.notes.append(f"cropped in the middle, {kept:.0%} of the picture is left")
        if size[0] > format_.height or size[1] > format_.width:
            self.notes.append(f"enlarged from {format_.width}x{format_.height}: it will look soft")

    def _span(self, scene: tuple[int, int], seconds: float) -> str:
        """Which part of the video is meant; "" for the whole."""
        if scene == (0, self.inspection.num_frames):
            return ""
        start = float(self.inspection.times[scene[0]]) / _NANOSECONDS
        return f"from {start:.2f} to {start + seconds:.2f} s: "

    def _drop(self, reason: str, detail: str) -> None:
        self.dropped.append(Problem(self.name, reason, detail))


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < LONGEST_PICTURE else f"{seconds / 3600:.1f} h"
