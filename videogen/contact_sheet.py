"""One picture of many clips: some frames of each in a row, under its caption."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from videogen.io import frames_to_uint8

if TYPE_CHECKING:
    from PIL import ImageFont

_MARGIN = 8  # around each clip, in pixels
_GAP = 2  # between the frames of a clip
_FONT_SIZE = 12
_LINE_HEIGHT = 16
_MAX_LINES = 3


def contact_sheet(
    clips: Sequence[np.ndarray],
    columns: int,
    captions: Sequence[str] | None = None,
    frames_per_clip: int = 4,
) -> np.ndarray:
    """Lay many clips out in one picture, from left to right and from top to bottom.

    Args:
        clips: each (F, H, W, 3), uint8 or float in [0, 1]; all of one H and W, their F may differ.
        columns: clips beside one another.
        captions: one text for each clip, drawn above it in at most three lines; what lies outside
            ASCII is missing from Pillow's font, and drawn as boxes.
        frames_per_clip: frames shown of each clip, evenly spaced from its first to its last; a shorter clip
            is shown whole.

    Returns:
        (height, width, 3) uint8, on white.

    Raises:
        ValueError: no clip, clips of several sizes, a wrong number of captions, or a count below 1.
    """
    from PIL import Image, ImageDraw, ImageFont

    if columns < 1 or frames_per_clip < 1:
        raise ValueError(
            f"`columns` and `frames_per_clip` must be at least 1, got {columns}, {frames_per_clip}"
        )
    if not clips:
        raise ValueError("`clips` must hold at least one clip, got none")
    if captions is not None and len(captions) != len(clips):
        raise ValueError(f"`captions` must be one for each of {len(clips)} clips, got {len(captions)}")
    pixels = [frames_to_uint8(clip) for clip in clips]
    sizes = sorted({clip.shape[1:3] for clip in pixels})
    if len(sizes) > 1:
        raise ValueError(f"`clips` must be of one (height, width), got {sizes}")

    height, width = sizes[0]
    strip_width = min(frames_per_clip, max(map(len, pixels))) * (width + _GAP) - _GAP
    font = ImageFont.load_default(_FONT_SIZE)
    texts = [_wrap(caption, font, strip_width) for caption in captions] if captions else [[] for _ in pixels]
    text_height = _LINE_HEIGHT * max(map(len, texts))
    cell_width, cell_height = strip_width + 2 * _MARGIN, text_height + height + 2 * _MARGIN
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for idx, (clip, lines) in enumerate(zip(pixels, texts, strict=True)):
        left = idx % columns * cell_width + _MARGIN
        top = idx // columns * cell_height + _MARGIN
        for line_idx, line in enumerate(lines):
            draw.text((left, top + line_idx * _LINE_HEIGHT), line, fill="black", font=font)
        shown = np.linspace(0, len(clip) - 1, min(frames_per_clip, len(clip))).round().astype(int)
        for position, frame_idx in enumerate(shown):
            sheet.paste(
                Image.fromarray(clip[frame_idx]), (left + position * (width + _GAP), top + text_height)
            )
    return np.array(sheet)


def _wrap(caption: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> list[str]:
    """Break a caption into lines of `width` pixels, at spaces if it can be, and cut what is too long."""

    def num_fitting(text: str, room: float) -> int:
        return next((n for n in range(1, len(text)) if font.getlength(text[: n + 1]) > room), len(text))

    # A lone surrogate, which a prompt may hold, has no encoding.
    rest = " ".join(caption.encode("utf-8", "replace").decode("utf-8").split())
    lines: list[str] = []
    while rest:
        end = num_fitting(rest, width)
        if end < len(rest) and len(lines) == _MAX_LINES - 1:
            return [*lines, rest[: num_fitting(rest, width - font.getlength("..."))] + "..."]
        space = rest.rfind(" ", 0, end + 1) if end < len(rest) else -1
        end = space if space > 0 else end
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    return lines
