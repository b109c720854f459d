"""Short crops of the world `emoji` around its objects, to train a codec on, or what things look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch

from videogen.data.batch import Batch
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.shapes.world import RADIUS, X, Y


@dataclass(frozen=True)
class EmojiCrops:
    """Consecutive frames of clips, cut to a window at an object of theirs, with the captions of the clips.

    Attributes:
        clips: Where they are cut from.
        num_frames: Consecutive frames of a crop.
        size: Side of a crop in pixels; that of the clips for whole frames.
    """

    clips: EmojiClips
    num_frames: int = 4
    size: int = 32

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Compose and cut the crops at these positions; see `ClipSource`."""
        scenes, corners = [], []
        for sample_id in sample_ids:
            rng = Random(f"crop/{self.clips.seed}/{sample_id}")
            scene = self.clips.scene(sample_id)
            first = rng.randrange(0, self.clips.num_frames - self.num_frames + 1)
            tracks = scene.tracks[:, first : first + self.num_frames]
            ticks = tuple(tick + first for tick in scene.ticks)
            scenes.append(replace(scene, tracks=tracks, ticks=ticks))
            place = rng.choice(list(tracks))[rng.randrange(self.num_frames)]
            top, left = (self._corner(float(place[axis]), float(place[RADIUS]), rng) for axis in (Y, X))
            corners.append((top, left))
        return self.clips.batch_of(scenes, sample_ids, device).cut(corners, self.size)

    def _corner(self, centre: float, radius: float, rng: Random) -> int:
        """Where a crop begins along an axis, so that its centre is within the object."""
        side = self.clips.size
        corner = round((centre + rng.uniform(-radius, radius)) * side - self.size / 2)
        return min(max(corner, 0), side - self.size)
