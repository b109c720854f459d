"""The shapes that clips come in, and how a picture is cropped and scaled to one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Box = tuple[float, float, float, float]

_ASPECTS = (Fraction(1), Fraction(4, 3), Fraction(3, 4), Fraction(3, 2), Fraction(2, 3))
ASPECTS = (*_ASPECTS, Fraction(16, 9), Fraction(9, 16))  # width over height


@dataclass(frozen=True, order=True)
class Bucket:
    """A shape that clips have in common, so that they fit into one batch."""

    num_frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.num_frames} x {self.width}x{self.height}"


def sizes_of_aspects(height: int, width: int, factor: int) -> list[tuple[int, int]]:
    """Sizes (height, width) of usual aspect ratios, with about as many pixels as a given one.

    Args:
        height: Of the given size, which is the first of the result.
        width: Of the given size.
        factor: Of which every side is a multiple.
    """
    sizes = [(height, width)]
    for aspect in ASPECTS:
        exact = math.sqrt(height * width * aspect)
        new_width = max(1, round(exact / factor)) * factor
        new_height = max(1, round(exact / float(aspect) / factor)) * factor
        if (new_height, new_width) not in sizes:
            sizes.append((new_height, new_width))
    return sizes


def kept_share(width: float, height: float, size: tuple[int, int]) -> float:
    """The part of a picture's area that is left when it is cropped to the aspect of (height, width)."""
    ratio = (width / height) / (size[1] / size[0])
    return min(ratio, 1 / ratio)


def best_size(width: float, height: float, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size (height, width) to which the picture loses least.

    Among equals it is the largest that the picture need not be enlarged for, or else the smallest.
    """

    def preference(size: tuple[int, int]) -> tuple[float, bool, int]:
        enlarged = size[0] > height or size[1] > width
        area = size[0] * size[1]
        return round(kept_share(width, height, size), 3), not enlarged, -area if enlarged else area

    return max(sizes, key=preference)


def crop_box(width: int, height: int, pixel_aspect: Fraction, size: tuple[int, int]) -> Box:
    """The middle of a picture in the aspect of (height, width).

    Args:
        width: Of the picture, in its own pixels.
        height: Of the picture.
        pixel_aspect: Width of its pixels over their height.
        size: (height, width) of the clip.

    Returns:
        (left, top, right, bottom) in the picture's pixels.
    """
    wanted = size[1] / size[0] / float(pixel_aspect)  # in stored pixels
    crop_width, crop_height = min(width, height * wanted), min(height, width / wanted)
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    return left, top, left + crop_width, top + crop_height


def crop_and_scale(picture: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Cut a box out of a picture `(H, W, 3)` uint8 and scale it to (height, width), anti-aliased."""
    from PIL import Image

    image = Image.fromarray(picture)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))
