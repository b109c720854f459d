"""The plots of an exploration: the Pareto front, convergence, and trajectories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from videogen.exploration.results import METRICS, Exploration, PointResult
from videogen.pages.drawing import INK, PALETTE, SOFT, Dot, Drawing, Line, Words, points_of, text_width

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 20, 52
_LEGEND_LINE = 17
_SHIFT = 6  # pixels between schedulers of equal cost
_GRID = "#e8e8ea"


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: from values to pixels.

    Attributes:
        low: Value at its first pixel.
        high: Value at its last.
        first: That pixel.
        last: The other, which may be the smaller.
        log: Whether it is logarithmic.
        marks: Values to name; by default round ones.
    """

    low: float
    high: float
    first: float
    last: float
    log: bool = False
    marks: tuple[float, ...] = ()

    @classmethod
    def around(cls, values: Sequence[float], first: float, last: float, log: bool = False) -> Axis:
        """An axis with some room around values, which are above 0 if it is logarithmic."""
        low, high = min(values), max(values)
        if log:
            room = (high / low) ** 0.06 if high > low else 2.0
            return cls(low / room, high * room, first, last, log)
        room = 0.06 * (high - low) or max(abs(high), 1e-6) / 2
        return cls(low - room, high + room, first, last)

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        place = ((math.log(value) if self.log else value) - low) / (high - low)
        return self.first + place * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Values to name along it."""
        if self.marks:
            return list(self.marks)
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            few = math.log10(self.high / self.low) > 3
            ticks = [part * 10.0**power for power in decades for part in ((1,) if few else (1, 2, 5))]
        else:
            rough = (self.high - self.low) / 5
            power = 10 ** math.floor(math.log10(rough))
            step = next(part * power for part in (1, 2, 5, 10) if part * power >= rough)
            start = math.ceil(self.low / step)
            ticks = [idx * step for idx in range(start, math.floor(self.high / step) + 1)]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def pareto_chart(exploration: Exploration, x: str = "seconds", y: str | None = None) -> Drawing:
    """All points with their error bars, the front as a line, its knee ringed.

    Args:
        exploration: What was found.
        x: As for `Exploration.pareto`.
        y: Likewise.

    Raises:
        ValueError: As `Exploration.pareto`.
    """
    front = exploration.pareto(x, y)
    shown = [result for result in exploration.results if result.values(x) and result.values(front.y)]
    measured = [(result, result.measured(x), result.measured(front.y)) for result in shown]
    bars = [(result, cost, gain) for result, cost, gain in measured if cost is not None and gain is not None]
    names = list(dict.fromkeys(result.point.scheduler for result in shown))
    drawing, height = _sheet([(name, _colour(idx)) for idx, name in enumerate(names)])
    costs = [value for _, cost, _ in bars for value in (cost.low, cost.mean, cost.high)]
    gains = [value for _, _, gain in bars for value in (gain.low, gain.mean, gain.high)]
    across = Axis.around(costs, _LEFT, _WIDTH - _RIGHT, log=max(costs) > 4 * min(costs) > 0)
    up = Axis.around(gains, height, _TOP)
    _draw_axes(drawing, across, up, METRICS[x][0], METRICS[front.y][0], height)
    # Schedulers of equal cost stand beside each other, or their bars would hide one another.
    shift = {name: _SHIFT * (idx - (len(names) - 1) / 2) for idx, name in enumerate(names)}
    places = {
        result: (across(cost.mean) + shift[result.point.scheduler], up(gain.mean))
        for result, cost, gain in bars
    }
    drawing.add(Line(tuple(places[result] for result in front.results), SOFT, 1.5))
    for result, cost, gain in bars:
        colour = _colour(names.index(result.point.scheduler))
        left, top = places[result]
        drawing.add(Line(((left, up(gain.low)), (left, up(gain.high))), colour, 0.8))
        if cost.low < cost.high:
            drawing.add(Line(((across(cost.low), top), (across(cost.high), top)), colour, 0.8))
        if result is front.knee:
            drawing.add(Dot(left, top, 9, INK), Dot(left, top, 7, "#ffffff"))
        note = f"{result.point.label}: {METRICS[x][0]} {cost}, {METRICS[front.y][0]} {gain}"
        drawing.add(Dot(left, top, 4.5, colour, note))
    for result in front.results:
        left, top = places[result]
        name = result.point.label + (" (knee)" if result is front.knee else "")
        side = "end" if left > _WIDTH * 0.7 else "start"
        # The front comes from the lower left and goes on to the upper right.
        place = (left - 9, top - 8) if side == "end" else (left + 9, top + 16)
        drawing.add(Words(*place, name, 11, INK, side))
    return drawing


def convergence_chart(exploration: Exploration) -> Drawing:
    """Error of the median clip against steps on logarithmic axes, a line a setting, with its fitted order.

    Raises:
        ValueError: If no setting was compared with a reference at several numbers of steps.
    """
    orders = exploration.orders()
    lines = {label: line for label, line in exploration.by_steps("error").items() if label in orders}
    if not lines:
        raise ValueError("convergence needs `reference_steps` above 0 and at least two numbers of `steps`")
    legend = [(f"{label}: order {orders[label]:.1f}", _colour(idx)) for idx, label in enumerate(lines)]
    title = f"{METRICS['error'][0]}, median clip"
    return _lines_chart(legend, [list(line) for line in lines.values()], "denoising steps", title, log=True)


def trajectory_chart(results: Sequence[PointResult]) -> Drawing:
    """How far the predicted clean clip still is from the final one, over the evaluations of the network.

    Raises:
        ValueError: If no point has a trajectory.
    """
    kept = [result for result in results if result.trajectory]
    if not kept:
        raise ValueError("there is no trajectory to show: no point was run to its end")
    lines = [
        [((idx + 1) / len(result.trajectory), step.to_end) for idx, step in enumerate(result.trajectory)]
        for result in kept
    ]
    legend = [(result.point.label, _colour(idx)) for idx, result in enumerate(kept)]
    return _lines_chart(legend, lines, "share of the evaluations done", "distance to the final latents")


def _lines_chart(
    legend: Sequence[tuple[str, str]],
    lines: Sequence[Sequence[tuple[float, float]]],
    x_title: str,
    y_title: str,
    log: bool = False,
) -> Drawing:
    drawing, height = _sheet(legend)
    across = Axis.around([x for line in lines for x, _ in line], _LEFT, _WIDTH - _RIGHT, log)
    if log:
        across = replace(across, marks=tuple(sorted({x for line in lines for x, _ in line})))
    up = Axis.around([y for line in lines for _, y in line if y > 0 or not log], height, _TOP, log)
    _draw_axes(drawing, across, up, x_title, y_title, height)
    for (label, colour), line in zip(legend, lines, strict=True):
        seen = [(x, y) for x, y in line if y > 0 or not log]
        drawing.add(Line(points_of([across(x) for x, _ in seen], [up(y) for _, y in seen]), colour, 1.6))
        drawing.add(*(Dot(across(x), up(y), 3.5, colour, f"{label}: {x:g}, {y:.4g}") for x, y in seen))
    return drawing


def _sheet(legend: Sequence[tuple[str, str]]) -> tuple[Drawing, int]:
    """A sheet with a legend at its foot, and the y of the bottom axis."""
    rows: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for label, colour in legend:
        width = text_width(label, 12) + 34
        if rows[-1] and used + width > _WIDTH - _LEFT - _RIGHT:
            rows.append([])
            used = 0.0
        rows[-1].append((label, colour))
        used += width
    drawing = Drawing(_WIDTH, _HEIGHT + _LEGEND_LINE * len(rows))
    for idx, row in enumerate(rows):
        left, top = float(_LEFT), _HEIGHT + _LEGEND_LINE * idx
        for label, colour in row:
            drawing.add(Dot(left + 5, top - 4, 4.5, colour), Words(left + 14, top, label))
            left += text_width(label, 12) + 34
    return drawing, _HEIGHT - _BOTTOM - 10


def _draw_axes(drawing: Drawing, across: Axis, up: Axis, x_title: str, y_title: str, height: int) -> None:
    for tick in across.ticks():
        left = across(tick)
        drawing.add(Line(((left, _TOP), (left, height)), _GRID))
        drawing.add(Words(left, height + 16, f"{tick:.6g}", 11, SOFT, "middle"))
    for tick in up.ticks():
        top = up(tick)
        drawing.add(Line(((_LEFT, top), (_WIDTH - _RIGHT, top)), _GRID))
        drawing.add(Words(_LEFT - 6, top + 4, f"{tick:.6g}", 11, SOFT, "end"))
    drawing.add(Line(((_LEFT, _TOP), (_LEFT, height), (_WIDTH - _RIGHT, height)), SOFT))
    drawing.add(Words(_WIDTH - _RIGHT, height + 32, x_title, 12, INK, "end"))
    drawing.add(Words(_LEFT, _TOP - 7, y_title, 12))


def _colour(idx: int) -> str:
    return PALETTE[idx % len(PALETTE)]
