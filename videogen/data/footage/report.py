"""The doctor's report: what happens to each video, the totals, and what a user might change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from videogen.data.footage.captions import FROM_FILE_NAME
from videogen.data.footage.discovery import FoundFootage, Problem
from videogen.data.footage.framing import Bucket
from videogen.data.footage.planning import FootageSettings, PlannedClip, VideoPlan

_SMALL_BUCKET = 4  # clips
_MUCH_CROPPED = 0.8  # of a picture's area that is left


@dataclass(frozen=True, eq=False)
class FootageReport:
    """What happens to each video of a folder.

    Attributes:
        folder: The footage, as the user named it.
        model: The model that it is prepared for.
        settings: What the clips are like.
        compression: Of the model's codec, (time, space).
        plans: One for each video, and for what should have been one.
        ignored: What else lies in the folder.
        advice: What to change, in sentences.
    """

    folder: str
    model: str
    settings: FootageSettings
    compression: tuple[int, int]
    plans: tuple[VideoPlan, ...]
    ignored: tuple[Problem, ...]
    advice: tuple[str, ...]

    @property
    def num_clips(self) -> int:
        """Clips of the dataset."""
        return sum(len(plan.clips) for plan in self.plans)

    @property
    def seconds(self) -> float:
        """Time that all videos together last."""
        return sum(plan.inspection.seconds for plan in self.plans if plan.inspection)

    @property
    def clip_seconds(self) -> float:
        """Time that all clips together last."""
        return sum(len(clip.frame_idxs) for plan in self.plans for clip in plan.clips) / self.settings.fps

    @property
    def dropped(self) -> tuple[Problem, ...]:
        """All that is not used."""
        return tuple(problem for plan in self.plans for problem in plan.dropped)

    @property
    def reasons(self) -> dict[str, int]:
        """How often something is dropped for each reason, the most frequent first."""
        return dict(Counter(problem.reason for problem in self.dropped).most_common())

    @property
    def buckets(self) -> dict[Bucket, int]:
        """Clips of each shape; shapes in order."""
        counts = Counter(clip.bucket for plan in self.plans for clip in plan.clips)
        return {bucket: counts[bucket] for bucket in sorted(counts)}

    @property
    def rule(self) -> str:
        """What the codec asks of every clip."""
        per_time, per_space = self.compression
        frames = f"frame counts that are multiples of {per_time}" if per_time > 1 else "any frame count"
        sizes = f"heights and widths that are multiples of {per_space}"
        return f"The codec of this model takes {frames}, and {sizes}."


def make_report(
    found: FoundFootage,
    plans: Sequence[VideoPlan],
    settings: FootageSettings,
    compression: tuple[int, int],
    model: str,
    advice: Sequence[str] = (),
) -> FootageReport:
    """Put the report together, with advice of its own before what is given."""
    own = [*_on_length(plans, settings, compression), *_on_shape(plans), *_on_captions(plans)]
    own += _on_sequences(plans, settings)
    own += _on_buckets(plans)
    return FootageReport(
        str(found.folder), model, settings, compression, tuple(plans), found.ignored, (*own, *advice)
    )


def describe_video(plan: VideoPlan) -> str:
    """What was read of a video, in one line; "" where it cannot be read."""
    inspection = plan.inspection
    if inspection is None:
        return ""
    format_ = inspection.format
    return (
        f"{format_.width}x{format_.height}, {inspection.num_frames} frames, {inspection.seconds:.2f} s at "
        f"{inspection.fps:.4g} fps, {format_.codec} {format_.pixel_format}"
    )


def describe_clip(clip: PlannedClip, fps: float) -> str:
    """Where a clip comes from and what it becomes, in one line."""
    return (
        f"{clip.start:.2f} to {clip.end:.2f} s (frames {clip.frame_idxs[0]} to {clip.frame_idxs[-1]}) "
        f"becomes {clip.bucket.num_frames} frames at {fps:g} fps, {clip.bucket.width}x{clip.bucket.height}"
    )


def _on_length(
    plans: Sequence[VideoPlan], settings: FootageSettings, compression: tuple[int, int]
) -> list[str]:
    short = [plan for plan in plans if plan.needed_fps]
    if not short:
        return []
    needed = max(plan.needed_fps for plan in short)
    ways = [f"--fps {math.ceil(10 * needed) / 10:g}"]
    shortest = min(settings.num_frames)
    fitting = int(shortest * settings.fps / needed) // compression[0] * compression[0]
    if fitting >= max(compression[0], 2):
        ways.append(f"--num-frames {fitting} besides the others")
    have = "has a part that is" if len(short) == 1 else "have parts that are"
    videos = "1 video" if len(short) == 1 else f"{len(short)} videos"
    return [
        f"{videos} {have} too short for {shortest} frames at {settings.fps:g} fps; {' or '.join(ways)} would "
        "keep them all. A higher rate means less time in the same number of frames."
    ]


def _on_shape(plans: Sequence[VideoPlan]) -> list[str]:
    shares = []
    for plan in plans:
        for clip in plan.clips:
            assert plan.inspection is not None
            left, top, right, bottom = clip.box
            area = plan.inspection.format.width * plan.inspection.format.height
            shares.append((right - left) * (bottom - top) / area)
    mean = sum(shares) / len(shares) if shares else 1.0
    if mean >= _MUCH_CROPPED:
        return []
    return [
        f"{1 - mean:.0%} of the picture is cropped away on average; --aspect-buckets keeps more of it, in "
        "sizes that the model may not have been trained on."
    ]


def _on_captions(plans: Sequence[VideoPlan]) -> list[str]:
    named = [plan for plan in plans if plan.clips and plan.caption and plan.caption.origin == FROM_FILE_NAME]
    if not named:
        return []
    videos = "1 video has" if len(named) == 1 else f"{len(named)} videos have"
    return [
        f"{videos} no caption but the file name, such as {named[0].name}; "
        "say what they show in a .txt beside each, or in one metadata.jsonl."
    ]


def _on_sequences(plans: Sequence[VideoPlan], settings: FootageSettings) -> list[str]:
    sequences = [plan for plan in plans if plan.inspection and plan.inspection.format.container == "image2"]
    if not sequences:
        return []
    are = "1 sequence of numbered pictures is" if len(sequences) == 1 else f"{len(sequences)} sequences are"
    return [
        f"{are} read as videos of {settings.picture_fps:g} frames per second, such as {sequences[0].name}; "
        "--picture-fps changes the rate."
    ]


def _on_buckets(plans: Sequence[VideoPlan]) -> list[str]:
    counts = Counter(clip.bucket for plan in plans for clip in plan.clips)
    small = [bucket for bucket in sorted(counts) if counts[bucket] < _SMALL_BUCKET]
    if len(counts) < 2 or not small:
        return []
    return [
        "A batch is made of one shape, and a shape with fewer clips than a batch is never trained on; few "
        f"clips are in {', '.join(f'{bucket} ({counts[bucket]})' for bucket in small)}. Fewer frame counts "
        "or sizes would join them."
    ]
