"""The report of an exploration: one HTML page with plots, tables and clips that play, and no other file."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from videogen.exploration.charts import convergence_chart, pareto_chart, trajectory_chart
from videogen.exploration.explorer import NUM_SHOWN
from videogen.exploration.results import METRICS, Exploration, PointResult
from videogen.pages.skeleton import page, picture, table, text_list

_MAX_CLIP_ROWS = 60  # of the table of clips, those that were made first
_MAX_TRAJECTORIES = 8
_SMALL = "width:112px;height:auto"
_STYLE = """
table { font-size: 13px; }
img { image-rendering: pixelated; border-radius: 3px; }
td img { height: 84px; }
"""


def exploration_page(exploration: Exploration) -> str:
    """The page; clips are animated WebP inside it."""
    setup = exploration.setup
    num_clips = len(setup["prompts"]) * len(setup["seeds"])
    kept = [result for result in exploration.results if result.failure is None]
    title = f"Samplers of {setup['model']}"
    facts = (
        f"{len(exploration.results)} of {exploration.num_points} points, {num_clips} clips each "
        f"({len(setup['prompts'])} prompts, {len(setup['seeds'])} seeds) of {setup['clip'][0]} frames, "
        f"{setup['clip'][1]}x{setup['clip'][2]}, {setup['batch_size']} at a time, on {setup['device']} in "
        f"{setup['dtype']} with {setup['num_threads']} threads. "
        f"Reference: {setup['reference_steps'] or 'no'} steps. In brackets 95 % intervals."
    )
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(facts)}</p>']
    if exploration.stopped:
        parts.append(f'<p class="advice">Not finished: {escape(exploration.stopped)}.</p>')
    if any(result.values(exploration.quality) for result in kept):
        parts += _front(exploration)
    if exploration.orders():
        parts += ["<h2>Convergence</h2>", convergence_chart(exploration).to_svg()]
    if kept:
        parts += ["<h2>Clips</h2>", clip_table(exploration)]
        parts += ["<h2>The clip as it is foreseen, from the first evaluation to the last</h2>"]
        parts += [trajectory_chart(kept[-_MAX_TRAJECTORIES:]).to_svg(), _trajectories(exploration, kept)]
    parts += ["<h2>All numbers</h2>", _table(exploration)]
    notes = exploration.bad_clip_notes()
    if notes:
        parts += ["<h2>Bad clips</h2>", text_list(notes)]
    parts += ["<h2>Prompts</h2>", text_list(setup["prompts"], "ol")]
    return page(title, parts, _STYLE)


def _front(exploration: Exploration) -> Iterable[str]:
    front = exploration.pareto()
    best = exploration.best()
    measured = ", ".join(f"{name}: {value}" for name, value in best.notes.items())
    advice = f"Best: {best.scheduler}, {best.num_inference_steps} steps ({measured})."
    if front.knee is not None:
        advice += f" Knee, after which more time brings less: {front.knee.point.label}."
    yield "<h2>What more time brings</h2>"
    yield f'<p class="advice">{escape(advice)}</p>'
    yield pareto_chart(exploration).to_svg()


def clip_table(exploration: Exploration) -> str:
    """A `div` with the clips that were kept, which play: a row for each point, a column for each prompt."""
    results = [result for result in exploration.results if result.failure is None][:_MAX_CLIP_ROWS]
    prompts = exploration.setup["prompts"][:NUM_SHOWN]
    rows = [
        [
            escape(result.point.label),
            *(_clip(exploration, f"{result.point.key}-{idx}", _SMALL) for idx in range(len(prompts))),
        ]
        for result in results
    ]
    return table(["", *map(escape, prompts)], rows)


def _trajectories(exploration: Exploration, results: list[PointResult]) -> str:
    rows = [
        [escape(result.point.label), _clip(exploration, f"{result.point.key}-trajectory")]
        for result in results[-_MAX_TRAJECTORIES:]
    ]
    return table([], rows)


def _clip(exploration: Exploration, name: str, style: str = "") -> str:
    content = exploration.read_clip(name)
    return "" if content is None else picture(content, style=style)


def _table(exploration: Exploration) -> str:
    metrics = [name for name in METRICS if any(result.values(name) for result in exploration.results)]
    rows = []
    for result in exploration.results:
        cells = [result.measured(name) for name in metrics]
        shown = [
            "" if cell is None else f"{cell.mean:.3g} [{cell.low:.3g}, {cell.high:.3g}]" for cell in cells
        ]
        if result.failure:
            shown = [f"failed: {escape(result.failure)}"]
        rows.append([escape(result.point.label), *shown])
    return table(["", *(escape(METRICS[name][0]) for name in metrics)], rows)
