"""Lines, dots and words on a sheet, as SVG for pages and notebooks or as PNG for files; needs Pillow only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from PIL import Image, ImageDraw, ImageFont

INK, SOFT, PAPER = "#1c1c1e", "#8a8a90", "#ffffff"
PALETTE = ("#2f6fde", "#d8572a", "#1f8a5b", "#8e44ad", "#c39b12", "#0f8b9d", "#b0306a", "#5d6d7e")
_ANCHORS = {"start": "l", "middle": "m", "end": "r"}


@dataclass(frozen=True)
class Line:
    """A line through points, in pixels from the top left."""

    points: tuple[tuple[float, float], ...]
    colour: str = INK
    width: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A filled circle; pages show its note where the mouse rests on it."""

    x: float
    y: float
    radius: float
    colour: str
    note: str = ""


@dataclass(frozen=True)
class Words:
    """One line of text whose baseline begins, has its middle, or ends at a place (`anchor`)."""

    x: float
    y: float
    text: str
    size: int = 12
    colour: str = INK
    anchor: str = "start"


@dataclass
class Drawing:
    """A sheet; what is added later lies above.

    Attributes:
        width: In pixels.
        height: In pixels.
        items: What is on it.
    """

    width: int
    height: int
    items: list[Line | Dot | Words] = field(default_factory=list, repr=False)

    def add(self, *items: Line | Dot | Words) -> None:
        """Put something on the sheet."""
        self.items.extend(items)

    def to_svg(self) -> str:
        """As an SVG element."""
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        parts = [f'<rect width="100%" height="100%" fill="{PAPER}"/>', *map(_to_svg, self.items)]
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'

    def to_png(self, scale: int = 2) -> bytes:
        """As a PNG file, with `scale` dots per pixel."""
        fine = 2 * scale  # drawn larger and made smaller, for smooth edges
        image = Image.new("RGB", (self.width * fine, self.height * fine), PAPER)
        draw = ImageDraw.Draw(image)
        for item in self.items:
            _to_image(draw, item, fine)
        small = image.resize((self.width * scale, self.height * scale), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.quantize(64).save(stream, "PNG", optimize=True)
        return stream.getvalue()

    def _repr_svg_(self) -> str:
        """What notebooks show."""
        return self.to_svg()


def _to_svg(item: Line | Dot | Words) -> str:
    if isinstance(item, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in item.points)
        style = f'fill="none" stroke="{item.colour}" stroke-width="{item.width:g}"'
        return f'<polyline points="{points}" {style}/>'
    if isinstance(item, Dot):
        note = f"<title>{escape(item.note)}</title>" if item.note else ""
        place = f'cx="{item.x:.1f}" cy="{item.y:.1f}" r="{item.radius:g}"'
        return f'<circle {place} fill="{item.colour}">{note}</circle>'
    style = f'font-family="system-ui, sans-serif" font-size="{item.size}" text-anchor="{item.anchor}"'
    return f'<text x="{item.x:.1f}" y="{item.y:.1f}" fill="{item.colour}" {style}>{escape(item.text)}</text>'


def _to_image(draw: ImageDraw.ImageDraw, item: Line | Dot | Words, scale: int) -> None:
    if isinstance(item, Line):
        points = [(x * scale, y * scale) for x, y in item.points]
        draw.line(points, item.colour, max(1, round(item.width * scale)), joint="curve")
    elif isinstance(item, Dot):
        x, y, radius = item.x * scale, item.y * scale, item.radius * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), item.colour)
    else:
        font = ImageFont.load_default(item.size * scale)
        place = (item.x * scale, item.y * scale)
        draw.text(place, item.text, item.colour, font, anchor=f"{_ANCHORS[item.anchor]}s")


def text_width(text: str, size: int) -> float:
    """About how wide a line of text is, in pixels."""
    return ImageFont.load_default(size).getlength(text)


def points_of(xs: Sequence[float], ys: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Points of a line from their coordinates."""
    return tuple(zip(xs, ys, strict=True))
