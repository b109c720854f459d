"""Plots and the page: axes, what is drawn of known points, and a page that needs no other file."""

import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from videogen.exploration.charts import Axis, convergence_chart, pareto_chart, trajectory_chart
from videogen.exploration.grid import GridPoint
from videogen.exploration.results import ClipMeasures, Exploration, PointResult, TrajectoryStep
from videogen.pages.drawing import Dot, Drawing, Line, Words

SETUP: dict[str, Any] = {
    "model": "a <model>",
    "prompts": ["a red & blue star", "a ring"],
    "seeds": [0],
    "clip": [8, 32, 32],
    "device": "cpu",
    "dtype": "float32",
    "batch_size": 1,
    "num_threads": 1,
    "reference_steps": 50,
}


def result_of(scheduler: str, steps: int, seconds: float, accuracy: list[bool], error: float) -> PointResult:
    clips = tuple(
        ClipMeasures(*(idx, idx, 0.1, 0.2, 0.0, seconds, 2.0 * steps), psnr=30.0, error=error, accuracy=right)
        for idx, right in enumerate(accuracy)
    )
    way = tuple(TrajectoryStep(1000 - 100 * idx, 1 - idx / 2, None) for idx in range(3))
    return PointResult(GridPoint(scheduler, steps, 3.0), clips, (), way)


@pytest.fixture
def exploration() -> Exploration:
    """Errors of order one and two; `euler 8` lies far above the line between the others of the front."""
    results = (
        result_of("euler", 4, 1.0, [False, False, False, False], 0.4),
        result_of("euler", 8, 2.0, [True, True, True, False], 0.2),
        result_of("heun", 4, 2.5, [False, True, False, False], 0.32),
        result_of("heun", 8, 9.0, [True, True, True, True], 0.08),
        PointResult(GridPoint("unipc", 4, 3.0), failure="latents are not finite"),
    )
    return Exploration(
        SETUP, results, 6, "interrupted", lambda name: b"RIFF" if name.endswith("-0") else None
    )


def words_of(drawing: Drawing) -> list[str]:
    return [item.text for item in drawing.items if isinstance(item, Words)]


def test_axes_map_values_to_pixels() -> None:
    axis = Axis(0.0, 10.0, 100.0, 200.0)
    assert (axis(0.0), axis(5.0), axis(10.0)) == (100.0, 150.0, 200.0)
    assert axis.ticks() == [0, 2, 4, 6, 8, 10]
    log = Axis(1.0, 100.0, 0.0, 10.0, log=True)
    assert abs(log(10.0) - 5.0) < 1e-9
    assert log.ticks() == [1, 2, 5, 10, 20, 50, 100]
    flat = Axis.around([3.0, 3.0], 0.0, 1.0)
    assert flat.low < 3.0 < flat.high


def test_the_front_and_its_knee(exploration: Exploration) -> None:
    front = exploration.pareto()
    assert (front.x, front.y) == ("seconds", "accuracy")
    assert [result.point.label for result in front.results] == [
        "euler 4, scale 3",
        "euler 8, scale 3",
        "heun 8, scale 3",
    ]
    assert front.knee is front.results[1]
    assert exploration.best().num_inference_steps == 8 and exploration.best().scheduler == "heun"
    assert exploration.best(max_seconds=2).scheduler == "euler"
    assert exploration.orders() == pytest.approx({"euler, scale 3": 1.0, "heun, scale 3": 2.0})


def test_the_pareto_chart_shows_all_points_and_names_the_front(exploration: Exploration) -> None:
    drawing = pareto_chart(exploration)
    noted = [item for item in drawing.items if isinstance(item, Dot) and item.note]
    assert len(noted) == 4
    words = words_of(drawing)
    assert "euler 8, scale 3 (knee)" in words and "heun 4, scale 3" not in words
    places = {item.note.split(":")[0]: item for item in noted}
    assert places["euler 4, scale 3"].x < places["euler 8, scale 3"].x < places["heun 8, scale 3"].x
    assert places["heun 8, scale 3"].y < places["euler 4, scale 3"].y  # higher up


def test_the_convergence_chart_names_the_orders(exploration: Exploration) -> None:
    words = words_of(convergence_chart(exploration))
    assert "euler, scale 3: order 1.0" in words and "heun, scale 3: order 2.0" in words
    empty = Exploration(SETUP, exploration.results[:1], 1, None, lambda _: None)
    with pytest.raises(ValueError, match="needs `reference_steps` above 0"):
        convergence_chart(empty)
    with pytest.raises(ValueError, match="no trajectory"):
        trajectory_chart([exploration.results[4]])


def test_a_drawing_as_a_picture_and_as_svg() -> None:
    drawing = Drawing(60, 40)
    drawing.add(Line(((0, 20), (60, 20)), "#ff0000", 4), Dot(30, 20, 8, "#0000ff", "a < b"))
    drawing.add(Words(5, 12, "x & y"))
    image = Image.open(io.BytesIO(drawing.to_png(scale=1))).convert("RGB")
    assert image.size == (60, 40)
    near = {(30, 20): (0, 0, 255), (5, 20): (255, 0, 0), (55, 35): (255, 255, 255)}
    for place, colour in near.items():
        pixel = image.getpixel(place)
        assert isinstance(pixel, tuple)
        assert max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 30
    svg = drawing.to_svg()
    assert "<title>a &lt; b</title>" in svg and "x &amp; y" in svg and svg.startswith("<svg")


class Balance(HTMLParser):
    """Notes tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file(exploration: Exploration) -> None:
    page = exploration.to_html()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links and all(link.startswith("data:image/webp;base64,") for link in links)
    for text in (
        "Samplers of a &lt;model&gt;",
        "a red &amp; blue star",
        "Not finished: interrupted.",
        "Knee, after which more time brings less: euler 8, scale 3.",
        "failed: latents are not finite",
        "order 2.0",
    ):
        assert text in page


def test_a_page_of_nothing_is_a_page() -> None:
    page = Exploration(SETUP, (), 6, "the budget of 1 s is used up", lambda _: None).to_html()
    assert "Not finished: the budget of 1 s is used up." in page
