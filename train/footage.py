"""From a folder of footage to a dataset: inspect, plan, report, and cache latents and text embeddings.

What is done is never done again: each video is inspected once, each clip and each caption encoded once, by
their content, whatever the order and however often the work is interrupted.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videogen.codec.contract import Codec, check_multiple, codec_hash
from videogen.codec.pixels import frames_to_pixels
from videogen.data.footage.captions import read_captions
from videogen.data.footage.discovery import FoundFootage, Problem, find_footage
from videogen.data.footage.frames import UnreadableVideoError, fault_text
from videogen.data.footage.inspection import Inspection, file_sha256, inspect_video
from videogen.data.footage.planning import FootageSettings, PlannedClip, VideoPlan, plan_videos
from videogen.data.footage.reading import in_threads, read_clips
from videogen.data.footage.report import FootageReport, make_report
from videogen.data.footage.report_page import report_page
from videogen.data.footage.sequences import PictureSequence
from videogen.data.footage.store import (
    INSPECTION_VERSION,
    LATENTS,
    MASK_SUFFIX,
    PIXELS,
    REPORT_NAME,
    TEXT,
    ShardFolder,
    check_dataset_folder,
    content_key,
    load_inspection,
    save_inspection,
    write_index,
)
from videogen.files import remove_leftovers, write_text
from videogen.folder_lock import locked
from videogen.text.contract import PromptEncoder
from videogen.text.encoder import TextEncoder
from videogen.train.footage_encoders import FootageEncoders

CACHE_VERSION = 1
"""Part of the name of everything encoded: to be raised when the same input is encoded differently."""

ProgressCallback = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PreparedFootage:
    """What `prepare_footage` did.

    Attributes:
        report: What happens to each video.
        num_encoded: Clips that were read and encoded now.
        num_cached: Clips of which everything was there before.
    """

    report: FootageReport
    num_encoded: int
    num_cached: int


def check_settings(settings: FootageSettings, codec: Codec) -> None:
    """Raise ValueError unless the codec can encode clips of these frame counts and sizes."""
    per_time, per_space = codec.compression
    for count in settings.num_frames:
        check_multiple("num_frames", count, per_time)
    for height, width in settings.sizes:
        check_multiple("height", height, per_space)
        check_multiple("width", width, per_space)
    for name, fps in (("fps", settings.fps), ("picture_fps", settings.picture_fps)):
        if not 0.1 <= fps <= 240:
            raise ValueError(f"`{name}` must be between 0.1 and 240, got {fps}")


def prepare_footage(
    folder: str | Path,
    out: str | Path,
    settings: FootageSettings,
    encoders: FootageEncoders,
    *,
    num_workers: int = 1,
    encode: bool = True,
    keep_pixels: bool = False,
    on_progress: ProgressCallback = lambda stage, done, total: None,
    on_report: Callable[[FootageReport], None] = lambda report: None,
) -> PreparedFootage:
    """Make a dataset of a folder of footage, or finish one.

    Args:
        folder: The footage.
        out: The dataset's folder.
        settings: What the clips shall be like.
        encoders: What encodes them.
        num_workers: Threads that read videos.
        encode: Whether to go beyond the report.
        keep_pixels: Whether the dataset shall have the clips' frames too, to fine-tune a codec on.
        on_progress: Called with the name of a stage, what is done and what there is to do.
        on_report: Called with the report, once it is written and before anything is encoded; and again
            if a video can no longer be read when it is to be encoded.

    Raises:
        ValueError: If an argument is wrong, another process prepares into the same folder, the footage holds
            no video, or no video gives a clip, of which the report says why.
        FloatingPointError: If a clip or a caption is encoded to NaN or infinity.
        OSError: If a file cannot be written.
    """
    check_dataset_folder(Path(out), Path(folder))
    check_settings(settings, encoders.codec)
    if num_workers < 1:
        raise ValueError(f"`num_workers` must be at least 1, got {num_workers}")
    found = find_footage(folder)
    captions = read_captions(found)
    with locked(Path(out), "out"):
        remove_leftovers(Path(out))
        inspections = inspect_footage(found, Path(out), settings, num_workers, on_progress)
        plans = plan_videos(inspections, captions.of, (*found.problems, *captions.problems), settings)

        def tell(plans: Sequence[VideoPlan]) -> FootageReport:
            advice = [*captions.advice(), *_unknown_words(plans, encoders.text_encoder)]
            report = make_report(found, plans, settings, encoders.codec.compression, encoders.name, advice)
            write_text(Path(out) / REPORT_NAME, report_page(report))
            on_report(report)
            if not report.num_clips:
                reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
                raise ValueError(
                    f"no video of {str(folder)!r} gives a clip ({reasons}): see {Path(out) / REPORT_NAME}"
                )
            return report

        report = tell(plans)
        if not encode:
            return PreparedFootage(report, 0, 0)
        maker = _CacheMaker(found, Path(out), settings, encoders, on_progress)
        clips = [clip for plan in plans for clip in plan.clips]
        num_encoded, failed = maker.encode_clips(clips, num_workers, keep_pixels)
        if failed:
            plans = [
                replace(plan, clips=(), dropped=(*plan.dropped, failed[plan.name]))
                if plan.name in failed
                else plan
                for plan in plans
            ]
            report = tell(plans)
            clips = [clip for plan in plans for clip in plan.clips]
        maker.encode_captions(clips)
        write_index(Path(out), maker.index(clips))
        return PreparedFootage(report, num_encoded, len(clips) - num_encoded)


def inspect_footage(
    found: FoundFootage,
    out: Path,
    settings: FootageSettings,
    num_workers: int,
    on_progress: ProgressCallback,
) -> dict[str, Inspection | Problem]:
    """Read every video, or remember what was found when it was read before; by name, in order."""

    def inspect(name: str) -> Iterator[tuple[str, Inspection | Problem]]:
        path = found.folder / name
        try:
            sha256 = file_sha256(path)
            is_sequence = PictureSequence.of(path) is not None
            key = content_key(
                **({"picture_fps": settings.picture_fps} if is_sequence else {}),
                version=INSPECTION_VERSION,
                sha256=sha256,
                suffix=path.suffix.lower(),
                background=settings.background,
                cuts=settings.split_scenes,
            )
            inspection = load_inspection(out, key)
            if inspection is None:
                inspection = inspect_video(
                    path, sha256, settings.background, settings.split_scenes, settings.picture_fps
                )
                save_inspection(out, key, inspection)
            yield name, inspection
        except (UnreadableVideoError, MemoryError) as error:
            yield name, Problem(name, "unreadable", fault_text(error))

    results: dict[str, Inspection | Problem] = {}
    on_progress("reading", 0, len(found.videos))
    for name, result in in_threads(inspect, found.videos, num_workers):
        results[name] = result
        on_progress("reading", len(results), len(found.videos))
    return {name: results[name] for name in found.videos}


class _CacheMaker:
    """Encodes what is missing in a dataset's folder."""

    def __init__(
        self,
        found: FoundFootage,
        out: Path,
        settings: FootageSettings,
        encoders: FootageEncoders,
        on_progress: ProgressCallback,
    ) -> None:
        self.found = found
        self.out = out
        self.settings = settings
        self.encoders = encoders
        self.on_progress = on_progress
        self.latents = ShardFolder(out / LATENTS)
        self.text = ShardFolder(out / TEXT, max_names=sys.maxsize)
        self.pixels = ShardFolder(out / PIXELS)

    def encode_clips(
        self, clips: Sequence[PlannedClip], num_workers: int, keep_pixels: bool
    ) -> tuple[int, dict[str, Problem]]:
        """Encode the clips whose latents are not there, or whose pixels.

        Returns:
            How many were encoded, and why not those of the videos that can no longer be read, by name.
        """
        missing = {self._clip_key(clip): clip for clip in clips if self._is_missing(clip, keep_pixels)}
        jobs: dict[str, list[PlannedClip]] = {}
        for clip in missing.values():
            jobs.setdefault(clip.source, []).append(clip)

        def read(source: str) -> Iterator[tuple[PlannedClip, Any] | Problem]:
            frames = read_clips(self.found.folder / source, jobs[source], self.settings.background)
            try:
                yield from zip(jobs[source], frames, strict=True)
            except (UnreadableVideoError, MemoryError) as error:
                yield Problem(source, "unreadable", fault_text(error))

        reasons: dict[str, Problem] = {}
        done = 0
        self.on_progress("encoding", 0, len(missing))
        try:
            for answer in in_threads(read, list(jobs), num_workers):
                if isinstance(answer, Problem):
                    reasons[answer.name] = answer
                    continue
                done += 1
                clip, frames = answer
                if self._clip_key(clip) not in self.latents.shard_of:
                    self.latents.put({self._clip_key(clip): self._encode_clip(clip, frames)})
                if keep_pixels:
                    self.pixels.put({self._pixels_key(clip): torch.from_numpy(frames)})
                self.on_progress("encoding", done, len(missing))
        except KeyboardInterrupt:
            self.latents.flush()
            self.pixels.flush()
            raise
        self.latents.flush()
        self.pixels.flush()
        # The same clip of a copy of the video, under another name, is missing too.
        failed = {
            clip.source: replace(reasons[read_from.source], name=clip.source)
            for clip in clips
            if (read_from := missing.get(self._clip_key(clip))) and read_from.source in reasons
        }
        return sum(clip.source not in failed for clip in missing.values()), failed

    def encode_captions(self, clips: Sequence[PlannedClip]) -> None:
        """Encode the captions whose embeddings are not there, and the empty one."""
        captions = {self._text_key(text): text for text in ("", *(clip.caption for clip in clips))}
        missing = {key: text for key, text in captions.items() if key not in self.text.shard_of}
        self.on_progress("captions", 0, len(missing))
        for done, (key, text) in enumerate(missing.items(), start=1):
            # One by one, so that an embedding does not depend on what else was missing.
            with torch.no_grad():
                encoded = self.encoders.text_encoder.encode([text])
            if not encoded.prompt_embeds.isfinite().all():
                raise FloatingPointError(
                    f"the embedding of {text[:80]!r} holds NaN or infinity in {self.encoders.dtype}"
                )
            embedding, mask = encoded.prompt_embeds[0].cpu(), encoded.attention_mask[0].cpu()
            self.text.put({key: embedding, key + MASK_SUFFIX: mask})
            self.on_progress("captions", done, len(missing))
        self.text.flush()

    def index(self, clips: Sequence[PlannedClip]) -> dict[str, Any]:
        """The index of the dataset: what it was made with, and where each clip is."""
        encoders = self.encoders
        counts = Counter(clip.bucket for clip in clips)
        empty = self._text_key("")
        codec = encoders.codec
        weights = {"codec_weights": codec_hash(codec)} if isinstance(codec, nn.Module) else {}
        return {
            "videogen_dataset": 1,
            "footage": str(self.found.folder),
            "model": {
                "name": encoders.name,
                "codec": encoders.codec_hash,
                **weights,
                "text_encoder": encoders.text_encoder_hash,
                "dtype": str(encoders.dtype).removeprefix("torch."),
            },
            "compression": list(encoders.codec.compression),
            "fps": self.settings.fps,
            "buckets": [{**asdict(bucket), "num_clips": counts[bucket]} for bucket in sorted(counts)],
            "unconditional": {"key": empty, "shard": self.text.shard_of[empty]},
            "clips": [self._entry(clip) for clip in clips],
        }

    def _entry(self, clip: PlannedClip) -> dict[str, Any]:
        latents, text, pixels = self._clip_key(clip), self._text_key(clip.caption), self._pixels_key(clip)
        entry = {
            "source": clip.source,
            "caption": clip.caption,
            "start": round(clip.start, 4),
            "end": round(clip.end, 4),
            **asdict(clip.bucket),
            "latents": {"key": latents, "shard": self.latents.shard_of[latents]},
            "text": {"key": text, "shard": self.text.shard_of[text]},
        }
        if pixels in self.pixels.shard_of:
            entry["pixels"] = {"key": pixels, "shard": self.pixels.shard_of[pixels]}
        return entry

    def _is_missing(self, clip: PlannedClip, keep_pixels: bool) -> bool:
        has_pixels = self._pixels_key(clip) in self.pixels.shard_of
        return self._clip_key(clip) not in self.latents.shard_of or (keep_pixels and not has_pixels)

    @torch.no_grad()
    def _encode_clip(self, clip: PlannedClip, frames: Any) -> Tensor:
        """Latents `(C, f, h, w)`; each clip alone, so that they do not depend on what else was missing."""
        codec = self.encoders.codec
        latents = codec.encode(frames_to_pixels(frames[None]).to(codec.device, codec.dtype))[0].cpu()
        if not latents.isfinite().all():
            raise FloatingPointError(
                f"the latents of {clip.source} hold NaN or infinity in {self.encoders.dtype}: "
                "choose another `dtype`"
            )
        return latents

    def _clip_key(self, clip: PlannedClip) -> str:
        return content_key(
            version=CACHE_VERSION,
            video=clip.sha256,
            frames=clip.frame_idxs,
            box=clip.box,
            size=(clip.bucket.height, clip.bucket.width),
            background=self.settings.background,
            codec=self.encoders.codec_hash,
            dtype=str(self.encoders.dtype),
        )

    def _pixels_key(self, clip: PlannedClip) -> str:
        return content_key(
            version=CACHE_VERSION,
            pixels_of=clip.sha256,
            frames=clip.frame_idxs,
            box=clip.box,
            size=(clip.bucket.height, clip.bucket.width),
            background=self.settings.background,
        )

    def _text_key(self, caption: str) -> str:
        return content_key(
            version=CACHE_VERSION,
            caption=caption,
            text_encoder=self.encoders.text_encoder_hash,
            dtype=str(self.encoders.dtype),
        )


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _unknown_words(plans: Sequence[VideoPlan], text_encoder: PromptEncoder) -> list[str]:
    """What to change about captions whose words a closed vocabulary does not have."""
    if not isinstance(text_encoder, TextEncoder):
        return []
    captions = sorted({clip.caption for plan in plans for clip in plan.clips})
    unknown = Counter(word for text in captions for word in text_encoder.tokenizer.report(text).unknown)
    if not unknown:
        return []
    shown = ", ".join(f"“{word}”" for word, _ in unknown.most_common(8))
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    return [
        f"The text encoder of this model has a closed vocabulary and reads {len(unknown)} words of your "
        f"captions all as “unknown”: {shown}{more}. Captions that differ only in these words look the same "
        "to it."
    ]
