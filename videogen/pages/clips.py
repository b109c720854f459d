"""Clips that play in a page: in a notebook, where a `ClipGrid` shows itself, and in the reports."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from videogen.io import frames_to_uint8
from videogen.pages.skeleton import picture

if TYPE_CHECKING:
    from torch import Tensor

_QUALITY = 80  # of lossy WebP, 0 to 100


def animated_webp(frames: np.ndarray | Tensor, fps: float = 8.0, *, lossless: bool = False) -> bytes:
    """A clip as an animated WebP that plays without end.

    Args:
        frames: `(F, H, W, 3)`, uint8 or float in [0, 1]; a tensor is `(F, 3, H, W)`.
        fps: Frames per second.
        lossless: Whether every pixel is kept, at three times the size. Otherwise the picture is doubled, as
            WebP has colour at half the resolution, and what is lost is hard to see.

    Raises:
        ValueError: If the frames are no clip, or the rate is not above 0.
    """
    from PIL import Image

    if not fps > 0:
        raise ValueError(f"`fps` must be above 0, got {fps}")
    pixels = frames_to_uint8(frames)
    if not lossless:
        pixels = pixels.repeat(2, axis=1).repeat(2, axis=2)
    first, *others = (Image.fromarray(frame) for frame in pixels)
    stream = io.BytesIO()
    first.save(
        stream,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=round(1000 / fps),
        loop=0,
        lossless=lossless,
        quality=_QUALITY,
    )
    return stream.getvalue()


@dataclass(frozen=True)
class ClipGrid:
    """Clips side by side, each under its caption; a notebook shows it when a cell ends with it.

    Attributes:
        num_clips: How many there are.
        html: A `div` that needs no other file.
    """

    num_clips: int
    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def show_clips(
    clips: Sequence[np.ndarray | Tensor] | np.ndarray | Tensor,
    captions: Sequence[str] | None = None,
    *,
    fps: float = 8.0,
    columns: int = 4,
    width: int = 160,
) -> ClipGrid:
    """Lay clips out in a grid.

    Args:
        clips: Each `(F, H, W, 3)`, uint8 or float in [0, 1], or a tensor `(F, 3, H, W)`; such as
            the `frames` of a pipeline's output.
        captions: One for each clip.
        fps: Frames per second.
        columns: Clips beside one another.
        width: Of a clip on the page, in pixels; its height follows.

    Raises:
        ValueError: If there is no clip, or the captions do not match in number.
    """
    if len(clips) == 0:
        raise ValueError("`clips` must hold at least one clip, got none")
    if columns < 1:
        raise ValueError(f"`columns` must be at least 1, got {columns}")
    texts = [""] * len(clips) if captions is None else list(captions)
    if len(texts) != len(clips):
        raise ValueError(f"`captions` must be {len(clips)}, one for each clip, got {len(texts)}")
    look = f"width:{width}px;image-rendering:pixelated;display:block"
    figures = "".join(
        f'<figure style="margin:0;width:{width}px">'
        f"{picture(animated_webp(clip, fps), text, look)}"
        f'<figcaption style="font:12px sans-serif;padding:2px 0 8px">{escape(text)}</figcaption></figure>'
        for clip, text in zip(clips, texts, strict=True)
    )
    style = f"display:grid;grid-template-columns:repeat({min(columns, len(clips))},{width}px);gap:8px"
    return ClipGrid(len(clips), f'<div style="{style}">{figures}</div>')
