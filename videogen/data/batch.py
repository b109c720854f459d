"""What the data side hands to every training objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Clips with their captions, all frames of which are valid.

    Attributes:
        sample_ids: Position of each clip in the training stream; whatever is random in its treatment follows
            from it.
        pixels_or_none: `(B, 3, F, H, W)` in [-1, 1]; None where there are only latents.
        captions: One per clip.
        fps: Frames per second.
        latents: `(B, C, f, h, w)` of unit variance, where they were cached.
        prompt_embeds: `(B, L, D)` of the captions, where they were cached.
        attention_mask: `(B, L)` bool, the tokens of `prompt_embeds` that may be attended to.
        labels: `(B, A)` int64, for each of A attributes the class of what the clip shows, where it is known.
        codec_hash: Of the codec that made cached latents, where it is known.
        mentions: For each clip and each of its objects the characters of the caption that describe it, where
            clips are annotated; nothing for a clip in whose caption they are not known.
        masks: `(B, O, F, H, W)` bool, where clips are annotated: pixels that show each object, in the order
            of `mentions`; all False beyond a clip's own objects.
    """

    sample_ids: tuple[int, ...]
    pixels_or_none: Tensor | None
    captions: tuple[str, ...]
    fps: float
    latents: Tensor | None = None
    prompt_embeds: Tensor | None = None
    attention_mask: Tensor | None = None
    labels: Tensor | None = None
    codec_hash: str | None = None
    mentions: tuple[tuple[range, ...], ...] | None = None
    masks: Tensor | None = None

    @property
    def pixels(self) -> Tensor:
        """`(B, 3, F, H, W)` in [-1, 1].

        Raises:
            ValueError: If the batch holds only latents.
        """
        if self.pixels_or_none is None:
            raise ValueError("these clips are cached latents without pixels: this needs a source of pixels")
        return self.pixels_or_none

    def cut(self, corners: Sequence[tuple[int, int]], size: int) -> Batch:
        """Pixels and masks cut to squares, given the row and the column at which each of them begins."""

        def squares(clips: Tensor) -> Tensor:
            return torch.stack(
                [
                    clip[..., top : top + size, left : left + size]
                    for clip, (top, left) in zip(clips, corners, strict=True)
                ]
            )

        masks = None if self.masks is None else squares(self.masks)
        return replace(self, pixels_or_none=squares(self.pixels), masks=masks)


class ClipSource(Protocol):
    """An endless, random-access stream of training clips."""

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The clips at these positions, the same ones whenever they are asked for."""
        ...


class LabelledSource(ClipSource, Protocol):
    """A stream whose clips have labels."""

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """For each attribute the names of its classes, in the order of `Batch.labels`."""
        ...

    def likenesses(self) -> dict[str, Tensor]:
        """For attributes that have them, what each class looks like: `(number of classes, D)`, in any unit.

        Where there are many classes with few clips of each, a classifier that begins with them learns from
        every clip also what clips of similar classes look like.
        """
        ...
