"""Moving dead leaves as an endless training stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from videogen.data.batch import Batch
from videogen.data.textures.canvas import CANVAS_SIZE, Floats, leaf_distance, leaves_canvas

FPS = 8.0
_CLIPS_PER_CANVAS = 256
_SUPERSAMPLING = 2
_MAX_LEAVES = 3  # that move by themselves before the background


@dataclass(frozen=True)
class DeadLeaves:
    """Clips of a textured background and up to three leaves before it, each moving, zooming and turning.

    They are drawn at twice the size and averaged down, as sharp as a photograph is. There are no captions.

    Attributes:
        num_frames: Frames per clip.
        size: Side of the frames in pixels.
        seed: Of the stream.
    """

    num_frames: int = 4
    size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse clips without a pixel."""
        for name in ("num_frames", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Draw the clips at these positions; see `ClipSource`."""
        pixels = torch.stack([self._clip(sample_id) for sample_id in sample_ids])
        return Batch(tuple(sample_ids), pixels.to(device), ("",) * len(sample_ids), FPS)

    def _clip(self, sample_id: int) -> Tensor:
        """`(3, F, size, size)` in [-1, 1].

        The background comes first, in the camera's motion, then the leaves, from the farthest to the nearest.
        """
        rng = np.random.default_rng([self.seed, sample_id, 1])
        canvas = leaves_canvas(self.seed, sample_id // _CLIPS_PER_CANVAS)
        zoom = math.exp(rng.uniform(math.log(0.35), math.log(2.0)))
        camera = _Motion.draw(rng, still=0.35)
        frames = self._texture(canvas, rng, *self._place(camera, np.zeros(2)), zoom)
        for _ in range(rng.integers(_MAX_LEAVES + 1)):
            x, y = self._place(camera.beside(_Motion.draw(rng, still=0.3)), rng.uniform(-0.5, 0.5, 2))
            radius = rng.uniform(0.1, 0.6)
            outside = leaf_distance(rng, x / np.float32(radius), y / np.float32(radius))
            sharpness = radius * self.size * _SUPERSAMPLING
            alpha = torch.from_numpy((0.5 - outside * np.float32(sharpness)).clip(0, 1))[:, None]
            frames = torch.lerp(frames, self._texture(canvas, rng, x, y, zoom), alpha)
        frames = F.avg_pool2d(frames, _SUPERSAMPLING)
        gain, offset = math.exp(rng.normal(-0.1, 0.25)), rng.normal(0, 0.12)
        return (frames * gain + offset).clamp_(-1, 1).transpose(0, 1)

    def _place(self, motion: _Motion, start: NDArray[np.float64]) -> tuple[Floats, Floats]:
        """Where the pixels of each frame are in the coordinates of a thing that moves so.

        Args:
            motion: Of the thing.
            start: Its centre in the middle of the clip, in sides of the frame from the frame's centre.

        Returns:
            x and y `(F, S, S)`, supersampled, in sides of the frame from the centre of the thing.
        """
        times = np.arange(self.num_frames) - (self.num_frames - 1) / 2
        side = self.size * _SUPERSAMPLING
        steps = (np.arange(side) + 0.5) / side - 0.5
        x = steps[None, None, :] - (start[0] + motion.x * times / self.size)[:, None, None]
        y = steps[None, :, None] - (start[1] + motion.y * times / self.size)[:, None, None]
        scale = np.exp(-motion.growth * times)[:, None, None]
        cos, sin = (scale * turn(motion.spin * times)[:, None, None] for turn in (np.cos, np.sin))
        return (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)

    def _texture(self, canvas: Tensor, rng: np.random.Generator, x: Floats, y: Floats, zoom: float) -> Tensor:
        """`(F, 3, S, S)`: a part of the canvas, `zoom` of its pixels to a supersampled one."""
        scale = zoom * self.size * _SUPERSAMPLING / (CANVAS_SIZE / 2)
        room = max(0.0, 1 - scale / 2)
        centre = rng.uniform(-room, room, 2)
        grid = np.stack([x * scale + centre[0], y * scale + centre[1]], axis=-1, dtype=np.float32)
        num_frames, height, width, _ = grid.shape
        looked = F.grid_sample(
            canvas,
            torch.from_numpy(grid).view(1, num_frames * height, width, 2),
            padding_mode="reflection",
            align_corners=False,
        )
        return looked.view(3, num_frames, height, width).transpose(0, 1)


@dataclass(frozen=True)
class _Motion:
    """How a thing moves: pixels, logarithm of size, and radians per frame."""

    x: float
    y: float
    growth: float
    spin: float

    @classmethod
    def draw(cls, rng: np.random.Generator, still: float) -> _Motion:
        """A motion that is none with probability `still`; most are slow, and a few take many pixels."""
        moves, direction = rng.random() >= still, rng.uniform(0, 2 * math.pi)
        speed = min(6.0, math.exp(rng.normal(-0.3, 1.0))) * moves
        growth, spin = rng.normal(0, 0.015, 2) * moves * (rng.random(2) < 0.5)
        return cls(speed * math.cos(direction), speed * math.sin(direction), float(growth), float(spin))

    def beside(self, own: _Motion) -> _Motion:
        """The motion of a thing that moves by itself while the camera moves too."""
        return _Motion(self.x + own.x, self.y + own.y, self.growth + own.growth, self.spin + own.spin)
