"""Several streams as one: what a codec that serves many materials is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.batch import Batch, ClipSource


@dataclass(frozen=True)
class Mixture:
    """Pixels of several streams in given shares; each position belongs to one of them.

    Attributes:
        sources: The streams; their clips must have equal shapes, and be annotated all or none.
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
            ValueError: If the clips differ in shape or in frames per second, or only some are annotated.
        """
        owners = [self.source_idx(sample_id) for sample_id in sample_ids]
        rows: dict[int, tuple[Batch, int]] = {}
        for owner in sorted(set(owners)):
            own = [sample_id for sample_id, idx in zip(sample_ids, owners, strict=True) if idx == owner]
            part = self.sources[owner].batch(own, device)
            rows.update((sample_id, (part, row)) for row, sample_id in enumerate(own))
        found = [rows[sample_id] for sample_id in sample_ids]
        shapes = {tuple(part.pixels.shape[1:]) for part, _ in found}
        rates = {part.fps for part, _ in found}
        if len(shapes) > 1 or len(rates) > 1:
            raise ValueError(
                "`sources` must have clips of one shape and of one rate, "
                f"got {sorted(shapes)} at {sorted(rates)} frames per second"
            )
        pixels = torch.stack([part.pixels[row] for part, row in found])
        captions = tuple(part.captions[row] for part, row in found)
        mentions, masks = _annotations(found)
        return Batch(tuple(sample_ids), pixels, captions, rates.pop(), mentions=mentions, masks=masks)


def _annotations(
    rows: Sequence[tuple[Batch, int]],
) -> tuple[tuple[tuple[range, ...], ...], Tensor] | tuple[None, None]:
    """Mentions and masks of rows of batches, for as many objects as the richest of them has."""
    mentions = [part.mentions[row] for part, row in rows if part.mentions is not None]
    masks = [part.masks[row] for part, row in rows if part.masks is not None]
    if not mentions:
        return None, None
    if len(mentions) < len(rows):
        raise ValueError(
            f"`sources` must be annotated all or none, got {len(mentions)} clips of {len(rows)} with "
            "mentions: set `annotated` of all of them"
        )
    num_objects = max(map(len, masks))
    padded = [F.pad(mask, (0, 0) * 3 + (0, num_objects - len(mask))) for mask in masks]
    return tuple(mentions), torch.stack(padded)
