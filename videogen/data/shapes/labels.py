"""Clips of the world `shapes` with the classes of what they show, to train networks that look at clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from videogen.data.batch import Batch
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, Scene

CLASSES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "motion": MOTIONS,
    "background": tuple(BACKGROUNDS),
}
"""For each attribute of a clip of one object its classes, in the order of `Batch.labels`."""


@dataclass(frozen=True)
class LabelledShapes:
    """Clips of one object each, with their labels.

    Attributes:
        clips: Where they come from.
    """

    clips: ShapesClips = field(default_factory=lambda: ShapesClips(two_object_rate=0.0))

    def __post_init__(self) -> None:
        """Refuse clips of two objects, of which it would not be clear whose attributes are meant."""
        if self.clips.two_object_rate != 0:
            raise ValueError(f"`clips.two_object_rate` must be 0, got {self.clips.two_object_rate}")

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """`CLASSES`; see `LabelledSource`."""
        return CLASSES

    def likenesses(self) -> dict[str, Tensor]:
        """None: each class has clips in plenty; see `LabelledSource`."""
        return {}

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Render the clips at these positions; see `ClipSource`."""
        labels = torch.tensor([labels_of(self.clips.scene(sample_id)) for sample_id in sample_ids])
        return replace(self.clips.batch(sample_ids, device), labels=labels.to(device))


def labels_of(scene: Scene) -> list[int]:
    """The class of each attribute of `CLASSES` in a scene of one object."""
    (item,) = scene.objects
    names = {
        "colour": item.colour,
        "shape": item.shape,
        "size": item.size,
        "motion": item.motion,
        "background": scene.background.name,
    }
    return [classes.index(names[attribute]) for attribute, classes in CLASSES.items()]
