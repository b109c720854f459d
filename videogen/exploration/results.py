"""What an exploration found: numbers of every clip and point, the best of them, tables and plots."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

from videogen.exploration.fronts import fitted_order, knee, pareto_front
from videogen.exploration.grid import GridPoint
from videogen.metrics.intervals import MeanInterval, bootstrap_mean, wilson_interval
from videogen.presets import Preset

if TYPE_CHECKING:
    import pandas

    from videogen.pages.clips import ClipGrid
    from videogen.pages.drawing import Drawing

METRICS: dict[str, tuple[str, bool | None]] = {
    "seconds": ("seconds per clip", False),
    "passes": ("network passes per clip", False),
    "accuracy": ("prompts right in everything", True),
    "colour": ("right colours", True),
    "shape": ("right shapes", True),
    "size": ("right sizes", True),
    "motion": ("right motions", True),
    "psnr": ("PSNR to the reference, dB", True),
    "error": ("distance to the reference, in latents", False),
    "feature_distance": ("distance of features to the reference", False),
    "diversity": ("difference of clips of one prompt", True),
    "flicker": ("flicker", False),
    "saturation": ("saturation", None),
    "clipped": ("share of values out of range", False),
}
"""Metrics by name: what they are, and whether more is better (None: neither)."""

_SHARES = ("accuracy", "colour", "shape", "size", "motion")


@dataclass(frozen=True)
class ClipMeasures:
    """What was measured of one clip; None is what could not be.

    Attributes:
        prompt_idx: Which prompt.
        seed: The clip is that of a call with this seed.
        flicker: See `ClipLook`, as the next two.
        saturation: See there.
        clipped: See there.
        seconds: From prompt to pixels. Of clips that were made together, the first one tells of all: their
            mean, as of `passes`.
        passes: Of the network, see `counted_passes`.
        psnr: Of the pixels to those of the reference, in dB, at most 100.
        error: Root mean square difference of the latents to those of the reference.
        feature_distance: Euclidean distance of its features to those of the reference.
        colour: Whether the parser of the world finds all colours of the prompt, as the next four.
        shape: All shapes.
        size: All sizes.
        motion: All motions.
        accuracy: All of these.
        failure: What is wrong with a clip that came out blank or not finite; nothing is right in it, and
            nothing else was measured.
    """

    prompt_idx: int
    seed: int
    flicker: float | None = None
    saturation: float | None = None
    clipped: float | None = None
    seconds: float | None = None
    passes: float | None = None
    psnr: float | None = None
    error: float | None = None
    feature_distance: float | None = None
    colour: bool | None = None
    shape: bool | None = None
    size: bool | None = None
    motion: bool | None = None
    accuracy: bool | None = None
    failure: str | None = None


@dataclass(frozen=True)
class TrajectoryStep:
    """How far the clip had come at one evaluation of the network.

    Attributes:
        timestep: Of the scheduler.
        to_end: Root mean square difference of the predicted clean latents to those that the call ended with.
        to_reference: The same to those of the reference, if there is one.
    """

    timestep: float
    to_end: float
    to_reference: float | None


@dataclass(frozen=True, eq=False)
class PointResult:
    """What was measured of one combination of settings.

    Attributes:
        point: The settings.
        clips: One for each prompt and seed.
        diversity: For each prompt the mean difference of two of its clips, if there are several seeds.
        trajectory: Of the first good clip.
        failure: Why there is no good clip, as where latents became infinite.
    """

    point: GridPoint
    clips: tuple[ClipMeasures, ...] = ()
    diversity: tuple[float, ...] = ()
    trajectory: tuple[TrajectoryStep, ...] = ()
    failure: str | None = None

    @property
    def bad_clips(self) -> tuple[ClipMeasures, ...]:
        """Those that came out blank or not finite."""
        return tuple(clip for clip in self.clips if clip.failure is not None)

    def values(self, metric: str) -> list[float]:
        """All measured values of a key of `METRICS`: one a clip; of diversity a prompt, of time a batch."""
        if metric not in METRICS:
            raise ValueError(f"the metric {metric!r} is unknown: known are {', '.join(METRICS)}")
        if metric == "diversity":
            return list(self.diversity)
        found = [getattr(clip, metric) for clip in self.clips]
        return [float(value) for value in found if value is not None]

    def measured(self, metric: str) -> MeanInterval | None:
        """The mean with its 95 % interval: Wilson's for shares, else bootstrap; None if it was not measured.

        The clips of one prompt count as independent.
        """
        values = self.values(metric)
        if not values:
            return None
        if metric in _SHARES:
            share = wilson_interval(round(sum(values)), len(values))
            return MeanInterval(share.share, share.low, share.high, len(values))
        return bootstrap_mean(values)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> PointResult:
        """The inverse of `as_dict`."""
        return cls(
            GridPoint(**content["point"]),
            tuple(ClipMeasures(**clip) for clip in content["clips"]),
            tuple(content["diversity"]),
            tuple(TrajectoryStep(**step) for step in content["trajectory"]),
            content["failure"],
        )


@dataclass(frozen=True)
class ParetoFront:
    """The points that no other one beats in two metrics, from the cheapest to the dearest.

    Attributes:
        x: Metric that costs.
        y: Metric that gains.
        results: The front.
        knee: The one after which more cost brings less and less; None if there is no such.
    """

    x: str
    y: str
    results: tuple[PointResult, ...]
    knee: PointResult | None


@dataclass(frozen=True, eq=False)
class Exploration:
    """The points of a grid that were run, with what they have in common.

    Attributes:
        setup: What all points have in common: prompts, seeds, model, reference, device, versions.
        results: In the order in which they were found.
        num_points: Of the whole grid.
        stopped: Why not all of them were run; None if they were.
        read_clip: Gives the animated WebP of a clip by its name, if there is one.
    """

    setup: dict[str, Any]
    results: tuple[PointResult, ...]
    num_points: int
    stopped: str | None
    read_clip: Callable[[str], bytes | None]

    @cached_property
    def quality(self) -> str:
        """The metric of quality that was measured: `accuracy`, or else `psnr`."""
        return "accuracy" if any(result.values("accuracy") for result in self.results) else "psnr"

    def to_rows(self) -> list[dict[str, Any]]:
        """One row for each point: settings, and of every metric the mean and the ends of its interval."""
        rows = []
        for result in self.results:
            counts = {"num_clips": len(result.clips), "num_bad_clips": len(result.bad_clips)}
            row = result.point.as_dict() | counts | {"failure": result.failure}
            for metric in METRICS:
                measured = result.measured(metric)
                row[metric] = None if measured is None else measured.mean
                row[f"{metric}_low"] = None if measured is None else measured.low
                row[f"{metric}_high"] = None if measured is None else measured.high
            rows.append(row)
        return rows

    def to_dataframe(self) -> pandas.DataFrame:
        """`to_rows` as a table of pandas.

        Raises:
            ValueError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ValueError('this needs pandas: pip install "videogen[notebooks]"') from error
        return pandas.DataFrame(self.to_rows())

    def pareto(self, x: str = "seconds", y: str | None = None) -> ParetoFront:
        """The front of a metric that costs and one that gains.

        A bad clip is wrong, and so lowers accuracy; of other metrics it has none, and so only the points with
        the fewest bad clips are looked at.

        Args:
            x: A key of `METRICS` of which less is better.
            y: One of which more is better; by default accuracy if it was measured, else PSNR.

        Raises:
            ValueError: If a metric is unknown, unfit for its axis, or was measured of no point.
        """
        y = y or self.quality
        for metric, axis, better in ((x, "x", False), (y, "y", True)):
            known = [name for name, (_, more) in METRICS.items() if more is better]
            if metric not in known:
                raise ValueError(f"`{axis}` must be one of {', '.join(known)}, got {metric!r}")
        fewest = min((len(result.bad_clips) for result in self.results if result.failure is None), default=0)
        costs, gains = [], []
        for result in self.results:
            cost, gain = result.measured(x), result.measured(y)
            counts = result.failure is None and (y in _SHARES or len(result.bad_clips) == fewest)
            costs.append(math.inf if cost is None else cost.mean)
            gains.append(-math.inf if gain is None or not counts else gain.mean)
        front = pareto_front(costs, gains)
        if not front:
            raise ValueError(f"no point has both {x!r} and {y!r} measured")
        bend = knee([costs[idx] for idx in front], [gains[idx] for idx in front])
        chosen = tuple(self.results[idx] for idx in front)
        return ParetoFront(x, y, chosen, None if bend is None else chosen[bend])

    def best(self, max_seconds: float | None = None) -> Preset:
        """The settings of the highest quality; of several the fastest.

        Args:
            max_seconds: That a clip may take, on the machine that measured.

        Raises:
            ValueError: If no point is as fast.
        """
        front = self.pareto("seconds", self.quality).results
        seconds = {result: _mean(result, "seconds") for result in front}
        allowed = [result for result in front if max_seconds is None or seconds[result] <= max_seconds]
        if not allowed:
            fastest = min(seconds.values())
            raise ValueError(f"`max_seconds` is {max_seconds:g}, but the fastest point takes {fastest:.3g} s")
        best = allowed[-1]
        quality = best.measured(self.quality)
        return Preset(
            **best.point.as_dict(),
            notes={
                METRICS[self.quality][0]: str(quality),
                METRICS["seconds"][0]: round(seconds[best], 4),
                "clips": len(best.clips),
                **({"bad clips": len(best.bad_clips)} if best.bad_clips else {}),
                **{name: self.setup[name] for name in ("device", "dtype", "batch_size")},
            },
        )

    def bad_clip_notes(self) -> list[str]:
        """A line for each bad clip, or for a point without a good one: which it is, and what is wrong."""
        notes = []
        for result in self.results:
            found = [
                f"the clip of {self.setup['prompts'][clip.prompt_idx]!r} with seed {clip.seed} {clip.failure}"
                for clip in result.bad_clips
            ]
            notes += [
                f"{result.point.label}: {text}" for text in ([result.failure] if result.failure else found)
            ]
        return notes

    def plot_pareto(self, x: str = "seconds", y: str | None = None) -> Drawing:
        """See `videogen.exploration.charts.pareto_chart`; notebooks show it, `to_png` gives a file."""
        from videogen.exploration.charts import pareto_chart

        return pareto_chart(self, x, y)

    def plot_convergence(self) -> Drawing:
        """See `videogen.exploration.charts.convergence_chart`."""
        from videogen.exploration.charts import convergence_chart

        return convergence_chart(self)

    def plot_trajectories(self) -> Drawing:
        """See `videogen.exploration.charts.trajectory_chart`."""
        from videogen.exploration.charts import trajectory_chart

        return trajectory_chart(self.results)

    def clip_grid(self) -> ClipGrid:
        """The clips that were kept, a row a point and a column a prompt; a notebook plays them."""
        from videogen.exploration.page import clip_table
        from videogen.pages.clips import ClipGrid

        table = clip_table(self)
        return ClipGrid(table.count("<img"), table)

    def to_html(self) -> str:
        """A page with the plots, the numbers and the clips, which play; see `exploration_page`."""
        from videogen.exploration.page import exploration_page

        return exploration_page(self)

    def orders(self) -> dict[str, float]:
        """Order of convergence to the reference for each setting that was run with several steps.

        Fitted to the median clip: with few steps some clips end as another clip than the reference, and their
        errors, the largest, say nothing of the order.
        """
        lines = self.by_steps("error")
        fits = {label: fitted_order(*zip(*line, strict=True)) for label, line in lines.items()}
        return {label: order for label, order in fits.items() if order is not None}

    def by_steps(self, metric: str) -> dict[str, list[tuple[int, float]]]:
        """For each setting but the steps: pairs of steps and median of the clips."""
        lines: dict[str, list[tuple[int, float]]] = {}
        for result in self.results:
            if result.values(metric):
                point = result.point
                label = point.label.replace(f" {point.num_inference_steps},", ",", 1)
                lines.setdefault(label, []).append((point.num_inference_steps, median(result.values(metric))))
        return {label: sorted(line) for label, line in lines.items()}


def _mean(result: PointResult, metric: str) -> float:
    values = result.values(metric)
    return sum(values) / len(values)
