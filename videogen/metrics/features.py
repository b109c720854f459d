"""Clips as points: what a feature network says of each clip of a set, with what the numbers depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from videogen.data.batch import ClipSource

BATCH_SIZE = 16


@dataclass(frozen=True)
class FeatureExtractor:
    """A network by whose features clips are compared.

    Attributes:
        name: Of the network, as it is to stand beside every number made with it.
        weights_hash: Tells its weights from others.
        network: Takes pixels `(B, 3, F, H, W)` in [-1, 1] and gives features `(B, D)`.
    """

    name: str
    weights_hash: str
    network: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ClipFeatures:
    """The features of a set of clips.

    Attributes:
        values: `(n, D)` float64.
        num_frames: Of every clip.
        height: Of every frame, in pixels.
        width: Of every frame, in pixels.
        network: Name of the network that made them.
        weights_hash: Of its weights.
    """

    values: Tensor
    num_frames: int
    height: int
    width: int
    network: str
    weights_hash: str

    def __len__(self) -> int:
        return len(self.values)

    def check_comparable(self, other: ClipFeatures) -> None:
        """Raise ValueError unless another set was made by the same network of clips of the same shape."""
        if (self.network, self.weights_hash) != (other.network, other.weights_hash):
            raise ValueError(
                "both sets must come from one feature network, got "
                f"{self.network} ({self.weights_hash[:8]}) and {other.network} ({other.weights_hash[:8]})"
            )
        if self.clip_shape != other.clip_shape:
            raise ValueError(
                "the clips of both sets must have one (frames, height, width), "
                f"got {self.clip_shape} and {other.clip_shape}"
            )

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """Frames, height and width of every clip."""
        return self.num_frames, self.height, self.width


@torch.no_grad()
def extract_features(
    clips: Iterable[Tensor], extractor: FeatureExtractor, batch_size: int = BATCH_SIZE
) -> ClipFeatures:
    """Compute the features of a set of clips, a few at a time.

    Args:
        clips: Each `(3, F, H, W)` in [-1, 1], all of one shape: a tensor `(n, 3, F, H, W)`, or an iterator of
            which one batch is held at a time.
        extractor: The network.
        batch_size: Clips that it sees at once.

    Raises:
        ValueError: If there are no clips, their shapes differ, a clip has another layout or leaves [-1, 1],
            or the network gives anything but one vector per clip.
        FloatingPointError: If a feature is not finite.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
    parts: list[Tensor] = []
    shape: torch.Size | None = None
    remaining = iter(clips)
    while group := list(islice(remaining, batch_size)):
        for number, clip in enumerate(group, start=sum(map(len, parts))):
            shape = clip.shape if shape is None else shape
            _check_clip(clip, number, shape)
        pixels = torch.stack(group)
        features = extractor.network(pixels.float())
        if features.ndim != 2 or len(features) != len(pixels):
            raise ValueError(
                f"`extractor` {extractor.name} must give ({len(pixels)}, D) for {len(pixels)} clips, "
                f"got {tuple(features.shape)}"
            )
        parts.append(features.double().cpu())
    if shape is None:
        raise ValueError("`clips` is empty: there is nothing to measure")
    values = torch.cat(parts)
    if not bool(torch.isfinite(values).all()):
        raise FloatingPointError(f"features of {extractor.name} are not finite")
    _, num_frames, height, width = shape
    return ClipFeatures(values, num_frames, height, width, extractor.name, extractor.weights_hash)


def source_clips(source: ClipSource, num_clips: int, start: int = 0) -> Iterator[Tensor]:
    """Clips `(3, F, H, W)` of a training stream, from position `start` on, made as they are asked for.

    Raises:
        ValueError: If `num_clips` is below 1, or the source has no pixels.
    """
    if num_clips < 1:
        raise ValueError(f"`num_clips` must be at least 1, got {num_clips}")
    sample_ids = range(start, start + num_clips)
    for first in range(0, num_clips, BATCH_SIZE):
        yield from source.batch(sample_ids[first : first + BATCH_SIZE]).pixels


def _check_clip(clip: Tensor, number: int, shape: torch.Size) -> None:
    if clip.ndim != 4 or clip.shape[0] != 3 or not clip.numel():
        raise ValueError(f"`clips` must each be (3, F, H, W), got {tuple(clip.shape)} for clip {number}")
    if clip.shape != shape:
        raise ValueError(
            f"`clips` must all have the shape of the first, {tuple(shape)}, "
            f"got {tuple(clip.shape)} for clip {number}"
        )
    if not bool((clip.abs() <= 1 + 1e-3).all()):  # also false of NaN
        raise ValueError(f"`clips` must be in [-1, 1], but clip {number} is not")
