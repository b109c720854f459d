"""What is in clips of the world `emoji`, exactly: classes, boxes, masks, what is in front of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from videogen.data.batch import Batch
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.world import (
    BACKDROP_COLOURS,
    BACKDROP_KINDS,
    PLACES,
    SIZES,
    EmojiObject,
    EmojiScene,
    place_of,
)
from videogen.data.rendering import Rendering, half_opaque
from videogen.data.shapes.world import MOTIONS, X, Y

CLASSES: dict[str, tuple[str, ...]] = {
    "motion": MOTIONS,
    "place": PLACES,
    "size": tuple(SIZES),
    "backdrop": tuple(BACKDROP_COLOURS),
    "kind": BACKDROP_KINDS,
}
"""For each attribute of a clip of one subject its classes, in the order of `Batch.labels`; before them comes
the subject, whose class is its place in the artwork."""


LIKENESS_SIDE = 12
"""Pixels along a side of the pictures by which subjects are taken to be similar."""


@dataclass(frozen=True)
class Annotations:
    """Where the objects of clips are; L is the largest number of objects in one of them.

    Attributes:
        masks: `(B, L, F, H, W)` bool; see `Rendering.masks`.
        boxes: `(B, L, F, 4)` int64: left, top, right and bottom of the whole object in pixels, what something
            in front of it hides included; right and bottom lie behind the last pixel. All 0 if it has none.
    """

    masks: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class LabelledEmoji:
    """Clips of one subject each, with their labels.

    Attributes:
        clips: Where they come from.
    """

    clips: EmojiClips

    def __post_init__(self) -> None:
        """Refuse clips of two objects, of which it would not be clear whose attributes are meant."""
        if self.clips.two_object_rate != 0:
            raise ValueError(f"`clips.two_object_rate` must be 0, got {self.clips.two_object_rate}")

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The names of all classes; see `LabelledSource`."""
        return {"subject": tuple(subject.name for subject in self.clips.world.artwork.subjects), **CLASSES}

    def likenesses(self) -> dict[str, Tensor]:
        """The mean of each subject's loop, 12 pixels wide; see `LabelledSource`."""
        artwork = self.clips.world.artwork
        (pixels,) = artwork.levels((LIKENESS_SIDE,)).pixels(range(len(artwork)))
        return {"subject": pixels.float().mean(1).flatten(1) / 255}

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Compose the clips at these positions; see `ClipSource`."""
        labels = torch.tensor([labels_of(self.clips.scene(sample_id)) for sample_id in sample_ids])
        return replace(self.clips.batch(sample_ids, device), labels=labels.to(device))


def labels_of(scene: EmojiScene) -> list[int]:
    """The class of the subject and of each attribute of `CLASSES` in a scene of one subject."""
    (item,) = scene.objects
    assert isinstance(item, EmojiObject)
    names = {
        "motion": item.motion,
        "place": place_of(float(scene.tracks[0, 0, X]), float(scene.tracks[0, 0, Y])),
        "size": item.size,
        "backdrop": scene.backdrop.colour,
        "kind": scene.backdrop.kind,
    }
    return [item.subject_idx, *(classes.index(names[name]) for name, classes in CLASSES.items())]


def annotate(scenes: Sequence[EmojiScene], rendering: Rendering) -> Annotations:
    """Where the objects of scenes are in what `render` made of them."""
    coverage = rendering.coverage()
    tracks = [scene.tracks for scene in scenes]
    return Annotations(rendering.masks(tracks), _boxes(coverage >= half_opaque(tracks, coverage)))


def _boxes(masks: Tensor) -> Tensor:
    """`(..., 4)` int64 around what is True in `(..., H, W)`."""
    edges = []
    for axis in (-2, -1):  # over rows to find columns, then over columns to find rows
        taken = masks.any(axis)
        size = taken.shape[-1]
        places = torch.arange(size, device=masks.device)
        first = torch.where(taken, places, size).amin(-1)
        last = torch.where(taken, places + 1, 0).amax(-1)
        edges.append((torch.where(last > 0, first, 0), last))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], dim=-1)
