"""Says which colour, shape, size and motion each object of a clip has: the judge of prompt accuracy.

What cannot be seen is not guessed: an attribute that fits no word well enough is None.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.shapes.tracking import (
    SYMMETRY,
    BackgroundFit,
    OutlineMatch,
    Track,
    alpha_maps,
    colour_error,
    find_colours,
    fit_background,
    match_outline,
    measure_track,
)
from videogen.data.shapes.world import BACKGROUNDS, DIRECTIONS, SHAPES, SIZES, ShapeObject

SMALLEST_BACKGROUND = 0.4
"""Share of the clip's pixels that must lie on one plane; below it nothing can be told."""
COLOUR_TOLERANCE = 0.32
"""Largest distance from a named colour, in units of [-1, 1] (the two nearest colours are 0.69 apart)."""
SMALLEST_IOU, SMALLEST_MARGIN, CLEAREST = 0.7, 0.05, 0.9
"""A shape is named if its overlap, its lead over the second best, and overlap + 2 * lead are at least these.

Sharp clips have at least 0.95 and 0.12. Wobble and blur cost overlap; between two shapes there is no lead.
"""
SIZE_TOLERANCE = 1.3
"""Largest ratio between a radius and the named one."""
STILL_EXTENT, MOVING_EXTENT = 0.05, 0.13
"""Diagonal of the course, in frames, up to which an object rests and from which it moves (at least 0.22)."""
LARGEST_MISFIT, LARGEST_BEND = 0.15, 0.06
"""Share of a course's variance that a bounce or orbit, and a straight line, may leave unexplained."""
STILL_SCALING, SCALING = 1.15, 1.5
"""Ratio of last to first radius up to which the size rests and from which it changes (2.5 in the world)."""
STILL_FADING, FADING = 0.15, 0.6
"""The same for the change of alpha (1 in the world)."""
STILL_TURN, TURN = math.radians(25), math.radians(70)
"""The same for the turn over the clip (at least 162 degrees in the world)."""
LARGEST_RETREAT = 0.15
"""Share of a change that may be taken back on the way if it is to count as going one way."""


@dataclass(frozen=True)
class ParsedObject:
    """What can be seen of one object; None is what cannot be told.

    Attributes:
        colour: A key of `COLOURS`.
        shape: One of `SHAPES`.
        size: A key of `SIZES`.
        motion: One of `MOTIONS`.
        colour_error: Distance of the object's core from its palette colour, in units of [-1, 1].
        shape_iou: Soft intersection over union with the best shape, in [0, 1].
        shape_margin: By how much that is above the second best shape.
        radius: The radius that gave the size, as a fraction of the shorter side; nan without a shape.
    """

    colour: str | None
    shape: str | None
    size: str | None
    motion: str | None
    colour_error: float
    shape_iou: float
    shape_margin: float
    radius: float


@dataclass(frozen=True)
class ParsedClip:
    """What can be seen in a clip.

    Attributes:
        objects: Up to two, of different colours; empty if there is nothing to see.
        background: A key of `BACKGROUNDS`, or None.
    """

    objects: tuple[ParsedObject, ...]
    background: str | None


@dataclass(frozen=True)
class AttributeMatch:
    """Which attributes of a wanted object were found."""

    colour: bool
    shape: bool
    size: bool
    motion: bool

    @property
    def all_right(self) -> bool:
        """Whether the object is as wanted in every attribute."""
        return self.colour and self.shape and self.size and self.motion


@torch.no_grad()
def parse_clip(frames: Tensor, num_objects: int | None = None) -> ParsedClip:
    """Read the attributes of every object out of a clip.

    Args:
        frames: `(3, F, H, W)` in [-1, 1], at least 4 frames.
        num_objects: 1 or 2 if the number is known. Objects that cannot be seen are not listed all the same.

    Returns:
        The objects, none if the clip is empty or shows nothing that can be told apart from a background.

    Raises:
        ValueError: If `frames` has another layout or under 4 frames, or `num_objects` is not 1, 2 or None.
    """
    if frames.ndim != 4 or frames.shape[0] != 3 or frames.shape[1] < 4:
        raise ValueError(f"`frames` must be (3, F, H, W) with at least 4 frames, got {tuple(frames.shape)}")
    if num_objects not in (None, 1, 2):
        raise ValueError(f"`num_objects` must be 1, 2 or None, got {num_objects}")
    frames = frames.detach().to("cpu", torch.float32)
    factor = min(frames.shape[2:]) // 64
    if factor > 1:  # no attribute needs a finer picture
        frames = F.avg_pool2d(frames, factor)

    background = fit_background(frames)
    if background.share < SMALLEST_BACKGROUND:
        return ParsedClip((), None)
    colours = find_colours(frames, background, num_objects)
    maps = alpha_maps(frames, background, colours) if colours else ()
    objects = (
        _parse_object(frames, background, alpha, colour) for alpha, colour in zip(maps, colours, strict=True)
    )
    return ParsedClip(tuple(item for item in objects if item is not None), _name_background(background))


def matches(wanted: Sequence[ShapeObject], parsed: ParsedClip) -> list[AttributeMatch]:
    """Compare each wanted object with the parsed one that it is paired with.

    Of all pairings the one with the most right colours counts, of these that with the most right attributes.
    A wanted object without a partner has nothing right.
    """
    partners = [*parsed.objects, *[None] * len(wanted)]
    pairings = (
        [_compare(item, partner) for item, partner in zip(wanted, chosen, strict=True)]
        for chosen in itertools.permutations(partners, len(wanted))
    )
    return max(
        pairings,
        key=lambda pairing: (
            sum(match.colour for match in pairing),
            sum(match.shape + match.size + match.motion for match in pairing),
        ),
    )


def _compare(wanted: ShapeObject, parsed: ParsedObject | None) -> AttributeMatch:
    if parsed is None:
        return AttributeMatch(colour=False, shape=False, size=False, motion=False)
    return AttributeMatch(
        colour=parsed.colour == wanted.colour,
        shape=parsed.shape == wanted.shape,
        size=parsed.size == wanted.size,
        motion=parsed.motion == wanted.motion,
    )


def _parse_object(
    frames: Tensor, background: BackgroundFit, alpha: Tensor, colour: str
) -> ParsedObject | None:
    track, alpha = measure_track(alpha, background.noise)
    if track.visible.sum() < 3:
        return None
    nearest, error = colour_error(frames, background, alpha, colour)
    outline = match_outline(alpha, track)
    first, second = sorted(outline.iou.values(), reverse=True)[:2]
    margin = first - second
    clear = first >= SMALLEST_IOU and margin >= SMALLEST_MARGIN and first + 2 * margin >= CLEAREST
    shape = max(outline.iou, key=outline.iou.__getitem__) if clear else None
    motion = name_motion(track, _name_outline_turn(track, outline, shape))
    radius = math.nan
    if shape is not None:
        radii = outline.radius[SHAPES.index(shape)][track.visible]
        radius = float(np.quantile(radii, 0.95 if motion in ("grow", "shrink") else 0.5))
    return ParsedObject(
        colour=colour if nearest == colour and error < COLOUR_TOLERANCE else None,
        shape=shape,
        size=None if shape is None else _name_size(radius),
        motion=motion,
        colour_error=error,
        shape_iou=first,
        shape_margin=margin,
        radius=radius,
    )


def _name_background(background: BackgroundFit) -> str | None:
    """The nearest name: gradients start at the named colour and make light ones darker, dark ones lighter."""
    corners = background.image[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    order = corners.sum(0).argsort()
    distances = {}
    for name, rgb in BACKGROUNDS.items():
        start = corners[:, order[-1] if sum(rgb) > 3 * 127.5 else order[0]]
        distances[name] = float((start - (torch.tensor(rgb) / 127.5 - 1)).norm())
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] < COLOUR_TOLERANCE else None


def _name_size(radius: float) -> str | None:
    ratio, name = min((abs(math.log(radius / named)), name) for name, named in SIZES.items())
    return name if ratio < math.log(SIZE_TOLERANCE) else None


def name_motion(track: Track, turn: str | None) -> str | None:
    """The one motion that is seen; None if there are several, or one that fits no word.

    Each of four parts says a motion, "still", or None where it sees a change that it cannot name. `turn` is
    what the fourth of them says, see `name_turn`.
    """
    parts = [_name_fade(track), _name_scaling(track), _name_course(track), turn]
    seen = {part for part in parts if part not in ("still", None)}
    if len(seen) == 1:
        return seen.pop()
    return "still" if not seen and None not in parts else None


def _change(values: np.ndarray) -> tuple[float, bool]:
    """By how much a series changes from beginning to end, and whether it goes that one way all the time.

    When and how fast it goes does not matter.
    """
    few = max(1, len(values) // 8)
    change = float(values[-few:].mean() - values[:few].mean())
    if len(values) >= 8:
        values = np.convolve(values, np.ones(3) / 3, mode="valid")  # flicker is no retreat
    ahead = values if change > 0 else -values
    retreat = float((np.maximum.accumulate(ahead) - ahead).max())
    return change, retreat < LARGEST_RETREAT * abs(change)


def _name_fade(track: Track) -> str | None:
    change, one_way = _change(track.alpha)
    if max(abs(change), 2 * float(track.alpha.std())) < STILL_FADING:
        return "still"
    if abs(change) < FADING or not one_way:
        return None
    return "fade in" if change > 0 else "fade out"


def _name_scaling(track: Track) -> str | None:
    scale = np.log(track.radius[track.visible])
    change, one_way = _change(scale)
    if max(abs(change), 2 * float(scale.std())) < math.log(STILL_SCALING):
        return "still"
    if abs(change) < math.log(SCALING) or not one_way:
        return None
    return "grow" if change > 0 else "shrink"


def _name_course(track: Track) -> str | None:
    """A direction, bounce, orbit, still or None: the course that explains the centres best."""
    progress = np.linspace(0.0, 1.0, len(track.alpha))[track.visible]
    centre = track.centre[track.visible]  # (n, 2)
    extent = float(np.hypot(*(centre.max(0) - centre.min(0))))
    if extent < STILL_EXTENT:
        return "still"
    if extent < MOVING_EXTENT:
        return None
    centre = centre - centre.mean(0)
    progress = progress - progress.mean()
    drift = progress @ centre / (progress @ progress)  # (2,)
    misfits = {"straight": _straight_misfit(centre, drift), "orbit": _orbit_misfit(progress, centre)}
    if abs(drift[0]) < MOVING_EXTENT:
        misfits["bounce"] = _bounce_misfit(progress, centre, drift[0])
    course = min(misfits, key=misfits.__getitem__)
    allowed = LARGEST_BEND if course == "straight" else LARGEST_MISFIT
    if misfits[course] > allowed * float((centre**2).sum()):
        return None
    return _name_direction(*drift) if course == "straight" else course


def _straight_misfit(centre: np.ndarray, drift: np.ndarray) -> float:
    """Sum of squared distances of `centre (n, 2)` from the line along `drift`; infinite if it turns back."""
    dx, dy = drift / max(float(np.hypot(*drift)), 1e-6)
    change, one_way = _change(centre @ np.array([dx, dy]))
    if not one_way or abs(change) < MOVING_EXTENT:
        return math.inf
    return float(((centre @ np.array([-dy, dx])) ** 2).sum())


def _bounce_misfit(progress: np.ndarray, centre: np.ndarray, drift_x: float) -> float:
    """The same from the nearest two hops of any phase, `y = -height * |sin|`, that drift to the side."""
    phases = np.arange(32)[:, None] / 32
    hops = -np.abs(np.sin(math.pi * (2 * progress + phases)))  # (32, n)
    hops -= hops.mean(1, keepdims=True)
    height = (hops @ centre[:, 1]) / (hops**2).sum(1).clip(min=1e-6)
    misfit = ((centre[:, 1] - height[:, None] * hops) ** 2).sum(1)
    best = misfit.argmin()
    if height[best] < MOVING_EXTENT:
        return math.inf
    return float(misfit[best] + ((centre[:, 0] - drift_x * progress) ** 2).sum())


def _orbit_misfit(progress: np.ndarray, centre: np.ndarray) -> float:
    """The same from the nearest full turn on an ellipse; infinite if that is too flat to be a circle."""
    turn = np.stack([np.cos(2 * math.pi * progress), np.sin(2 * math.pi * progress)], axis=1)  # (n, 2)
    turn -= turn.mean(0)
    axes = np.linalg.lstsq(turn, centre, rcond=None)[0]
    # With half axes a and b, the determinant is a * b, and half the sum of squares is equal to it if a = b.
    if abs(np.linalg.det(axes)) < 0.6 * float((axes**2).sum()) / 2:
        return math.inf
    return float(((centre - turn @ axes) ** 2).sum())


def _name_direction(dx: float, dy: float) -> str | None:
    """The nearest of the eight directions, None between two of them."""
    cosines = {
        name: (dx * step_x + dy * step_y) / math.hypot(dx, dy) / math.hypot(step_x, step_y)
        for name, (step_x, step_y) in DIRECTIONS.items()
    }
    name = max(cosines, key=cosines.__getitem__)
    return name if cosines[name] > math.cos(math.radians(18)) else None


def _name_outline_turn(track: Track, outline: OutlineMatch, shape: str | None) -> str | None:
    if shape is None:
        return "still" if outline.steadiness > 0.85 else None
    if shape not in SYMMETRY:
        return "still"
    return name_turn(outline.angle[SHAPES.index(shape)], track.visible, SYMMETRY[shape])


def name_turn(angle: np.ndarray, visible: np.ndarray, symmetry: int = 1) -> str | None:
    """Rotate, still or None, from the steady turn that brings all frames closest together.

    Args:
        angle: `(F,)` in radians.
        visible: `(F,)` bool, where it can be relied on.
        symmetry: In how many turned positions the object looks the same.
    """
    frames = np.flatnonzero(visible)
    turned = np.exp(1j * symmetry * angle[frames])
    steps = np.linspace(-math.pi / symmetry, math.pi / symmetry, 241)  # more per frame cannot be seen
    agreement = np.abs(np.exp(-1j * symmetry * steps[:, None] * frames) @ turned) / len(frames)
    turn = abs(float(steps[agreement.argmax()])) * (len(angle) - 1)
    if agreement.max() < 0.75:
        return None
    if turn < STILL_TURN:
        return "still"
    return "rotate" if turn > TURN else None
