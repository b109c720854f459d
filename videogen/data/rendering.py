"""What renderers give: clips, and how much of each pixel every object takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from videogen.data.batch import Batch
from videogen.data.shapes.captions import Description
from videogen.data.shapes.world import ALPHA


@dataclass(frozen=True)
class Rendering:
    """Clips, and where every object is in them.

    Attributes:
        pixels: `(B, 3, F, H, W)` float32 in [-1, 1].
        layers: What was painted, in this order: a place in the order of objects, the rows of the batch that
            have one of these objects there, and `(num_rows, F, H, W)` in [0, 1], how much of each pixel it
            takes.
    """

    pixels: Tensor
    layers: tuple[tuple[int, list[int], Tensor], ...]

    def coverage(self) -> Tensor:
        """`(B, L, F, H, W)` in [0, 1]: how much of each pixel an object takes, even where something hides it.

        It is 0 where a scene has fewer than L objects.
        """
        batch_size, _, *frame_shape = self.pixels.shape
        num_objects = 1 + max(place for place, _, _ in self.layers)
        covered = self.pixels.new_zeros(batch_size, num_objects, *frame_shape)
        for place, rows, alpha in self.layers:
            covered[rows, place] = alpha
        return covered

    def visible(self) -> Tensor:
        """`(B, L, F, H, W)` in [0, 1]: `coverage` without what later objects hide."""
        covered = self.coverage()
        free = torch.ones_like(covered[:, 0])
        for place in range(covered.shape[1] - 1, -1, -1):
            alpha = covered[:, place].clone()
            covered[:, place] *= free
            free *= 1 - alpha
        return covered

    def masks(self, tracks: Sequence[np.ndarray]) -> Tensor:
        """Which pixels show each object.

        Args:
            tracks: Of the scenes, `(num_objects, F, 5)` each.

        Returns:
            `(B, L, F, H, W)` bool: pixels at least half of which show the object, so far as it is opaque. Of
            objects that overlap, the one of the larger index is in front; a pixel shows both where that one
            is faded. All False where there is no object, or where it has not begun to fade in.
        """
        visible = self.visible()
        return visible >= half_opaque(tracks, visible)

    def batch(
        self,
        sample_ids: Sequence[int],
        said: Sequence[Description],
        fps: float,
        tracks: Sequence[np.ndarray] | None,
    ) -> Batch:
        """The clips with what is said of them; with `mentions` and `masks` if the tracks are given."""
        return Batch(
            tuple(sample_ids),
            self.pixels,
            tuple(description.text for description in said),
            fps,
            mentions=None if tracks is None else tuple(description.mentions for description in said),
            masks=None if tracks is None else self.masks(tracks),
        )


def half_opaque(tracks: Sequence[np.ndarray], coverage: Tensor) -> Tensor:
    """`(B, L, F, 1, 1)`: how much of a pixel objects take where they fill half of it; infinite where none is.

    Args:
        tracks: Of the scenes, `(num_objects, F, 5)` each.
        coverage: `(B, L, F, H, W)`, of the objects.
    """
    opacity = torch.zeros(coverage.shape[:3], device=coverage.device)
    for row, track in enumerate(tracks):
        opacity[row, : len(track)] = torch.from_numpy(track[..., ALPHA])
    return torch.where(opacity > 0, 0.5 * opacity, torch.inf)[..., None, None]
