"""Several streams as one, and crops of a stream: what a codec that serves many materials is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from videogen.data.batch import Batch, ClipSource


@dataclass(frozen=True)
class Mixture:
    """Pixels of several streams in given shares; each position belongs to one of them.

    Attributes:
        sources: The streams; their clips must have equal shapes.
        shares: How much of the mixture each of them is, in any unit.
        seed: Decides which position belongs to which.
    """

    sources: tuple[ClipSource, ...]
    shares: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse shares that do not fit the sources."""
        if len(self.sources) != len(self.shares) or not self.sources:
            raise ValueError(f"`shares` must have one entry for each of {len(self.sources)} sources")
        if min(self.shares) < 0 or sum(self.shares) <= 0:
            raise ValueError(f"`shares` must be at least 0, one of them above, got {self.shares}")

    def source_idx(self, sample_id: int) -> int:
        """Which source the clip at this position comes from."""
        rng = Random(f"mixture/{self.seed}/{sample_id}")
        return rng.choices(range(len(self.sources)), self.shares)[0]

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The clips at these positions; see `ClipSource`."""
        owners = [self.source_idx(sample_id) for sample_id in sample_ids]
        clips: dict[int, tuple[Tensor, str]] = {}
        for owner in sorted(set(owners)):
            own = [sample_id for sample_id, idx in zip(sample_ids, owners, strict=True) if idx == owner]
            part = self.sources[owner].batch(own, device)
            clips.update(zip(own, zip(part.pixels, part.captions, strict=True), strict=True))
            fps = part.fps
        pixels = torch.stack([clips[sample_id][0] for sample_id in sample_ids])
        captions = tuple(clips[sample_id][1] for sample_id in sample_ids)
        return Batch(tuple(sample_ids), pixels, captions, fps)


@dataclass(frozen=True)
class ClipCrops:
    """Square windows of a stream's clips, one of each clip, at random places.

    Attributes:
        clips: The stream.
        size: Side of a window in pixels.
        seed: Of the places.
    """

    clips: ClipSource
    size: int = 32
    seed: int = 0

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Make and cut the clips at these positions; see `ClipSource`."""
        batch = self.clips.batch(sample_ids, device)
        height, width = batch.pixels.shape[-2:]
        crops = []
        for sample_id, pixels in zip(sample_ids, batch.pixels, strict=True):
            rng = Random(f"window/{self.seed}/{sample_id}")
            top, left = (rng.randint(0, side - self.size) for side in (height, width))
            crops.append(pixels[..., top : top + self.size, left : left + self.size])
        return replace(batch, pixels_or_none=torch.stack(crops))
