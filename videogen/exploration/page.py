"""The report of an exploration: one HTML page with plots, tables and clips that play, and no other file."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from videogen.display import webp_data_uri
from videogen.exploration.charts import convergence_chart, pareto_chart, trajectory_chart
from videogen.exploration.explorer import NUM_SHOWN
from videogen.exploration.results import METRICS, Exploration, PointResult

_MAX_CLIP_ROWS = 60  # of the table of clips, those that were made first
_MAX_TRAJECTORIES = 8
_STYLE = """
:root { --ink: #1c1c1e; --soft: #6b6b70; --line: #e3e3e6; --paper: #fbfbfa; --mark: #f2efe6; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 48px 24px 96px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 17px; margin: 44px 0 12px; }
.soft { color: var(--soft); } .advice { background: var(--mark); border-radius: 10px; padding: 14px 18px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th { text-align: left; font-weight: 500; color: var(--soft); }
th, td { padding: 4px 18px 4px 0; border-top: 1px solid var(--line); vertical-align: top; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; border-radius: 8px; }
img { image-rendering: pixelated; border-radius: 3px; display: block; }
.way img { height: 84px; }
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
        parts += ["<h2>Bad clips</h2>", "<ul>", *(f"<li>{escape(note)}</li>" for note in notes), "</ul>"]
    parts += ["<h2>Prompts</h2>", "<ol>", *(f"<li>{escape(text)}</li>" for text in setup["prompts"]), "</ol>"]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


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
    head = "".join(f"<th>{escape(prompt)}</th>" for prompt in prompts)
    rows = "".join(
        f"<tr><td>{escape(result.point.label)}</td>"
        + "".join(
            f"<td>{_image(exploration, f'{result.point.key}-{idx}', 'width:112px')}</td>"
            for idx in range(len(prompts))
        )
        + "</tr>"
        for result in results
    )
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def _trajectories(exploration: Exploration, results: list[PointResult]) -> str:
    rows = "".join(
        f"<tr><td>{escape(result.point.label)}</td>"
        f"<td>{_image(exploration, f'{result.point.key}-trajectory')}</td></tr>"
        for result in results[-_MAX_TRAJECTORIES:]
    )
    return f'<div class="wide"><table class="way">{rows}</table></div>'


def _image(exploration: Exploration, name: str, style: str = "") -> str:
    clip = exploration.read_clip(name)
    if clip is None:
        return ""
    return f'<img alt="" style="{style}" src="{webp_data_uri(clip)}">'


def _table(exploration: Exploration) -> str:
    metrics = [name for name in METRICS if any(result.values(name) for result in exploration.results)]
    head = "".join(f"<th>{escape(METRICS[name][0])}</th>" for name in metrics)
    rows = []
    for result in exploration.results:
        cells = [result.measured(name) for name in metrics]
        shown = "".join(
            f"<td>{'' if cell is None else f'{cell.mean:.3g} [{cell.low:.3g}, {cell.high:.3g}]'}</td>"
            for cell in cells
        )
        if result.failure:
            shown = f'<td colspan="{len(metrics)}">failed: {escape(result.failure)}</td>'
        rows.append(f"<tr><td>{escape(result.point.label)}</td>{shown}</tr>")
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'
