"""A comparison as one HTML page that needs no other file: the clips of all models, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from videogen.comparison.report import ComparisonReport
from videogen.display import webp_data_uri

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #6b6b70; --line: #e3e3e6; --paper: #fbfbfa;
  --card: #fff; --bad: #b3341f; --mark: #f2efe6; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --soft: #9b9ba1; --line: #333337;
  --paper: #17171a; --card: #1f1f23; --bad: #f0907c; --mark: #2b2922; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { padding: 40px 28px 96px; width: max-content; min-width: 100%; }
h1 { font-size: 26px; font-weight: 650; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 17px; font-weight: 650; margin: 40px 0 10px; }
p { margin: 4px 0; } .soft { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 14px 0; }
th { text-align: left; font-weight: 500; color: var(--soft); }
th, td { padding: 5px 26px 5px 0; border-bottom: 1px solid var(--line); }
ul.notes { background: var(--mark); border-radius: 10px; padding: 12px 18px 12px 34px; max-width: 900px;
  overflow-wrap: anywhere; }
.clips { display: grid; gap: 14px 16px; align-items: center; width: max-content; }
.clips .head { position: sticky; top: 0; background: var(--paper); padding: 8px 0; font-weight: 600;
  max-width: 176px; overflow-wrap: anywhere; z-index: 1; align-self: stretch; }
.clips .prompt { width: 240px; overflow-wrap: anywhere; }
.clips img { display: block; width: 176px; height: auto; border-radius: 6px; image-rendering: pixelated;
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
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    body = "\n".join(
        [
            "<h1>Comparison</h1>",
            f'<p class="soft">{escape(report.protocol)}</p>',
            *(_table(*table) for table in tables if table[1]),
            f'<ul class="notes">{notes}</ul>' if notes else "",
            *(["<h2>Clips</h2>", _clips(report, shown, clip_files)] if shown else []),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Comparison</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


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
                alt = escape(f"{names[idx]}: {prompt}", quote=True)
                cells.append(f'<img alt="{alt}" src="{webp_data_uri(file.read_bytes())}">')
    columns = f"grid-template-columns: 240px repeat({len(shown)}, 176px)"
    return f'<div class="clips" style="{columns}">{"".join(cells)}</div>'
