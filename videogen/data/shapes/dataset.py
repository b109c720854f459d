"""The world `shapes` as an endless training stream, as whole clips or as crops for the codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch

from videogen.data.batch import Batch
from videogen.data.languages import LANGUAGES, check_languages, foreign_caption
from videogen.data.shapes.captions import Description, describe
from videogen.data.shapes.render import draw
from videogen.data.shapes.world import WORLDS, Scene, World, X, Y

FPS = 8.0


@dataclass(frozen=True)
class Drill:
    """Scenes that are shown more often than the world shows them.

    Attributes:
        rate: Their share of a stream, in (0, 1].
        motions: Keys of `MOTIONS` that they are drawn from; all of the world if empty.
        shapes: The same of shapes.
        sizes: The same of sizes.
        turn: How far rotating objects turn in them; see `World`.
    """

    rate: float
    motions: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    turn: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a share out of range, and a drill of nothing."""
        if not 0 < self.rate <= 1:
            raise ValueError(f"`rate` of a drill must be above 0 and at most 1, got {self.rate}")
        if not (self.motions or self.shapes or self.sizes):
            raise ValueError("a drill needs `motions`, `shapes` or `sizes`")
        if self.turn is not None and (len(self.turn) != 2 or "rotate" not in self.motions):
            raise ValueError(f"`turn` must be a pair, for a drill of `rotate`, got {self.turn}")

    def narrow(self, world: World) -> World:
        """The part of a world that the drill draws from.

        Raises:
            ValueError: If it names what the world does not show.
        """
        chosen = {"motions": self.motions, "shapes": self.shapes, "sizes": self.sizes}
        for name, items in chosen.items():
            unknown = [item for item in items if item not in getattr(world, name)]
            if unknown:
                raise ValueError(f"`{name}` of a drill must be in its world, got {', '.join(unknown)}")
        parts: dict[str, Any] = {name: items for name, items in chosen.items() if items}
        if self.turn:
            parts["turn"] = self.turn
        return replace(world, **parts)


@dataclass(frozen=True)
class ShapesClips:
    """Rendered clips with captions.

    Attributes:
        world: A key of `WORLDS`.
        num_frames: Frames per clip.
        size: Side of the frames in pixels.
        seed: Of the stream.
        two_object_rate: Share of scenes with two objects; None leaves it to the world.
        first_world: A smaller world to begin with, a key of `WORLDS`; None begins with `world`.
        first_clips: How many clips at the start of the stream are of that world.
        drills: What is shown more often than the world shows it, after the first clips.
        foreign_rate: Share of clips that are captioned in one of `languages`, in [0, 1].
        languages: Which ones, some of `LANGUAGES`.
        annotated: Whether batches have `mentions` and `masks`; captions in other languages mention nothing.
    """

    world: str = "shapes"
    num_frames: int = 16
    size: int = 64
    seed: int = 0
    two_object_rate: float | None = None
    first_world: str | None = None
    first_clips: int = 0
    drills: tuple[Drill, ...] = ()
    foreign_rate: float = 0.0
    languages: tuple[str, ...] = LANGUAGES
    annotated: bool = False

    def __post_init__(self) -> None:
        """Refuse a world that does not exist, and drills that are not in it or more than all."""
        if self.world not in WORLDS:
            raise ValueError(f"`world` must be one of {', '.join(WORLDS)}, got {self.world!r}")
        check_languages(self.foreign_rate, self.languages)
        for drill in self.drills:
            drill.narrow(WORLDS[self.world])
        if sum(drill.rate for drill in self.drills) > 1:
            raise ValueError("the rates of `drills` must not add up to more than 1")

    def scene(self, sample_id: int) -> Scene:
        """The scene at a position of the stream."""
        if self.first_world is not None and sample_id < self.first_clips:
            return WORLDS[self.first_world].sample(self.seed, sample_id, self.num_frames)
        world = WORLDS[self.world]
        if self.two_object_rate is not None:
            world = replace(world, two_object_rate=self.two_object_rate)
        share = Random(f"drill/{self.seed}/{sample_id}").random() if self.drills else 0.0
        for drill in self.drills:
            if share < drill.rate:
                world = drill.narrow(world)
                break
            share -= drill.rate
        return world.sample(self.seed, sample_id, self.num_frames)

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Render the clips at these positions; see `ClipSource`."""
        return self.batch_of([self.scene(sample_id) for sample_id in sample_ids], sample_ids, device)

    def batch_of(
        self, scenes: Sequence[Scene], sample_ids: Sequence[int], device: torch.device | str = "cpu"
    ) -> Batch:
        """Render scenes at these positions, or parts of them, and say what is in them."""
        rendering = draw(scenes, self.size, device)
        said = [self._describe(*pair) for pair in zip(scenes, sample_ids, strict=True)]
        tracks = [scene.tracks for scene in scenes] if self.annotated else None
        return rendering.batch(sample_ids, said, FPS, tracks)

    def _describe(self, scene: Scene, sample_id: int) -> Description:
        foreign = foreign_caption(
            scene, Random(f"language/{self.seed}/{sample_id}"), self.foreign_rate, self.languages
        )
        if foreign is not None:
            return Description(foreign)
        return describe(scene, Random(f"caption/{self.seed}/{sample_id}"))


@dataclass(frozen=True)
class ShapesCrops:
    """Short crops around the objects, where all the information of a clip is: four times cheaper per edge.

    They have the captions of the clips.

    Attributes:
        clips: Where they are cut from.
        num_frames: Consecutive frames of a crop.
        size: Side of a crop in pixels; that of the clips for whole frames.
        object_rate: Share of crops cut around an object rather than anywhere.
    """

    clips: ShapesClips = ShapesClips()
    num_frames: int = 4
    size: int = 32
    object_rate: float = 0.8

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Render and cut the crops at these positions; see `ClipSource`."""
        scenes, corners = [], []
        for sample_id in sample_ids:
            rng = Random(f"crop/{self.clips.seed}/{sample_id}")
            scene = self.clips.scene(sample_id)
            first = rng.randrange(0, scene.tracks.shape[1] - self.num_frames + 1)
            scene = Scene(scene.objects, scene.tracks[:, first : first + self.num_frames], scene.background)
            scenes.append(scene)
            corners.append(self._corner(scene, rng))
        return self.clips.batch_of(scenes, sample_ids, device).cut(corners, self.size)

    def _corner(self, scene: Scene, rng: Random) -> tuple[int, int]:
        """Top left corner, so that the centre lies near an object's outline as often as inside it."""
        track = rng.choice(list(scene.tracks))[rng.randrange(self.num_frames)]
        reach = 1.2 * float(track[2])
        row, column = (float(track[axis]) + rng.uniform(-reach, reach) for axis in (Y, X))
        if rng.random() >= self.object_rate:
            row, column = rng.random(), rng.random()
        limit = self.clips.size - self.size
        top, left = (round(centre * self.clips.size - self.size / 2) for centre in (row, column))
        return min(max(top, 0), limit), min(max(left, 0), limit)
