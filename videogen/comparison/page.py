"""A comparison as one HTML page that needs no other file: the clips of all models, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from videogen.comparison.report import ComparisonReport
from videogen.pages.skeleton import page, picture, table, text_list

_STYLE = """
main { max-width: none; width: max-content; min-width: 100%; }
.clips { display: grid; gap: 14px 16px; align-items: center; width: max-content; }
.clips .head { position: sticky; top: 0; background: var(--paper); padding: 8px 0; font-weight: 600;
  max-width: 176px; overflow-wrap: anywhere; z-index: 1; align-self: stretch; }
.clips .prompt { width: 240px; overflow-wrap: anywhere; }
.clips img { width: 176px; height: auto; border-radius: 6px; image-rendering: pixelated;
  background: var(--line); }
.clips .failed { width: 176px; color: var(--bad); font-size: 13px; overflow-wrap: anywhere; }
"""


def comparison_page(report: ComparisonReport, clip_files: Sequence[Sequence[Path | None]]) -> str:
    """The page, with all clips inside.

    Args:
        report: What was found.
        clip_files: For each model and each prompt the clip as an animated WebP; None where there is none.
    """
    shown = [idx for idx, item in enumerate(report.models) if not item.failure]
    tables = [report.quality_table(), report.cost_table(), report.movement_table()]
    parts = [
        "<h1>Comparison</h1>",
        f'<p class="soft">{escape(report.protocol)}</p>',
        *(_table(*found) for found in tables if found[1]),
        *([text_list(report.notes, 'ul class="advice"')] if report.notes else []),
        *(["<h2>Clips</h2>", _clips(report, shown, clip_files)] if shown else []),
    ]
    return page("Comparison", parts, _STYLE)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table([escape(cell) for cell in header], ([escape(cell) for cell in row] for row in rows))


def _clips(
    report: ComparisonReport, shown: Sequence[int], clip_files: Sequence[Sequence[Path | None]]
) -> str:
    """A grid: one row for each prompt, one column for each model."""
    names = list(report.names.values())
    cells = ['<div class="head">prompt</div>']
    cells += [f'<div class="head">{escape(names[idx])}</div>' for idx in shown]
    for number, prompt in enumerate(report.prompts):
        seed = f'<span class="soft">seed {report.seed + number}</span>'
        cells.append(f'<div class="prompt">{escape(prompt)}<br>{seed}</div>')
        for idx in shown:
            file = clip_files[idx][number]
            if file is None:
                why = dict(report.models[idx].failed_clips).get(number, "no clip")
                cells.append(f'<div class="failed">{escape(why)}</div>')
            else:
                cells.append(picture(file.read_bytes(), f"{names[idx]}: {prompt}"))
    columns = f"grid-template-columns: 240px repeat({len(shown)}, 176px)"
    return f'<div class="clips" style="{columns}">{"".join(cells)}</div>'
