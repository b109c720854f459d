"""The captioned world `shapes`: what can be seen in it, how a scene is drawn at random, what is held out.

A scene is plain data: what each object is (`ShapeObject`), where it is at every frame (`tracks`) and what
lies behind it. `render` turns scenes into pixels, `captions` into words, `parser` reads the attributes back
out of a clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from random import Random

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "green": (45, 175, 65),
    "blue": (45, 85, 230),
    "yellow": (245, 220, 45),
    "orange": (245, 135, 25),
    "purple": (145, 55, 200),
    "cyan": (45, 210, 225),
    "pink": (250, 125, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
SIZES: dict[str, float] = {"small": 10 / 64, "medium": 14 / 64, "large": 18 / 64}
"""Radius of each size as a fraction of the frame's shorter side."""
MOTIONS = (
    "left", "right", "up", "down", "up-left", "up-right", "down-left", "down-right",
    "bounce", "orbit", "grow", "shrink", "rotate", "fade in", "fade out", "still",
)  # fmt: skip
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "navy": (15, 20, 80),
    "beige": (235, 220, 190),
}

DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1),
    "up-left": (-1, -1), "up-right": (1, -1), "down-left": (-1, 1), "down-right": (1, 1),
}  # fmt: skip
"""Unit steps `(dx, dy)` of the straight motions; y grows downwards, as in pictures."""

REACH: dict[str, float] = {
    "circle": 1.0, "square": 0.82, "triangle": 1.15, "star": 1.1, "ring": 1.0, "cross": 1.0,
}  # fmt: skip
"""How far a shape of radius 1 extends from its centre along the axes, not rotated."""
REACH_ROTATED = 1.16
"""The same for any shape that rotates (the corner of a square of half side 0.82)."""

ROUND_SHAPES = frozenset({"circle", "ring"})
"""Shapes whose rotation cannot be seen; they never rotate."""

MAX_PAIR_SIZE = 28 / 64
"""Largest sum of the radii of two objects that can pass each other."""

SMALLEST_SCALE = 0.4
"""Radius at the small end of `grow` and `shrink`, relative to the size that the caption names."""

X, Y, RADIUS, ANGLE, ALPHA = range(5)
"""Columns of a track."""


@dataclass(frozen=True)
class ShapeObject:
    """What a caption says of one object."""

    colour: str
    shape: str
    size: str
    motion: str

    @property
    def is_held_out(self) -> bool:
        """Whether this (colour, shape, motion) is kept out of training, to measure generalisation."""
        colour_idx = list(COLOURS).index(self.colour)
        return (colour_idx + 2 * SHAPES.index(self.shape) + 3 * MOTIONS.index(self.motion)) % 10 == 0


@dataclass(frozen=True)
class Background:
    """A plain colour, or a linear gradient from it.

    Attributes:
        name: A key of `BACKGROUNDS`.
        gradient: Brightness added from one side of the frame to the other, in 8-bit levels; 0 is plain.
        angle: Direction of the gradient in radians.
    """

    name: str
    gradient: float = 0.0
    angle: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything that the renderer needs to know about one clip.

    Attributes:
        objects: One or two objects, painted in this order.
        tracks: `(num_objects, F, 5)` float32: x, y, radius (fractions of the frame), angle (radians), alpha.
        background: What is behind them.
    """

    objects: tuple[ShapeObject, ...]
    tracks: np.ndarray
    background: Background


@dataclass(frozen=True)
class World:
    """A part of the world: which attributes occur, and how often two objects do.

    Attributes:
        two_object_rate: Share of scenes with two objects, in [0, 1].
        gradient_rate: Share of scenes whose background is a gradient, in [0, 1].
        turn: Range of the angle, in half turns, by which a rotating object turns clockwise (anticlockwise
            below 0) during a clip; None for 0.9 to 1.5 half turns, either way.
    """

    colours: tuple[str, ...] = tuple(COLOURS)
    shapes: tuple[str, ...] = SHAPES
    sizes: tuple[str, ...] = tuple(SIZES)
    motions: tuple[str, ...] = MOTIONS
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)
    two_object_rate: float = 0.25
    gradient_rate: float = 0.3
    turn: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse pairs where no two objects can share a frame."""
        if self.two_object_rate > 0 and not self.has_pairs:
            raise ValueError("`two_object_rate` must be 0: no two objects of this world fit into a frame")

    @property
    def has_pairs(self) -> bool:
        """Whether there are two objects that can share a frame; see `pair_fits`."""
        smallest = min(self.sizes, key=SIZES.__getitem__)
        return len(self.colours) > 1 and 2 * SIZES[smallest] <= MAX_PAIR_SIZE

    def objects(self, *, held_out: bool) -> tuple[ShapeObject, ...]:
        """All objects whose (colour, shape, motion) is held out of training, or all those that are not."""
        return _objects(self, held_out)

    def sample(self, seed: int, index: int, num_frames: int = 16) -> Scene:
        """Draw scene `index` of the endless training stream `seed`; held-out objects never occur in it.

        The scene depends on `(seed, index)` alone, so any clip of a run can be made again by itself.

        Raises:
            ValueError: If `num_frames` is below 1.
        """
        rng = Random(f"{seed}/{index}")
        if rng.random() < self.two_object_rate:
            return self._sample_pair(rng, num_frames)
        return self._place((self._sample_object(rng),), self._sample_background(rng), rng, num_frames)

    def scene_of(self, objects: tuple[ShapeObject, ...], seed: int, num_frames: int = 16) -> Scene:
        """A scene that shows the given objects, everything else drawn from `seed`."""
        rng = Random(f"scene/{seed}")
        return self._place(objects, self._sample_background(rng), rng, num_frames)

    def sample_prompt_objects(
        self, rng: Random, num_objects: int, *, held_out: bool
    ) -> tuple[ShapeObject, ...]:
        """Draw what an evaluation prompt asks for; with `held_out`, at least the first object is held out.

        Raises:
            ValueError: If two objects are asked for and no two of this world fit into a frame.
        """
        if num_objects > 1 and not self.has_pairs:
            raise ValueError(f"`num_objects` must be 1 in this world, got {num_objects}")
        while True:
            objects = [rng.choice(self.objects(held_out=held_out))]
            while len(objects) < num_objects:
                objects.append(self._sample_object(rng))
            if num_objects == 1 or pair_fits(*objects):
                return tuple(objects)

    def _sample_pair(self, rng: Random, num_frames: int) -> Scene:
        while True:
            pair = (self._sample_object(rng), self._sample_object(rng))
            if not pair_fits(*pair):
                continue
            background = self._sample_background(rng)
            for _ in range(8):
                scene = self._place(pair, background, rng, num_frames)
                if clearance(scene) > 0:
                    return scene

    def _place(
        self, objects: tuple[ShapeObject, ...], background: Background, rng: Random, num_frames: int
    ) -> Scene:
        return place(objects, background, rng, num_frames, turn=self.turn)

    def _sample_object(self, rng: Random) -> ShapeObject:
        while True:
            item = ShapeObject(
                rng.choice(self.colours),
                rng.choice(self.shapes),
                rng.choice(self.sizes),
                rng.choice(self.motions),
            )
            if not item.is_held_out and not (item.motion == "rotate" and item.shape in ROUND_SHAPES):
                return item

    def _sample_background(self, rng: Random) -> Background:
        background = Background(rng.choice(self.backgrounds))
        if rng.random() < self.gradient_rate:
            background = replace(background, gradient=rng.uniform(30, 60), angle=rng.uniform(0, 2 * math.pi))
        return background


SHAPES_WORLD = World()
SHAPES_MINI = World(
    colours=("red", "green", "blue", "yellow"),
    shapes=("circle", "square", "triangle"),
    sizes=("large",),
    motions=("left", "right", "up", "down"),
    backgrounds=("black", "white"),
    two_object_rate=0.0,
    gradient_rate=0.0,
)
WORLDS: dict[str, World] = {"shapes": SHAPES_WORLD, "shapes-mini": SHAPES_MINI}


@cache
def _objects(world: World, held_out: bool) -> tuple[ShapeObject, ...]:
    every = (
        ShapeObject(colour, shape, size, motion)
        for colour in world.colours
        for shape in world.shapes
        for motion in world.motions
        for size in world.sizes
        if not (motion == "rotate" and shape in ROUND_SHAPES)
    )
    return tuple(item for item in every if item.is_held_out == held_out)


def pair_fits(first: ShapeObject, second: ShapeObject) -> bool:
    """Whether two objects can share a frame: told apart by colour, and small enough to pass each other."""
    return first.colour != second.colour and SIZES[first.size] + SIZES[second.size] <= MAX_PAIR_SIZE


def place(
    objects: tuple[ShapeObject, ...],
    background: Background,
    rng: Random,
    num_frames: int,
    turn: tuple[float, float] | None = None,
) -> Scene:
    """Give every object a random course through the frame that its motion and size allow.

    `turn` is that of `World`.

    Raises:
        ValueError: If `num_frames` is below 1.
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` must be at least 1, got {num_frames}")
    tracks = [
        course(
            item.motion,
            SIZES[item.size],
            REACH_ROTATED if item.motion == "rotate" else REACH[item.shape],
            rng,
            num_frames,
            turn,
        )
        for item in objects
    ]
    return Scene(objects, np.stack(tracks), background)


def clearance(scene: Scene) -> float:
    """Smallest gap between two objects over the clip, in fractions of the frame; negative if they touch."""
    first, second = scene.tracks
    reach = [
        REACH_ROTATED if item.motion == "rotate" else max(1.0, REACH[item.shape]) for item in scene.objects
    ]
    distance = np.hypot(first[:, X] - second[:, X], first[:, Y] - second[:, Y])
    return float((distance - reach[0] * first[:, RADIUS] - reach[1] * second[:, RADIUS]).min())


def course(
    motion: str,
    radius: float,
    reach: float,
    rng: Random,
    num_frames: int,
    turn: tuple[float, float] | None = None,
) -> np.ndarray:
    """A random course of one object through the frame, which it never leaves.

    Args:
        motion: One of `MOTIONS`.
        radius: Of the object, a fraction of the frame.
        reach: How far it extends from its centre, in radii.
        rng: What the course is drawn from.
        num_frames: Of the clip.
        turn: That of `World`.

    Returns:
        `(F, 5)` float32, the columns of a track.
    """
    progress = np.linspace(0.0, 1.0, num_frames, dtype=np.float32)
    margin = radius * reach + 0.5 / 64
    room = 1.0 - 2.0 * margin
    scale, angle, alpha = np.ones_like(progress), np.zeros_like(progress), np.ones_like(progress)
    dx, dy = np.zeros_like(progress), np.zeros_like(progress)

    if motion in DIRECTIONS:
        step_x, step_y = DIRECTIONS[motion]
        travel = rng.uniform(min(16 / 64, 0.85 * room), min(30 / 64, room))
        dx, dy = step_x * travel * progress, step_y * travel * progress
    elif motion == "bounce":
        height = rng.uniform(min(14 / 64, 0.85 * room), min(28 / 64, room))
        dy = -height * np.abs(np.sin(math.pi * (2.0 * progress + rng.random())))
        dx = rng.uniform(-4 / 64, 4 / 64) * progress
    elif motion == "orbit":
        orbit_radius = rng.uniform(min(8 / 64, 0.425 * room), min(14 / 64, 0.5 * room))
        phase = rng.choice((-1, 1)) * 2 * math.pi * progress + rng.uniform(0, 2 * math.pi)
        dx, dy = orbit_radius * np.cos(phase), orbit_radius * np.sin(phase)
    elif motion == "grow":
        scale = SMALLEST_SCALE + (1 - SMALLEST_SCALE) * progress
    elif motion == "shrink":
        scale = 1 - (1 - SMALLEST_SCALE) * progress
    elif motion == "rotate":
        half_turns = rng.choice((-1, 1)) * rng.uniform(0.9, 1.5) if turn is None else rng.uniform(*turn)
        angle = half_turns * math.pi * progress
    elif motion == "fade in":
        alpha = progress
    elif motion == "fade out":
        alpha = 1 - progress

    x = _start(dx, margin, rng) + dx
    y = _start(dy, margin, rng) + dy
    return np.stack([x, y, radius * scale, angle, alpha], axis=1).astype(np.float32)


def _start(offsets: np.ndarray, margin: float, rng: Random) -> float:
    """A start from which a course with these offsets stays at least `margin` inside the frame."""
    return rng.uniform(margin - float(offsets.min()), 1.0 - margin - float(offsets.max()))
