"""The world `emoji` as an endless training stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from videogen.data.batch import Batch
from videogen.data.emoji.artwork import load_artwork
from videogen.data.emoji.render import render
from videogen.data.emoji.world import BACKDROP_COLOURS, SIZES, EmojiScene, EmojiWorld
from videogen.data.shapes.world import MOTIONS

FPS = 8.0


@dataclass(frozen=True)
class EmojiClips:
    """Composed clips with captions.

    Attributes:
        folder: Of the artwork; see `Artwork`.
        num_frames: Frames per clip.
        size: Side of the frames in pixels.
        seed: Of the stream.
        subjects: Names of those that occur; all if empty.
        sizes: Keys of `SIZES` that occur.
        motions: Those of `MOTIONS` that occur.
        backdrops: Keys of `BACKDROP_COLOURS` that occur.
        two_object_rate: Share of scenes with two objects.
    """

    folder: str | Path
    num_frames: int = 16
    size: int = 64
    seed: int = 0
    subjects: tuple[str, ...] = ()
    sizes: tuple[str, ...] = tuple(SIZES)
    motions: tuple[str, ...] = MOTIONS
    backdrops: tuple[str, ...] = tuple(BACKDROP_COLOURS)
    two_object_rate: float = 0.25

    def __post_init__(self) -> None:
        """Refuse a folder without artwork, and what the world does not have."""
        self.world  # noqa: B018  (made here, so that its errors come here)

    @cached_property
    def world(self) -> EmojiWorld:
        """What the scenes are drawn from."""
        return EmojiWorld(
            load_artwork(self.folder),
            subjects=self.subjects,
            sizes=self.sizes,
            motions=self.motions,
            backdrops=self.backdrops,
            two_object_rate=self.two_object_rate,
        )

    def scene(self, sample_id: int) -> EmojiScene:
        """The scene at a position of the stream."""
        return self.world.sample(self.seed, sample_id, self.num_frames)

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Compose the clips at these positions; see `ClipSource`."""
        scenes = [self.scene(sample_id) for sample_id in sample_ids]
        pixels = render(scenes, self.world.artwork, self.size, device).pixels
        captions = tuple(" and ".join(getattr(o, "name", None) or o.shape for o in s.objects) for s in scenes)
        return Batch(tuple(sample_ids), pixels, captions, FPS)
