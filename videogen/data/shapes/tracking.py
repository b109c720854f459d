"""Measures a clip of the world `shapes`: its background, the colours before it, and how each of them moves.

Everything here is a measurement with a number behind it; `parser` turns the numbers into words. A pixel is
explained as `background + a * (palette colour - background)`: a plane per channel, and an alpha map `a`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.shapes.render import coverage
from videogen.data.shapes.world import COLOURS, RADIUS, ROUND_SHAPES, SHAPES

PALETTE = torch.tensor(list(COLOURS.values())) / 127.5 - 1.0
"""`(8, 3)` in [-1, 1], in the order of `COLOURS`."""

SYMMETRY: dict[str, int] = {"square": 4, "triangle": 3, "star": 5, "cross": 4}
"""In how many turned positions a shape looks the same; round shapes are not listed."""

SAME_COLOUR = 0.04
"""Squared residual by which one colour must explain a pixel better than another to own it."""
SMALLEST_AREA = 0.008
"""Area, in squared shorter sides, under which nothing counts as an object (at least 0.039 in the world)."""
FAINTEST = 0.15
"""Alpha under which a pixel is taken for background."""
VISIBLE = 0.3
"""Alpha from which a frame is used to measure place, radius and outline, in a clip without noise."""
SMALLEST_SHARE = 0.08
"""Area, relative to the largest of the clip, under which an object is not seen (0.16 after `shrink`)."""

PATCH = 32
"""Side of the grid on which outlines are compared."""
PATCH_REACH = 1.65
"""Half the side of that grid, in radii of the circle of equal area (the points of a star reach 1.53)."""
ANGLE_STEP = math.radians(5)
RADIUS_STEP = 1.05
"""Ratio between the radii at which templates are drawn."""


@dataclass(frozen=True)
class BackgroundFit:
    """A plane per channel through the pixels that no object covers.

    Attributes:
        image: `(3, H, W)`, about [-1, 1].
        share: Share of all pixels that lie on it, in [0, 1].
        noise: Their root mean square distance from it per channel.
    """

    image: Tensor
    share: float
    noise: float


@dataclass(frozen=True)
class Track:
    """The course of one object, one entry per frame; lengths are fractions as in `world`.

    Attributes:
        centre: `(F, 2)` x and y, fractions of width and height.
        radius: `(F,)` radius of the circle of equal area, as a fraction of the shorter side.
        alpha: `(F,)` 0 where the object is not seen, 1 where it has its full colour.
        visible: `(F,)` bool, where centre and radius can be relied on.
    """

    centre: np.ndarray
    radius: np.ndarray
    alpha: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class OutlineMatch:
    """How well each shape fits an object's outline.

    Attributes:
        iou: Soft intersection over union of each of `SHAPES`, averaged over the visible frames.
        radius: `(6, F)` what `radius` in a world's track would be, for each of `SHAPES`.
        angle: `(6, F)` best angle of each shape in radians, known up to the shape's symmetry.
        steadiness: Soft intersection over union of the outlines with their own mean: 1 if they never change.
    """

    iou: dict[str, float]
    radius: np.ndarray
    angle: np.ndarray
    steadiness: float


def fit_background(frames: Tensor) -> BackgroundFit:
    """Fit a plane per channel to `frames (3, F, H, W)` in [-1, 1], letting go of those that objects cover.

    Iteratively reweighted least squares with the weights of Geman and McClure, started from the median of the
    border; their scale shrinks from wider than any gradient of the world to a few grey levels.
    """
    _, num_frames, height, width = frames.shape
    ramp_y, ramp_x = torch.linspace(-0.5, 0.5, height), torch.linspace(-0.5, 0.5, width)
    ramps = torch.ones(1, 1), ramp_x[None], ramp_y[:, None]
    basis = torch.stack([ramp.expand(height, width) for ramp in ramps])  # (3, H, W)
    step = max(1, min(height, width) // 24)
    some = frames[:, :: max(1, num_frames // 8), step // 2 :: step, step // 2 :: step]  # (3, n, h, w)
    border = torch.cat([some[..., 0], some[..., -1], some[..., 0, :], some[..., -1, :]], dim=-1)
    design = basis[:, None, step // 2 :: step, step // 2 :: step].expand_as(some).flatten(1)  # (3, P)
    pixels = some.flatten(1)  # (3, P)
    plane = torch.zeros(3, 3)
    plane[:, 0] = border.flatten(1).median(dim=1).values
    ridge = 1e-7 * design.shape[1] * torch.eye(3)  # keeps the system solvable where hardly a pixel has weight
    for scale in (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.1):
        distance = (pixels - plane @ design).square().sum(0) / scale**2
        weighted = design / (1 + distance) ** 2
        plane = torch.linalg.solve(weighted @ design.T + ridge, weighted @ pixels.T).T
    distance = (pixels - plane @ design).square().sum(0)
    near = distance < 0.25**2
    noise = math.sqrt(float(distance[near].mean()) / 3) if bool(near.any()) else 1.0
    return BackgroundFit((plane @ basis.flatten(1)).view(3, height, width), float(near.float().mean()), noise)


def find_colours(frames: Tensor, background: BackgroundFit, num_objects: int | None) -> list[str]:
    """Which one or two palette colours are before the background; none, if too few pixels differ from it.

    Args:
        frames: `(3, F, H, W)` in [-1, 1].
        background: What is behind the objects.
        num_objects: At most how many colours to find; 2 also halves the area that a second one must cover.
    """
    _, num_frames, height, width = frames.shape
    step = max(1, min(height, width) // 32)
    behind = background.image[:, step // 2 :: step, step // 2 :: step]
    difference = frames[:, :, step // 2 :: step, step // 2 :: step] - behind[:, None]
    size = difference.square().sum(0)  # (F, h, w)
    index = (size > max(0.15, 4 * background.noise) ** 2).flatten().nonzero()[:, 0]
    frame_of = index // behind[0].numel()
    area = step**2 / min(height, width) ** 2  # of one pixel looked at
    if np.sort(np.bincount(frame_of, minlength=num_frames) * area)[-2] < SMALLEST_AREA:
        return []

    direction = PALETTE[:, :, None] - behind.flatten(1)[:, index % behind[0].numel()]  # (8, 3, P)
    alpha, residual = _residual(difference.flatten(1)[:, index], direction)  # (8, P) each
    bounded = residual.clamp(max=0.3**2)
    names = list(COLOURS)
    best = int(bounded.sum(1).argmin())
    if num_objects == 1:
        return [names[best]]
    pairs = torch.tensor(list(itertools.combinations(range(len(names)), 2)))
    pair = pairs[torch.minimum(bounded[pairs[:, 0]], bounded[pairs[:, 1]]).sum(1).argmin()].tolist()
    needed = SMALLEST_AREA / (2 if num_objects == 2 else 1)
    for own, other in (pair, pair[::-1]):
        evidence = (residual[own] + SAME_COLOUR < residual[other]) & (alpha[own] > 0.5)
        per_frame = np.bincount(frame_of[evidence], minlength=num_frames) * area
        if (per_frame > needed).sum() < max(2, round(0.2 * num_frames)):
            return [names[best]]
    return [names[idx] for idx in pair]


def alpha_maps(frames: Tensor, background: BackgroundFit, colours: list[str]) -> Tensor:
    """`(num_colours, F, H, W)` in [0, 1.2]: how much of a pixel is of each colour; it has one at most."""
    difference = frames - background.image[:, None]
    chosen = PALETTE[[list(COLOURS).index(colour) for colour in colours]]
    direction = (chosen[:, :, None, None] - background.image)[:, :, None]  # (N, 3, 1, H, W)
    alpha, residual = _residual(difference, direction)
    size = difference.square().sum(0)
    faintest = max(FAINTEST, 4 * background.noise / float(direction.square().sum(1).sqrt().mean()))
    alpha *= (alpha > faintest) & (residual < 0.3 * size + 0.03)
    if len(colours) == 2:
        # The outermost pixels of an object are faint, and could be of either colour: their neighbours decide.
        lead = F.avg_pool2d(residual[0] - residual[1], 5, stride=1, padding=2)
        alpha[0] *= lead <= 0
        alpha[1] *= lead > 0
    return alpha


def _residual(difference: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Best alpha in [0, 1.2] of each colour for `difference (3, ...)`, and the squared distance left."""
    along = (direction * difference).sum(1)
    length = direction.square().sum(1)
    alpha = (along / length).clamp_(0, 1.2)
    residual = difference.square().sum(0) - alpha * (2 * along - alpha * length)
    return alpha, residual.clamp_(min=0)


def colour_error(frames: Tensor, background: BackgroundFit, alpha: Tensor, colour: str) -> tuple[str, float]:
    """The palette colour nearest to an object's core, and the distance of the core from `colour`.

    Args:
        frames: `(3, F, H, W)` in [-1, 1].
        background: What is behind the object.
        alpha: `(F, H, W)` of the object.
        colour: What the alpha map was made with.

    Returns:
        The name, and the Euclidean distance in units of [-1, 1].
    """
    mass, level = alpha.sum((1, 2)), _level(alpha)
    frame = int((level * (mass > 0.25 * mass.max())).argmax())
    core = alpha[frame] > 0.95 * level[frame]
    seen = frames[:, frame][:, core].mean(1)
    distance = (PALETTE - seen).norm(dim=1)
    names = list(COLOURS)
    return names[int(distance.argmin())], float(distance[names.index(colour)])


def measure_track(alpha: Tensor, noise: float) -> tuple[Track, Tensor]:
    """Follow an object through a clip.

    Args:
        alpha: `(F, H, W)` alpha map of the object.
        noise: `BackgroundFit.noise`; it frays the outline of an object that is hardly brighter.

    Returns:
        Its course, and the alpha map without what is far from it.
    """
    _, height, width = alpha.shape
    side = min(height, width)
    xs, ys = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    for _ in range(2):
        mass, level = alpha.sum((1, 2)), _level(alpha)
        area = mass / level.clamp(min=0.05)
        centre_x = (alpha.sum(1) * xs).sum(1) / mass.clamp(min=1e-6)
        centre_y = (alpha.sum(2) * ys).sum(1) / mass.clamp(min=1e-6)
        reach = 1.8**2 / math.pi * area + 2.0
        away = (xs - centre_x[:, None]).square()[:, None, :] + (ys - centre_y[:, None]).square()[:, :, None]
        alpha = alpha * (away < reach[:, None, None])
    seen = area > max(0.15 * SMALLEST_AREA * side**2, SMALLEST_SHARE * float(area.max()))
    track = Track(
        centre=torch.stack([centre_x / width, centre_y / height], dim=1).numpy(),
        radius=((area / math.pi).sqrt() / side).numpy(),
        alpha=(level * seen).numpy(),
        visible=(seen & (level > max(VISIBLE, 6 * noise))).numpy(),
    )
    return track, alpha


def _level(alpha: Tensor) -> Tensor:
    """Alpha inside an object: a mean of `alpha (N, H, W)` that hardly counts the fainter outermost pixels."""
    squared = alpha.square()
    cubed = squared * alpha
    return squared.square().sum((1, 2)) / cubed.sum((1, 2)).clamp(min=1e-6)


def match_outline(alpha: Tensor, track: Track) -> OutlineMatch:
    """Compare an object's alpha map `(F, H, W)` with every shape of its place and area, where visible."""
    num_frames, height, width = alpha.shape
    side = min(height, width)
    frames = np.flatnonzero(track.visible)
    radii = track.radius[frames] * side
    patches = _resample(
        alpha[frames],
        torch.from_numpy(track.centre[frames] * np.array([width, height])).float(),
        torch.from_numpy(radii).float(),
    )
    patches = _sharpen(patches / torch.from_numpy(track.alpha[frames])[:, None])
    shape_of = torch.tensor([SHAPES.index(shape) for shape, _ in _poses()])
    angles = np.array([angle for _, angle in _poses()])

    iou = np.zeros((len(SHAPES), num_frames))
    radius, angle = np.full_like(iou, np.nan), np.full_like(iou, np.nan)
    steps = np.round(np.log(radii) / math.log(RADIUS_STEP)).astype(int)
    for step in np.unique(steps):
        rows = np.flatnonzero(steps == step)
        templates, squared, ratio = _templates(int(step))
        distance = squared - 2 * patches[rows] @ templates.T  # (n, poses), up to a constant per patch
        for shape_idx in range(len(SHAPES)):
            poses = (shape_of == shape_idx).nonzero()[:, 0]
            best = poses[distance[:, poses].argmin(1)]
            iou[shape_idx, frames[rows]] = _soft_iou(patches[rows], templates[best]).numpy()
            radius[shape_idx, frames[rows]] = track.radius[frames[rows]] * ratio[shape_idx]
            angle[shape_idx, frames[rows]] = angles[best.numpy()]
    weight = track.radius**4 * track.alpha * track.visible
    mean_iou = (iou * weight).sum(1) / weight.sum()
    steadiness = float(_soft_iou(patches, patches.mean(0)).mean())
    return OutlineMatch(dict(zip(SHAPES, mean_iou.tolist(), strict=True)), radius, angle, steadiness)


def _sharpen(outlines: Tensor) -> Tensor:
    """Undo a part of the blur, which leaves the line of half coverage where it is."""
    return ((outlines - 0.5) * 2 + 0.5).clamp_(0, 1)


def _soft_iou(first: Tensor, second: Tensor) -> Tensor:
    return torch.minimum(first, second).sum(1) / torch.maximum(first, second).sum(1)


def _resample(alpha: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """`(N, PATCH * PATCH)`: each `alpha (N, H, W)` at `centre (N, 2)`, scaled by `radius (N,)`, in pixels."""
    _, height, width = alpha.shape
    steps = (torch.arange(PATCH) + 0.5) * (2 * PATCH_REACH / PATCH) - PATCH_REACH
    offset = steps * radius[:, None]
    x = (centre[:, :1] + offset) * (2 / width) - 1
    y = (centre[:, 1:] + offset) * (2 / height) - 1
    grid = torch.stack([x[:, None, :].expand(-1, PATCH, -1), y[:, :, None].expand(-1, -1, PATCH)], dim=-1)
    return F.grid_sample(alpha[:, None], grid, align_corners=False).flatten(1)


@lru_cache(maxsize=1)
def _poses() -> list[tuple[str, float]]:
    """Every shape at every angle that looks different."""
    poses = []
    for shape in SHAPES:
        num_angles = 1 if shape in ROUND_SHAPES else round(2 * math.pi / SYMMETRY[shape] / ANGLE_STEP)
        poses += [(shape, idx * ANGLE_STEP) for idx in range(num_angles)]
    return poses


@lru_cache(maxsize=256)
def _templates(step: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Every pose drawn so that `measure_track` finds the radius `RADIUS_STEP ** step`, in pixels.

    Returns:
        `(num_poses, PATCH * PATCH)` outlines in [0, 1], their sums of squares, and for each of `SHAPES` its
        radius in units of the measured one.
    """
    measured = RADIUS_STEP**step
    side = 2 * math.ceil(PATCH_REACH * measured) + 4
    ratio, drawn = np.ones(len(SHAPES)), []
    for shape_idx, shape in enumerate(SHAPES):
        angles = torch.tensor([angle for name, angle in _poses() if name == shape])
        tracks = torch.tensor([0.5, 0.5, measured / side, 0.0, 1.0]).repeat(len(angles), 1, 1)
        tracks[:, 0, 3] = angles
        for _ in range(3):  # thin shapes are paler than thick ones, so their radius is found step by step
            inside = coverage(shape, tracks, side, side)[:, 0]
            level = _level(inside)
            found = float((inside.sum((1, 2)) / level / math.pi).sqrt().mean())
            tracks[..., RADIUS] *= measured / found
        ratio[shape_idx] = float(tracks[0, 0, RADIUS]) * side / measured
        inside = coverage(shape, tracks, side, side)[:, 0]
        drawn.append(inside / level[:, None, None])
    outlines = torch.cat(drawn)
    middle = torch.full((len(outlines), 2), side / 2)
    outlines = _sharpen(_resample(outlines, middle, torch.full((len(outlines),), measured)))
    return outlines, outlines.square().sum(1), ratio
