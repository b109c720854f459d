"""What the data side hands to every training objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Clips with their captions.

    Attributes:
        sample_ids: Position of each clip in the training stream; whatever is random in its treatment follows
            from it.
        pixels: `(B, 3, F, H, W)` in [-1, 1].
        captions: One per clip.
        fps: Frames per second.
    """

    sample_ids: tuple[int, ...]
    pixels: Tensor
    captions: tuple[str, ...]
    fps: float


class ClipSource(Protocol):
    """An endless, random-access stream of training clips."""

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The clips at these positions, the same ones whenever they are asked for."""
        ...
