"""Measures the samplers of a trained model on many prompts, and writes a page of tables and plots about them.

    python benchmarks/samplers.py runs/samplers --num-prompts 200 --dtype bfloat16 --batch-size 25 --docs docs

Three grids are explored, each in its own folder below the given one: `schedulers`, for the Pareto front of
accuracy, `convergence`, for the distance to many steps, and `guidance`, for what its kinds do to accuracy,
diversity and saturation. The page (`samplers-measured.md` with three pictures) shows what is done. Ctrl-C or
`--budget` keep that, and the same command goes on; a folder belongs to one model, so other weights need
another one.

In bfloat16 the embedded model is several times as fast on a CPU with matrix units. It rounds as it goes, so
that small distances to the reference are those of the rounding, and orders come out too low: `convergence` is
always measured in float32, with fewer prompts.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

from videogen.commands.generate import DTYPES, check_device
from videogen.data.shapes.world import WORLDS
from videogen.evaluation import markdown_table
from videogen.exploration.charts import convergence_chart, pareto_chart
from videogen.exploration.explorer import explore
from videogen.exploration.results import METRICS, Exploration, ParetoFront, PointResult
from videogen.metrics.intervals import MeanInterval, bootstrap_mean
from videogen.metrics.prompt_accuracy import evaluation_prompts
from videogen.pipelines.loading import load

GRIDS: dict[str, dict[str, Any]] = {
    "schedulers": {
        "schedulers": ("euler", "heun", "dpm++2s", "dpm++2m", "dpm++sde", "unipc"),
        "steps": (4, 6, 8, 12, 16),
        "reference_steps": 0,
    },
    "convergence": {
        "schedulers": ("euler", "heun", "dpm++2s", "dpm++2m", "unipc"),
        "steps": (4, 6, 8, 12, 16, 32),
    },
    "guidance": {
        "schedulers": ("euler",),
        "steps": (8,),
        "guidance_scales": (1.0, 2.0, 3.0, 5.0),
        "guidance": (
            *("cfg", "rescaled", "interval:low=0.2,high=1", "interval", "apg"),
            *("apg:eta=0,momentum=-0.5", "adaptive"),
        ),
        "seeds": (0, 1),
        "reference_steps": 0,
    },
}
PAGE = "samplers-measured.md"
FRONTS = {"accuracy": "samplers-front-accuracy.png", "psnr": "samplers-front.png"}
CONVERGENCE = "samplers-convergence.png"


def main() -> None:
    """Explore the grids and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for the results; the same command resumes there")
    parser.add_argument("--model", help="folder of a pipeline; the embedded one by default")
    parser.add_argument("--only", choices=list(GRIDS), help="one of the grids; all by default")
    parser.add_argument("--world", default="shapes", choices=list(WORLDS))
    parser.add_argument("--num-prompts", type=int, default=200)
    parser.add_argument("--num-convergence-prompts", type=int, default=12, metavar="INTEGER")
    parser.add_argument("--reference-steps", type=int, default=50, help="steps of the clips to compare with")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="start no further setting after this")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="folder to write the page into")
    arguments = parser.parse_args()

    prompts = evaluation_prompts(WORLDS[arguments.world], arguments.num_prompts, held_out=False)
    end = None if arguments.budget is None else time.monotonic() + arguments.budget
    found: dict[str, Exploration] = {}
    for name in [arguments.only] if arguments.only else GRIDS:
        exact = name == "convergence"
        dtype = DTYPES["float32" if exact else arguments.dtype]
        found[name] = explore(
            load(arguments.model, device=check_device(arguments.device), dtype=dtype),
            prompts[: arguments.num_convergence_prompts] if exact else prompts,
            **{"reference_steps": arguments.reference_steps} | GRIDS[name],
            batch_size=arguments.batch_size,
            budget=None if end is None else max(end - time.monotonic(), 1e-9),
            folder=arguments.folder / name,
            model=arguments.model or "the embedded model",
            show_progress=True,
        )
        print(f"{name}: {len(found[name].results)} of {found[name].num_points} points", flush=True)
        if found[name].stopped == "interrupted":
            break
    page = "\n".join(["# Samplers, measured", "", *sections(found)])
    print(page)
    if arguments.docs:
        write(arguments.docs, page, found)


def sections(found: dict[str, Exploration]) -> list[str]:
    """The lines of the page below its title."""
    lines = ["Written by `python benchmarks/samplers.py`; [samplers.md](samplers.md) explains the measures."]
    writers = {
        "schedulers": scheduler_section,
        "convergence": convergence_section,
        "guidance": guidance_section,
    }
    for name, exploration in found.items():
        if any(result.clips for result in exploration.results):
            lines += ["", f"## {name.capitalize()}", "", facts(exploration), "", *writers[name](exploration)]
    return lines


def facts(exploration: Exploration) -> str:
    """What the numbers of a grid are of."""
    setup = exploration.setup
    text = (
        f"Model: {setup['model']} (weights {setup['weights'][:12]}), {len(setup['prompts'])} prompts, "
        f"clips per prompt: {len(setup['seeds'])}, {setup['clip'][0]} frames of {setup['clip'][2]}x"
        f"{setup['clip'][1]}; in {setup['dtype']} on {setup['device']}, threads: {setup['num_threads']}, "
        f"{setup['batch_size']} clips at a time, torch {setup['versions']['torch']}. "
        "In brackets 95 % intervals: Wilson for shares, bootstrap for means."
    )
    if len(exploration.results) < exploration.num_points:
        text += f" Not finished: {len(exploration.results)} of {exploration.num_points} points."
    return text


def scheduler_section(exploration: Exploration) -> list[str]:
    """Cost and accuracy of every scheduler and number of steps, and their front."""
    header = ["scheduler, steps", "passes", "seconds per clip", "right in everything", "flicker"]
    rows = [
        [
            *(setting(result), number(result.measured("passes"), "{:.4g}")),
            interval(result.measured("seconds"), "{:.2f}"),
            interval(result.measured("accuracy"), "{:.1%}"),
            interval(result.measured("flicker"), "{:.4f}"),
        ]
        for result in by_passes(exploration)
    ]
    return [*(markdown_table(header, rows), ""), *front(exploration, "accuracy")]


def convergence_section(exploration: Exploration) -> list[str]:
    """Distance of every scheduler and number of steps to many steps, and the orders that it falls with."""
    header = ["scheduler, steps", "passes", "PSNR, dB", "error", "error of the median clip"]
    rows = [
        [
            *(setting(result), number(result.measured("passes"), "{:.4g}")),
            interval(result.measured("psnr"), "{:.1f}"),
            interval(result.measured("error"), "{:.3f}"),
            f"{median(result.values('error')):.3f}",
        ]
        for result in by_passes(exploration)
    ]
    lines = [
        f"Reference: {exploration.setup['reference_steps']} steps of a second-order scheduler from the same "
        "noise. `PSNR` is of pixels, `error` the root mean square distance of latents. `dpm++sde` is not "
        "here: it draws noise on the way, so it ends at other clips, however many steps it takes. With few "
        "steps some clips end as another clip than the reference; orders are fitted to the median.",
        *("", markdown_table(header, rows), ""),
        *front(exploration, "psnr"),
    ]
    if exploration.orders():
        orders = [[label, f"{order:.2f}"] for label, order in exploration.orders().items()]
        lines += [f"![Error against steps on logarithmic axes, with fitted orders]({CONVERGENCE})", ""]
        lines += [markdown_table(["setting", "order of convergence"], orders), ""]
    return lines


def by_passes(exploration: Exploration) -> list[PointResult]:
    """The points, from the cheapest to the dearest."""
    return sorted(exploration.results, key=lambda item: item.values("passes"))


def setting(result: PointResult) -> str:
    """Scheduler and steps of a point."""
    return f"{result.point.scheduler} {result.point.num_inference_steps}"


def front(exploration: Exploration, metric: str) -> list[str]:
    """The front of a metric over passes, in words and as a picture."""
    if not any(result.values(metric) for result in exploration.results):
        return []
    picture = f"![{METRICS[metric][0]} against passes, with the front and its knee]({FRONTS[metric]})"
    return [front_sentence(exploration.pareto("passes", metric)), "", picture, ""]


def front_sentence(front: ParetoFront) -> str:
    """The front in words, from the cheapest to the dearest."""
    points = [setting(result) for result in front.results]
    place = None if front.knee is None else front.results.index(front.knee)
    knee = "it has no knee" if place is None else f"its knee is {points[place]}"
    return f"The front of {METRICS[front.y][0]} over passes: {', '.join(points)}; {knee}."


def guidance_section(exploration: Exploration) -> list[str]:
    """What each kind of guidance does, at each scale beside classifier-free guidance."""
    plain = {
        result.point.guidance_scale: result
        for result in exploration.results
        if result.point.guidance == "cfg"
    }
    header = ["guidance", "scale", "passes", "right in everything", "against cfg, same scale"]
    header += ["diversity", "saturation", "out of range"]
    rows = [
        [
            result.point.guidance or "none",
            f"{result.point.guidance_scale:g}",
            number(result.measured("passes"), "{:.3g}"),
            interval(result.measured("accuracy"), "{:.0%}"),
            interval(gained(result, plain.get(result.point.guidance_scale)), "{:+.1%}"),
            *(
                interval(result.measured(metric), "{:.3f}")
                for metric in ("diversity", "saturation", "clipped")
            ),
        ]
        for result in sorted(exploration.results, key=lambda item: item.point.guidance_scale)
    ]
    return [
        "`against cfg` is the difference in clips that are right, with the same prompts and noise; where its "
        "interval includes 0, it is not significant. Diversity is the root mean square difference of two "
        "clips of a prompt. Saturation is the mean difference of a pixel's strongest and weakest colour. "
        "Out of range is the share of values that the codec decodes more than 0.1 outside of [-1, 1].",
        *("", markdown_table(header, rows), ""),
    ]


def gained(result: PointResult, other: PointResult | None) -> MeanInterval | None:
    """How many more clips are right than with another point, clip by clip."""
    if other is None or other is result:
        return None
    pairs = zip(result.values("accuracy"), other.values("accuracy"), strict=False)
    differences = [value - plain for value, plain in pairs]
    return bootstrap_mean(differences) if differences else None


def number(measured: MeanInterval | None, pattern: str) -> str:
    """A mean alone."""
    return "" if measured is None else pattern.format(measured.mean)


def interval(measured: MeanInterval | None, pattern: str) -> str:
    """A mean with its interval, which one value alone does not have."""
    if measured is None or measured.num_values == 1:
        return number(measured, pattern)
    mean, low, high = (pattern.format(value) for value in (measured.mean, measured.low, measured.high))
    return f"{mean} [{low}, {high}]"


def write(folder: Path, page: str, found: dict[str, Exploration]) -> None:
    """Write the page and its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(page, encoding="utf-8")
    for name, metric in (("schedulers", "accuracy"), ("convergence", "psnr")):
        if name in found and any(result.values(metric) for result in found[name].results):
            (folder / FRONTS[metric]).write_bytes(pareto_chart(found[name], "passes", metric).to_png())
    if "convergence" in found and found["convergence"].orders():
        (folder / CONVERGENCE).write_bytes(convergence_chart(found["convergence"]).to_png())


if __name__ == "__main__":
    main()
