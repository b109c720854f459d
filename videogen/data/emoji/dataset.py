"""The world `emoji` as an endless training stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

import torch

from videogen.data.batch import Batch
from videogen.data.emoji.artwork import Artwork, load_artwork
from videogen.data.emoji.captions import describe
from videogen.data.emoji.names import Naming, namings
from videogen.data.emoji.render import render
from videogen.data.emoji.world import BACKDROP_COLOURS, SIZES, EmojiScene, EmojiWorld
from videogen.data.languages import LANGUAGES, check_languages, foreign_caption
from videogen.data.shapes.captions import Description
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
        kinds: Those of `BACKDROP_KINDS` that occur, each as often as it is listed.
        two_object_rate: Share of scenes with two objects.
        foreign_rate: Share of clips that are captioned in one of `languages`, in [0, 1]; those that show a
            subject without a name there stay English.
        languages: Which ones, some of `LANGUAGES`.
        with_held_out: Whether held-out subjects and motions occur too: for those who judge clips, not for
            generators.
        annotated: Whether batches have `mentions` and `masks`; captions in other languages mention nothing.
    """

    folder: str | Path
    num_frames: int = 16
    size: int = 64
    seed: int = 0
    subjects: tuple[str, ...] = ()
    sizes: tuple[str, ...] = tuple(SIZES)
    motions: tuple[str, ...] = MOTIONS
    backdrops: tuple[str, ...] = tuple(BACKDROP_COLOURS)
    kinds: tuple[str, ...] = EmojiWorld.kinds
    two_object_rate: float = 0.25
    foreign_rate: float = 0.0
    languages: tuple[str, ...] = LANGUAGES
    with_held_out: bool = False
    annotated: bool = False

    def __post_init__(self) -> None:
        """Refuse a folder without artwork, clips of nothing, and what the world does not have."""
        for name, least in (("num_frames", 1), ("size", 8)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        check_languages(self.foreign_rate, self.languages)
        _world(self)

    @property
    def world(self) -> EmojiWorld:
        """What the scenes are drawn from."""
        return _world(self)

    @property
    def namings(self) -> dict[str, Naming]:
        """How captions may call the subjects, by name."""
        return _namings(self.world.artwork)

    def scene(self, sample_id: int) -> EmojiScene:
        """The scene at a position of the stream."""
        return self.world.sample(self.seed, sample_id, self.num_frames)

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Compose the clips at these positions; see `ClipSource`."""
        return self.batch_of([self.scene(sample_id) for sample_id in sample_ids], sample_ids, device)

    def batch_of(
        self, scenes: Sequence[EmojiScene], sample_ids: Sequence[int], device: torch.device | str = "cpu"
    ) -> Batch:
        """Compose scenes at these positions, or parts of them, and say what is in them."""
        rendering = render(scenes, self.world.artwork, self.size, device)
        said = [self._describe(*pair) for pair in zip(scenes, sample_ids, strict=True)]
        tracks = [scene.tracks for scene in scenes] if self.annotated else None
        return rendering.batch(sample_ids, said, FPS, tracks)

    def _describe(self, scene: EmojiScene, sample_id: int) -> Description:
        foreign = foreign_caption(
            scene, Random(f"emoji language/{self.seed}/{sample_id}"), self.foreign_rate, self.languages
        )
        if foreign is not None:
            return Description(foreign)
        return describe(scene, self.namings, Random(f"emoji caption/{self.seed}/{sample_id}"))


# Kept beside the clips rather than in them, so that they stay small when they are sent to worker processes.
@lru_cache(maxsize=16)
def _world(clips: EmojiClips) -> EmojiWorld:
    return EmojiWorld(
        load_artwork(clips.folder),
        subjects=clips.subjects,
        sizes=clips.sizes,
        motions=clips.motions,
        backdrops=clips.backdrops,
        kinds=clips.kinds,
        two_object_rate=clips.two_object_rate,
        with_held_out=clips.with_held_out,
    )


@lru_cache(maxsize=4)
def _namings(artwork: Artwork) -> dict[str, Naming]:
    return namings(artwork.subjects)
