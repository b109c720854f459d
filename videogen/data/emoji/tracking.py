"""Finds a known subject in the frames of a clip, and says how it moves: the judge of motion.

Within a window at the right place, a frame is `(1 - f A) B + f P`: the backdrop B, one colour there or nearly
so, and the subject's drawing P (colour times alpha) over it, of alpha A and faded by f. So each channel is a
sum of a constant, a multiple of A, and the same multiple f of P. What share of the window's variance these
explain is the score of a place: a masked correlation with several templates (Padfield 2012, "Masked object
registration in the Fourier domain"), computed at all places at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.emoji.artwork import NUM_TICKS, Artwork
from videogen.data.emoji.render import level_of, level_sides, sample_sprites
from videogen.data.emoji.world import SIZES
from videogen.data.shapes.parser import name_motion, name_turn
from videogen.data.shapes.tracking import FAINTEST, VISIBLE, Track
from videogen.data.shapes.world import SMALLEST_SCALE

RADIUS_STEP = 1.12
"""Ratio between the radii that are tried."""
LARGEST_JUMP = 1.6
"""Ratio between the radius in a frame and those around it from which it is a mistake."""
TICK_STEP = 4
"""Frames of the subject's loop between those that are tried at every radius."""
NUM_ANGLES = 24
"""Angles that are tried of a subject that may have turned."""
NOISE = 0.04
"""Standard deviation, in units of [-1, 1], up to which a window counts as flat."""
MARGIN = 2
"""Pixels by which a window is larger than the subject, and by which the subject may leave the frame."""
CONFIDENT = 0.5
"""Score from which the place in a frame is relied on."""
STEADY = 0.8
"""Mean score from which the subject has surely not turned."""


@dataclass(frozen=True)
class SubjectTrack:
    """The course of a subject, one entry for each frame.

    Attributes:
        course: Places and radii as in a track of the world: of the middle of the artwork and half its side.
            Where the subject is not visible, the place lies between those of the frames around.
        angle: `(F,)` in radians, clockwise.
        score: `(F,)` in [0, 1], how well the subject explains what is seen at its place.
    """

    course: Track
    angle: np.ndarray
    score: np.ndarray

    @property
    def motion(self) -> str | None:
        """One of `MOTIONS`, or None if there are several or none of them fits."""
        return name_motion(self.course, name_turn(self.angle, self.course.visible))


@dataclass(frozen=True)
class _Poses:
    """Drawings of a subject to look for; `(N,)` each."""

    ticks: Tensor
    radii: Tensor
    angles: Tensor

    def __getitem__(self, idx: Tensor) -> _Poses:
        return _Poses(self.ticks[idx], self.radii[idx], self.angles[idx])


@dataclass(frozen=True)
class _Found:
    """The best of several poses in each frame; `(F,)` each, places in pixels."""

    poses: _Poses
    score: Tensor
    x: Tensor
    y: Tensor


@torch.no_grad()
def track_subject(frames: Tensor, artwork: Artwork, subject_idx: int) -> SubjectTrack:
    """Follow a subject through a clip that shows it, in any size of the world and at any place.

    Args:
        frames: `(3, F, H, W)` in [-1, 1].
        artwork: Where the subject is.
        subject_idx: Which one it is.

    Raises:
        ValueError: If `frames` has another shape.
    """
    if frames.ndim != 4 or frames.shape[0] != 3:
        raise ValueError(f"`frames` must be (3, F, H, W), got {tuple(frames.shape)}")
    frames = frames.float().movedim(1, 0)  # (F, 3, H, W)
    num_frames, _, height, width = frames.shape
    side = min(height, width)
    sprite = _Sprite(artwork, subject_idx, height, width)

    found = sprite.find(frames, _grid(side))
    # Now every frame of the loop, at the radius that each frame has.
    ticks = torch.arange(NUM_TICKS).repeat(num_frames)
    radii = _without_jumps(found.poses.radii).repeat_interleave(NUM_TICKS)
    found = sprite.find_each(frames, _Poses(ticks, radii, torch.zeros(len(ticks))), NUM_TICKS)
    if found.score.mean() < STEADY:
        best = int(found.score.argmax())
        ticks = (found.poses.ticks[best] + torch.arange(num_frames) - best) % NUM_TICKS
        angles = torch.arange(NUM_ANGLES) * (2 * math.pi / NUM_ANGLES)
        radii = found.poses.radii[best].expand(num_frames * NUM_ANGLES)
        poses = _Poses(ticks.repeat_interleave(NUM_ANGLES), radii, angles.repeat(num_frames))
        turned = sprite.find_each(frames, poses, NUM_ANGLES)
        if turned.score.mean() > found.score.mean():
            found = turned

    alpha = sprite.opacity(frames, found)
    # What is found where nothing is opaque is the backdrop.
    confident = (found.score >= CONFIDENT) & (alpha >= FAINTEST)
    if not confident.any():
        confident = found.score >= found.score.max()
    places = np.arange(num_frames)
    centre = np.stack(
        [
            np.interp(places, places[confident], (values / length)[confident])
            for values, length in ((found.x, width), (found.y, height))
        ],
        axis=1,
    )
    course = Track(
        centre=centre,
        radius=(found.poses.radii / side).numpy(),
        alpha=alpha.numpy(),
        visible=(confident & (alpha > VISIBLE)).numpy(),
    )
    return SubjectTrack(course, found.poses.angles.numpy(), found.score.numpy())


def _without_jumps(radii: Tensor) -> Tensor:
    """`radii (F,)`, where one is far from the median of itself and two on either side, that median.

    Radii that hardly differ are one: a subject may swell and shrink within its artwork.
    """
    if radii.max() / radii.min() < LARGEST_JUMP:
        return radii.median().expand(len(radii))
    medians = torch.stack([radii[max(0, idx - 2) : idx + 3].median() for idx in range(len(radii))])
    return torch.where((radii / medians).log().abs() > math.log(LARGEST_JUMP), medians, radii)


def _grid(side: int) -> _Poses:
    """Upright drawings of all radii of the world, at every `TICK_STEP`-th frame of the loop."""
    smallest, largest = SIZES["small"] * SMALLEST_SCALE * side, SIZES["large"] * side
    num_radii = 1 + math.ceil(math.log(largest / smallest) / math.log(RADIUS_STEP))
    radii = torch.logspace(math.log10(smallest), math.log10(largest), num_radii)
    ticks = torch.arange(0, NUM_TICKS, TICK_STEP)
    grid = torch.cartesian_prod(ticks.float(), radii)
    return _Poses(grid[:, 0].long(), grid[:, 1], torch.zeros(len(grid)))


class _Sprite:
    """A subject that is drawn and looked for in frames of one size."""

    def __init__(self, artwork: Artwork, subject_idx: int, height: int, width: int) -> None:
        self.sides = level_sides(min(height, width))
        self.levels = [level[subject_idx] for level in artwork.levels(self.sides).pixels([subject_idx])]
        self.reach = artwork.extent(subject_idx).along
        self.height, self.width = height, width

    def draw(self, poses: _Poses, x: Tensor | float = 0.5, y: Tensor | float = 0.5) -> Tensor:
        """`(N, 4, H, W)` red, green and blue in [0, 1] times alpha, and alpha; places are fractions."""
        side = min(self.height, self.width)
        tracks = torch.ones(len(poses.ticks), 5)
        tracks[:, 0], tracks[:, 1] = torch.as_tensor(x), torch.as_tensor(y)
        tracks[:, 2], tracks[:, 3] = poses.radii / side, poses.angles
        window = min(self.height, self.width)
        drawn = torch.zeros(len(tracks), 4, self.height * self.width)
        levels = torch.from_numpy(level_of(2 * poses.radii.numpy(), self.sides))
        for level in levels.unique().tolist():
            rows = (levels == level).nonzero()[:, 0]
            sprites = self.levels[level][poses.ticks[rows]]
            sampled, index = sample_sprites(sprites, tracks[rows], window, self.height, self.width)
            drawn[rows] = drawn[rows].scatter(2, index[:, None].expand(-1, 4, -1), sampled)
        return drawn.view(-1, 4, self.height, self.width)

    def find(self, frames: Tensor, poses: _Poses) -> _Found:
        """The best place and pose in each of `frames (F, 3, H, W)`, of all poses."""
        score, place = self._scores(frames[:, None], _Templates(self.draw(poses)), poses.radii)
        best = score.argmax(1)  # of (F, N)
        return self._found(poses[best], *(values.gather(1, best[:, None])[:, 0] for values in (score, place)))

    def find_each(self, frames: Tensor, poses: _Poses, num_poses: int) -> _Found:
        """The same, where each frame has `num_poses` poses of its own, one frame's after another's."""
        scores, places = [], []
        for idx in range(len(frames)):
            own = poses[torch.arange(idx * num_poses, (idx + 1) * num_poses)]
            score, place = self._scores(frames[idx, None, None], _Templates(self.draw(own)), own.radii)
            scores.append(score[0])
            places.append(place[0])
        score, place = torch.stack(scores), torch.stack(places)
        best = score.argmax(1)
        chosen = poses[torch.arange(len(frames)) * num_poses + best]
        return self._found(chosen, *(values.gather(1, best[:, None])[:, 0] for values in (score, place)))

    def _found(self, poses: _Poses, score: Tensor, place: Tensor) -> _Found:
        return _Found(poses, score, (place % self.width).float(), (place // self.width).float())

    def _scores(self, frames: Tensor, templates: _Templates, radii: Tensor) -> tuple[Tensor, Tensor]:
        """Best score and its place `y * W + x`, both `(F, N)`, of templates in `frames (F, 1, 3, H, W)`."""
        score = templates.score(frames)  # (F, N, H, W), of the middle at the left and top edge of a pixel
        margin = radii * self.reach - MARGIN
        for axis, length in ((2, self.height), (3, self.width)):
            places = torch.arange(length)
            outside = (places < margin[:, None]) | (places > length - margin[:, None])  # (N, length)
            score = score.masked_fill(outside[:, :, None] if axis == 2 else outside[:, None, :], 0)
        return score.flatten(2).max(2)

    def opacity(self, frames: Tensor, found: _Found) -> Tensor:
        """`(F,)` in [0, 1.2]: how opaque the subject is at its place, from the backdrop around it."""
        drawn = self.draw(found.poses, found.x / self.width, found.y / self.height)
        colour, alpha = 2 * drawn[:, :3] - drawn[:, 3:], drawn[:, 3:]  # as in [-1, 1]
        around = _dilated(alpha) - _dilated(alpha, 0)
        behind = (frames * around).sum((2, 3), keepdim=True) / around.sum((2, 3), keepdim=True).clamp(min=1)
        change = colour - alpha * behind
        along = (change * (frames - behind)).sum((1, 2, 3)) / change.square().sum((1, 2, 3)).clamp(min=1e-6)
        return along.clamp(0, 1.2)


class _Templates:
    """What is correlated with frames, of drawings `(N, 4, H, W)` whose middle is that of the frame."""

    def __init__(self, drawn: Tensor) -> None:
        mask = _dilated(drawn[:, 3:])  # (N, 1, H, W)
        self.num_pixels = mask.sum((2, 3), keepdim=True)
        centred = mask * (drawn - (mask * drawn).sum((2, 3), keepdim=True) / self.num_pixels)
        alpha = _unit(centred[:, 3:], (2, 3))
        colour = centred[:, :3] - alpha * (alpha * centred[:, :3]).sum((2, 3), keepdim=True)
        # A subject of one colour has nothing left here: its outline says all there is.
        colour = torch.where(colour.square().sum((1, 2, 3), keepdim=True) > 1e-3, colour, 0)
        shift = (drawn.shape[2] // 2, drawn.shape[3] // 2)
        self.mask, self.alpha, self.colour = (
            torch.fft.rfft2(image.roll((-shift[0], -shift[1]), (2, 3))).conj()
            for image in (mask, alpha, _unit(colour, (1, 2, 3)))
        )

    def score(self, frames: Tensor) -> Tensor:
        """`(F, N, H, W)` in [0, 1] for `frames (F, 1, 3, H, W)`."""
        size = frames.shape[-2:]
        spectrum = torch.fft.rfft2(frames)
        squared = torch.fft.rfft2(frames.square().sum(2, keepdim=True))

        def correlate(image: Tensor, template: Tensor) -> Tensor:
            return torch.fft.irfft2(image * template, s=size)

        power = correlate(squared, self.mask)[:, :, 0]
        sums = correlate(spectrum, self.mask).square().sum(2) / self.num_pixels[:, 0]
        by_alpha = correlate(spectrum, self.alpha).square().sum(2)
        by_colour = torch.fft.irfft2((spectrum * self.colour).sum(2), s=size).clamp(min=0).square()
        flat = 3 * NOISE**2 * self.num_pixels[:, 0]
        return (by_alpha + by_colour) / ((power - sums).clamp(min=0) + flat)


def _dilated(alpha: Tensor, margin: int = MARGIN) -> Tensor:
    """1 where `alpha (N, 1, H, W)` is above 0, or is so within `margin` pixels; else 0."""
    return F.max_pool2d((alpha > 0.02).float(), 2 * margin + 1, stride=1, padding=margin)


def _unit(images: Tensor, dims: tuple[int, ...]) -> Tensor:
    return images / images.square().sum(dims, keepdim=True).sqrt().clamp(min=1e-6)
