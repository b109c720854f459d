"""Several streams as one: what a codec that serves many materials is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
            raise ValueError(
                f"`shares` must have one entry for each of the {len(self.sources)} sources, at least one, "
                f"got {self.shares}"
            )
        if not all(0 <= share < math.inf for share in self.shares) or sum(self.shares) <= 0:
            raise ValueError(f"`shares` must be at least 0, and one of them above, got {self.shares}")

    def source_idx(self, sample_id: int) -> int:
        """Which source the clip at this position comes from."""
        rng = Random(f"mixture/{self.seed}/{sample_id}")
        return rng.choices(range(len(self.sources)), self.shares)[0]

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The clips at these positions; see `ClipSource`.

        Raises:
            ValueError: If the clips differ in shape or in frames per second.
        """
        owners = [self.source_idx(sample_id) for sample_id in sample_ids]
        clips: dict[int, tuple[Tensor, str]] = {}
        rates: set[float] = set()
        for owner in sorted(set(owners)):
            own = [sample_id for sample_id, idx in zip(sample_ids, owners, strict=True) if idx == owner]
            part = self.sources[owner].batch(own, device)
            clips.update(zip(own, zip(part.pixels, part.captions, strict=True), strict=True))
            rates.add(part.fps)
        shapes = {tuple(pixels.shape) for pixels, _ in clips.values()}
        if len(shapes) > 1 or len(rates) > 1:
            raise ValueError(
                "`sources` must have clips of one shape and of one rate, "
                f"got {sorted(shapes)} at {sorted(rates)} frames per second"
            )
        pixels = torch.stack([clips[sample_id][0] for sample_id in sample_ids])
        captions = tuple(clips[sample_id][1] for sample_id in sample_ids)
        return Batch(tuple(sample_ids), pixels, captions, rates.pop())
