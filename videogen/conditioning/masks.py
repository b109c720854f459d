"""Masks of the pixels that are known, drawn at random to train one network for all ways to use them.

The first frame makes a clip of an image, the first few prolong a clip, some of all frames are interpolated,
and rectangles of space are filled in or drawn on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Size = tuple[int, int, int]
"""Frames, height and width of a clip, in pixels."""

_MOST_BOXES = 3


@dataclass(frozen=True)
class MaskKind:
    """A way in which a part of a clip is known.

    Attributes:
        share: Of the clips in training.
        draw: Gives a mask `(1, F, H, W)` of it.
        fewest_frames: Of a clip that it leaves something to draw of.
    """

    share: float
    draw: Callable[[Size, torch.Generator], Tensor]
    fewest_frames: int = 1


def draw_masks(size: Size, generators: Sequence[torch.Generator]) -> Tensor:
    """A mask for each generator, of a kind drawn by the shares of `MIXTURE`.

    A clip too short for a kind, by which all of it would be known, gets boxes in its place.

    Args:
        size: Frames, height and width of the clips.
        generators: One per clip, on the CPU.

    Returns:
        `(B, 1, F, H, W)` float32, 1 where a pixel is known and 0 elsewhere.
    """
    return torch.stack([_draw_mask(size, generator) for generator in generators])


def _draw_mask(size: Size, generator: torch.Generator) -> Tensor:
    shares = torch.tensor([kind.share for kind in MIXTURE])
    kind = MIXTURE[int(torch.multinomial(shares, 1, generator=generator))]
    return draw_boxes(size, generator) if size[0] < kind.fewest_frames else kind.draw(size, generator)


def draw_nothing(size: Size, generator: torch.Generator) -> Tensor:
    """`(1, F, H, W)` without a known pixel."""
    return torch.zeros(1, *size)


def draw_first(size: Size, generator: torch.Generator) -> Tensor:
    """`(1, F, H, W)` with the first frame known."""
    return _frames(size, slice(1))


def draw_first_and_last(size: Size, generator: torch.Generator) -> Tensor:
    """`(1, F, H, W)` with the first and the last frame known."""
    return _frames(size, [0, -1])


def draw_beginning(size: Size, generator: torch.Generator) -> Tensor:
    """`(1, F, H, W)` with the first k frames known, 2 <= k < F."""
    return _frames(size, slice(_between(2, size[0] - 1, generator)))


def draw_every_nth(size: Size, generator: torch.Generator) -> Tensor:
    """`(1, F, H, W)` with every n-th frame known, 2 <= n <= F, from one of the first n on.

    So a single frame anywhere is among them.
    """
    period = _between(2, size[0], generator)
    return _frames(size, slice(_between(0, period - 1, generator), None, period))


def draw_boxes(size: Size, generator: torch.Generator) -> Tensor:
    """`(1, F, H, W)` with one to three rectangles of space, and as often what is around them, known.

    A rectangle has a quarter to three quarters of the height and of the width. As often as not it is a tube
    through all frames, else a box of some frames in a row.
    """
    num_frames = size[0]
    mask = torch.zeros(1, *size)
    for _ in range(_between(1, _MOST_BOXES, generator)):
        length = num_frames if _coin(generator) else _between(1, num_frames, generator)
        sides = [_between(max(1, side // 4), max(1, side * 3 // 4), generator) for side in size[1:]]
        corner = [
            _between(0, whole - part, generator) for whole, part in zip(size, (length, *sides), strict=True)
        ]
        frames, rows, columns = (
            slice(start, start + part) for start, part in zip(corner, (length, *sides), strict=True)
        )
        mask[:, frames, rows, columns] = 1
    return mask if _coin(generator) else 1 - mask


def _frames(size: Size, known: slice | list[int]) -> Tensor:
    mask = torch.zeros(1, *size)
    mask[:, known] = 1
    return mask


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _coin(generator: torch.Generator) -> bool:
    return _between(0, 1, generator) == 1


MIXTURE = (
    MaskKind(0.30, draw_nothing),
    MaskKind(0.20, draw_first, fewest_frames=2),
    MaskKind(0.10, draw_first_and_last, fewest_frames=3),
    MaskKind(0.15, draw_beginning, fewest_frames=3),
    MaskKind(0.10, draw_every_nth, fewest_frames=2),
    MaskKind(0.15, draw_boxes),
)
"""The kinds of masks, with their shares."""
