"""The captioned world `emoji`: what can be seen in it, how a scene is drawn at random, what is held out.

A scene is plain data, as in the world `shapes`, whose motions, shapes and courses it shares: what each
object is, where it is at every frame, and what lies behind. `render` turns scenes into pixels, `captions`
into words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

import numpy as np

from videogen.data.emoji.artwork import NUM_TICKS, Artwork
from videogen.data.shapes import world as shapes
from videogen.data.shapes.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    RADIUS,
    SHAPES,
    ShapeObject,
    X,
    Y,
    course,
)

SIZES: dict[str, float] = {"small": 12 / 64, "medium": 17 / 64, "large": 24 / 64}
"""Half the side of an artwork of each size, as a fraction of the frame's shorter side."""

BACKDROP_COLOURS: dict[str, tuple[int, int, int]] = {
    **BACKGROUNDS,
    **COLOURS,
    "brown": (120, 75, 40),
    "teal": (20, 120, 120),
    "lavender": (200, 180, 240),
    "sky blue": (145, 205, 245),
}
BACKDROP_KINDS = ("plain", "gradient", "striped", "dotted", "checkered", "mottled")

PLACES = (
    "top left", "top", "top right",
    "left", "middle", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
"""Where the centre of an object is in the first frame, row by row; see `place_of`."""

MAX_PAIR_REACH = shapes.MAX_PAIR_SIZE
"""Largest sum of the reaches of two objects that can pass each other, a fraction of the frame."""

NUM_ARRANGEMENTS = 32
"""How many places are tried for two objects before others are drawn."""

HELD_OUT_EVERY_MOTION, HELD_OUT_EVERY_SUBJECT = 8, 26


@dataclass(frozen=True)
class EmojiObject:
    """What a caption says of one subject.

    Attributes:
        subject_idx: Its place in the artwork.
        name: Of the subject.
        size: A key of `SIZES`.
        motion: One of `MOTIONS`, on top of the subject's own animation.
    """

    subject_idx: int
    name: str
    size: str
    motion: str

    @property
    def is_held_out(self) -> bool:
        """Whether this (subject, motion), or the whole subject, is kept out of training."""
        return is_held_out(self.subject_idx, self.motion)


@dataclass(frozen=True)
class Backdrop:
    """What lies behind the objects: one named colour, shaded.

    Attributes:
        colour: A key of `BACKDROP_COLOURS`.
        kind: One of `BACKDROP_KINDS`.
        contrast: Brightness between the ends of a gradient or the parts of a texture, in 8-bit levels.
        angle: Direction of the gradient or of the texture, in radians.
        period: Of a texture, a fraction of the frame's shorter side.
        seed: Of what is random in a texture.
    """

    colour: str
    kind: str = "plain"
    contrast: float = 45.0
    angle: float = 0.0
    period: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class EmojiScene:
    """Everything that the renderer needs to know about one clip.

    Attributes:
        objects: One or two, painted in this order: the last one is in front.
        tracks: `(num_objects, F, 5)` float32: x, y, radius (fractions of the frame), angle (radians), alpha.
            The radius of a subject is half the side of its artwork.
        ticks: For each object, the frame of its loop that is shown first; 0 for shapes.
        backdrop: What is behind them.
        overlap: Whether the objects were placed one before the other, rather than apart.
    """

    objects: tuple[EmojiObject | ShapeObject, ...]
    tracks: np.ndarray
    ticks: tuple[int, ...]
    backdrop: Backdrop
    overlap: bool = False


@dataclass(frozen=True)
class EmojiWorld:
    """Draws scenes of the subjects of an artwork.

    Attributes:
        artwork: Where the subjects are.
        subjects: Names of those that occur; all if empty.
        sizes: Keys of `SIZES` that occur.
        motions: Those of `MOTIONS` that occur.
        backdrops: Keys of `BACKDROP_COLOURS` that occur.
        kinds: Those of `BACKDROP_KINDS` that occur, each as often as it is listed.
        two_object_rate: Share of scenes with two objects, in [0, 1].
        shape_rate: Share of those in which the second one is a shape, in [0, 1].
        overlap_rate: Share of those in which one object is in front of the other, in [0, 1].
        with_held_out: Whether held-out subjects and motions occur too, as a judge of clips must know them.
    """

    artwork: Artwork
    subjects: tuple[str, ...] = ()
    sizes: tuple[str, ...] = tuple(SIZES)
    motions: tuple[str, ...] = MOTIONS
    backdrops: tuple[str, ...] = tuple(BACKDROP_COLOURS)
    kinds: tuple[str, ...] = ("plain", "plain", "plain", *BACKDROP_KINDS)
    two_object_rate: float = 0.25
    shape_rate: float = 0.5
    overlap_rate: float = 0.2
    with_held_out: bool = False

    def __post_init__(self) -> None:
        """Refuse what the world does not have."""
        known = {"sizes": SIZES, "motions": MOTIONS, "backdrops": BACKDROP_COLOURS, "kinds": BACKDROP_KINDS}
        for field, values in known.items():
            chosen = getattr(self, field)
            unknown = [item for item in chosen if item not in values]
            if unknown or not chosen:
                raise ValueError(f"`{field}` must be some of {', '.join(values)}, got {chosen!r}")
        for field in ("two_object_rate", "shape_rate", "overlap_rate"):
            rate = getattr(self, field)
            if not 0 <= rate <= 1:
                raise ValueError(f"`{field}` must be in [0, 1], got {rate}")
        if self.two_object_rate > 0 and "small" not in self.sizes:
            raise ValueError(
                f"`two_object_rate` must be 0 without the size small: no two objects fit, got {self.sizes!r}"
            )
        if self.two_object_rate > 0 and self.shape_rate == 0 and len(set(self.subjects)) == 1:
            raise ValueError("`two_object_rate` must be 0 with one subject and `shape_rate` 0")
        if not self.with_held_out and not _choices(self, held_out=False):
            raise ValueError(
                "nothing is left to train on: all of these subjects with these motions are held out, "
                f"got subjects {self.subjects!r} and motions {self.motions!r}"
            )

    def object_of(self, name: str, size: str, motion: str) -> EmojiObject:
        """The subject of this name.

        Raises:
            ValueError: If the artwork has none of this name, or size or motion do not exist.
        """
        for field, value, values in (("size", size, SIZES), ("motion", motion, MOTIONS)):
            if value not in values:
                raise ValueError(f"`{field}` must be one of {', '.join(values)}, got {value!r}")
        return EmojiObject(self.artwork.index(name), name, size, motion)

    def sample(self, seed: int, index: int, num_frames: int = 16) -> EmojiScene:
        """Draw scene `index` of the endless training stream `seed`.

        Held-out objects never occur in it, unless the world is one `with_held_out`.

        The scene depends on the world and `(seed, index)` alone, so any clip of a run can be made again by
        itself.

        Raises:
            ValueError: If `num_frames` is below 1.
        """
        rng = Random(f"emoji/{seed}/{index}")
        if rng.random() >= self.two_object_rate:
            return self._place((self._sample_object(rng),), rng, num_frames, overlap=False)
        overlap = rng.random() < self.overlap_rate
        while True:
            first = self._sample_object(rng)
            is_shape = rng.random() < self.shape_rate
            second = self._sample_shape(rng) if is_shape else self._sample_object(rng)
            pair = (first, second) if rng.random() < 0.5 else (second, first)
            if not self.pair_fits(*pair):
                continue
            scene = self._place(pair, rng, num_frames, overlap=overlap)
            tracks = self._arrange(scene, rng)
            if tracks is not None:
                return replace(scene, tracks=tracks)

    def scene_of(
        self,
        objects: tuple[EmojiObject | ShapeObject, ...],
        seed: int,
        num_frames: int = 16,
    ) -> EmojiScene:
        """A scene that shows the given objects, everything else drawn from `seed`."""
        return self._place(objects, Random(f"emoji scene/{seed}"), num_frames, overlap=False)

    def sample_prompt_object(self, rng: Random, *, held_out: bool) -> EmojiObject:
        """Draw what an evaluation prompt asks for, held out of training or not.

        Raises:
            ValueError: If nothing of this world is held out.
        """
        if not _choices(self, held_out):
            raise ValueError("`held_out` must be False: nothing of this world is held out")
        return self._object_of(rng, _choices(self, held_out))

    def reach(self, item: EmojiObject | ShapeObject) -> float:
        """How far an object extends from its centre while it moves, a fraction of the frame."""
        return _radius(item) * self._reach_in_radii(item)

    def pair_fits(self, first: EmojiObject | ShapeObject, second: EmojiObject | ShapeObject) -> bool:
        """Whether two objects can share a frame: told apart, and small enough to pass each other."""
        return _what(first) != _what(second) and self.reach(first) + self.reach(second) <= MAX_PAIR_REACH

    def clearance(self, scene: EmojiScene) -> np.ndarray:
        """`(F,)` gap between two objects at every frame, a fraction of the frame; negative if they touch."""
        return self._clearance(scene.objects, scene.tracks)

    def _clearance(self, objects: Sequence[EmojiObject | ShapeObject], tracks: np.ndarray) -> np.ndarray:
        """`(..., F)` of tracks `(..., 2, F, 5)`."""
        reaches = [
            self.artwork.extent(item.subject_idx).around
            if isinstance(item, EmojiObject)
            else self._reach_in_radii(item)
            for item in objects
        ]
        first, second = tracks[..., 0, :, :], tracks[..., 1, :, :]
        distance = np.hypot(first[..., X] - second[..., X], first[..., Y] - second[..., Y])
        return distance - reaches[0] * first[..., RADIUS] - reaches[1] * second[..., RADIUS]

    def _arrange(self, scene: EmojiScene, rng: Random) -> np.ndarray | None:
        """The tracks of two objects, moved so that these stay apart or, with `overlap`, always overlap.

        What overlaps hides no more than about half of what lies behind. None if no move that was tried does.
        """
        margins = [self.reach(item) + 0.5 / 64 for item in scene.objects]
        places = scene.tracks[:, :, [X, Y]]  # (2, F, 2)
        least = np.array(margins)[:, None] - places.min(1)
        most = 1 - np.array(margins)[:, None] - places.max(1)
        shares = np.random.default_rng(rng.getrandbits(64)).random((NUM_ARRANGEMENTS, 2, 2))
        moves = least + shares * (most - least)
        tracks = np.repeat(scene.tracks[None], NUM_ARRANGEMENTS, axis=0)
        tracks[..., [X, Y]] += moves[:, :, None].astype(np.float32)
        gaps = self._clearance(scene.objects, tracks)  # (NUM_ARRANGEMENTS, F)
        if scene.overlap:
            smaller = min(self.reach(item) for item in scene.objects)
            fits = (gaps.max(1) < -0.2 * smaller) & (gaps.min(1) > -1.1 * smaller)
        else:
            fits = gaps.min(1) > 0
        return tracks[fits.argmax()] if fits.any() else None

    def _reach_in_radii(self, item: EmojiObject | ShapeObject) -> float:
        if isinstance(item, ShapeObject):
            return shapes.REACH_ROTATED if item.motion == "rotate" else max(1.0, shapes.REACH[item.shape])
        extent = self.artwork.extent(item.subject_idx)
        return extent.around if item.motion == "rotate" else extent.along

    def _place(
        self, objects: tuple[EmojiObject | ShapeObject, ...], rng: Random, num_frames: int, *, overlap: bool
    ) -> EmojiScene:
        if num_frames < 1:
            raise ValueError(f"`num_frames` must be at least 1, got {num_frames}")
        tracks = [
            course(item.motion, _radius(item), self._reach_in_radii(item), rng, num_frames)
            for item in objects
        ]
        ticks = tuple(rng.randrange(NUM_TICKS) if isinstance(item, EmojiObject) else 0 for item in objects)
        return EmojiScene(objects, np.stack(tracks), ticks, self._sample_backdrop(objects, rng), overlap)

    def _sample_object(self, rng: Random) -> EmojiObject:
        return self._object_of(rng, _choices(self, None if self.with_held_out else False))

    def _object_of(self, rng: Random, choices: Sequence[tuple[int, str]]) -> EmojiObject:
        idx, motion = rng.choice(choices)
        return EmojiObject(idx, self.artwork.subjects[idx].name, rng.choice(self.sizes), motion)

    def _sample_shape(self, rng: Random) -> ShapeObject:
        while True:
            item = ShapeObject(
                rng.choice(tuple(COLOURS)),
                rng.choice(SHAPES),
                rng.choice(self.sizes),
                rng.choice(self.motions),
            )
            if not item.is_held_out and not (item.motion == "rotate" and item.shape in shapes.ROUND_SHAPES):
                return item

    def _sample_backdrop(self, objects: tuple[EmojiObject | ShapeObject, ...], rng: Random) -> Backdrop:
        taken = {item.colour for item in objects if isinstance(item, ShapeObject)}
        free = [colour for colour in self.backdrops if colour not in taken]
        return Backdrop(
            rng.choice(free or self.backdrops),
            rng.choice(self.kinds),
            contrast=rng.uniform(30, 60),
            angle=rng.uniform(0, 2 * math.pi),
            period=rng.uniform(12 / 64, 24 / 64),
            seed=rng.randrange(2**31),
        )


@lru_cache(maxsize=32)
def _choices(world: EmojiWorld, held_out: bool | None) -> tuple[tuple[int, str], ...]:
    """All subjects of a world with all motions, held out of training or not; None for both."""
    artwork = world.artwork
    idxs = [artwork.index(name) for name in world.subjects] or range(len(artwork))
    return tuple(
        (idx, motion)
        for idx in idxs
        for motion in world.motions
        if held_out is None or is_held_out(idx, motion) == held_out
    )


def is_held_out(subject_idx: int, motion: str) -> bool:
    """Whether a subject with a motion is kept out of training, to measure generalisation.

    Every 26th subject is, with all its motions, and two motions of every other one.
    """
    return (
        subject_idx % HELD_OUT_EVERY_SUBJECT == 0
        or (subject_idx + MOTIONS.index(motion)) % HELD_OUT_EVERY_MOTION == 0
    )


def place_of(x: float, y: float) -> str:
    """Which of `PLACES` a point of the frame is in; the middle is a fifth wide and high."""
    column, row = ((value > 0.4) + (value > 0.6) for value in (x, y))
    return PLACES[3 * row + column]


def _radius(item: EmojiObject | ShapeObject) -> float:
    return SIZES[item.size] if isinstance(item, EmojiObject) else shapes.SIZES[item.size]


def _what(item: EmojiObject | ShapeObject) -> str:
    return item.name if isinstance(item, EmojiObject) else item.colour
