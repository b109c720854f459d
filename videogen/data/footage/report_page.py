"""The doctor's report as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import escape

from videogen.data.footage.framing import Box
from videogen.data.footage.inspection import Inspection
from videogen.data.footage.planning import PlannedClip, VideoPlan
from videogen.data.footage.report import FootageReport, describe_clip, describe_video

_NUM_PICTURES = 3  # of each video

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #6b6b70; --line: #e3e3e6; --paper: #fbfbfa;
  --card: #fff; --good: #1f7a4d; --bad: #b3341f; --mark: #f2efe6; --edge: #ffd23f; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --soft: #9b9ba1; --line: #333337;
  --paper: #17171a; --card: #1f1f23; --good: #6cc79a; --bad: #f0907c; --mark: #2b2922; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 48px 24px 96px; }
h1 { font-size: 26px; font-weight: 650; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; font-weight: 650; margin: 44px 0 12px; }
p { margin: 4px 0; } .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.totals { display: flex; flex-wrap: wrap; gap: 12px; margin: 28px 0 0; }
.total { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 18px;
  min-width: 130px; }
.total b { display: block; font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums; }
.advice { background: var(--mark); border-radius: 10px; padding: 14px 18px 14px 36px; margin: 0; }
.advice li + li { margin-top: 8px; }
code { font: .92em ui-monospace, "DejaVu Sans Mono", monospace; white-space: nowrap; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); } th, td { padding: 4px 28px 4px 0; }
td.bar { width: 240px; padding-right: 0; }
td.bar i { display: block; height: 8px; border-radius: 4px; background: var(--good); min-width: 2px; }
article { display: grid; grid-template-columns: 372px 1fr; gap: 20px; padding: 14px 0;
  border-top: 1px solid var(--line); }
@media (max-width: 720px) { article { grid-template-columns: 1fr; } }
.pictures { display: flex; gap: 4px; align-items: flex-start; }
.picture { position: relative; overflow: hidden; border-radius: 4px; flex: 0 1 auto; }
.picture img { display: block; max-width: 100%; max-height: 110px; }
.picture i { position: absolute; outline: 1.5px solid var(--edge); outline-offset: -1px;
  box-shadow: 0 0 0 999px rgb(0 0 0 / 45%); }
.name { font-weight: 600; overflow-wrap: anywhere; } .caption { overflow-wrap: anywhere; }
ul.facts { list-style: none; margin: 4px 0 0; padding: 0; } ul.facts li { margin: 2px 0; }
ul.facts li::before { content: "→ "; color: var(--good); } ul.facts li.bad::before { content: "✕ "; }
ul.facts li.soft::before { content: "· "; }
ul.facts li.bad::before { color: var(--bad); }
details summary { cursor: pointer; color: var(--soft); }
"""


def report_page(report: FootageReport) -> str:
    """The page, with all pictures inside."""
    dropped = [plan for plan in report.plans if plan.dropped]
    kept = [plan for plan in report.plans if not plan.dropped]
    settings = report.settings
    sizes = ", ".join(f"{width}x{height}" for height, width in settings.sizes)
    counts = ", ".join(map(str, settings.num_frames))
    parts = [
        f"<h1>{escape(report.folder)}</h1>",
        f'<p class="soft">Footage prepared for the model {escape(report.model)}: clips of {counts} frames at '
        f"{settings.fps:g} fps, {sizes} pixels.</p>",
        _totals(report),
        *_section("What to change", [_advice(report)]),
        *_section("Shapes of the clips", [_buckets(report)] if report.num_clips else []),
        *_section(
            f"Not used, wholly or in part ({len(dropped)})", (_video(plan, settings.fps) for plan in dropped)
        ),
        *_section(f"Used ({len(kept)})", (_video(plan, settings.fps) for plan in kept)),
        *_section("Other files in the folder", [_ignored(report)] if report.ignored else []),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Footage: {escape(report.folder)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: Iterable[str]) -> list[str]:
    parts = list(content)
    return [f"<h2>{escape(title)}</h2>", *parts] if parts else []


def _totals(report: FootageReport) -> str:
    num_read = sum(plan.inspection is not None for plan in report.plans)
    figures = [
        (str(len(report.plans)), "videos"),
        (str(num_read), "could be read"),
        (str(report.num_clips), "clips"),
        (f"{report.clip_seconds:.0f} s", f"of {report.seconds:.0f} s of video"),
    ]
    figures += [(str(count), f"dropped: {reason}") for reason, count in report.reasons.items()]
    cards = (f'<div class="total"><b>{escape(value)}</b>{escape(name)}</div>' for value, name in figures)
    return f'<div class="totals">{"".join(cards)}</div>'


def _advice(report: FootageReport) -> str:
    lines = [*report.advice, report.rule]
    if not report.advice:
        lines.insert(0, "Nothing needs to be changed.")
    return f'<ul class="advice">{"".join(f"<li>{_with_options(line)}</li>" for line in lines)}</ul>'


def _with_options(text: str) -> str:
    """The text with what is to be typed, `--fps 9.1`, set apart."""
    return re.sub(r"--[a-z-]+( [\d.]*\d)?", r"<code>\g<0></code>", escape(text))


def _buckets(report: FootageReport) -> str:
    most = max(report.buckets.values())
    rows = (
        f"<tr><td>{bucket.num_frames}</td><td>{bucket.width}x{bucket.height}</td><td>{count}</td>"
        f'<td class="bar"><i style="width:{count / most:.1%}"></i></td></tr>'
        for bucket, count in report.buckets.items()
    )
    return f"<table><tr><th>frames</th><th>size</th><th>clips</th></tr>{''.join(rows)}</table>"


def _video(plan: VideoPlan, fps: float) -> str:
    lines = [f'<div class="name">{escape(plan.name)}</div>']
    if plan.caption is not None:
        origin = f'<span class="soft">({escape(plan.caption.origin)})</span>'
        text = escape(plan.caption.text) or '<span class="soft">no words</span>'
        lines.append(f'<div class="caption">“{text}” {origin}</div>')
    if plan.inspection is not None:
        lines.append(f'<div class="soft">{escape(describe_video(plan))}</div>')
    facts = [_fact(problem.detail, "bad", f"{problem.reason}: ") for problem in plan.dropped]
    facts += [_clip_fact(clip, fps) for clip in plan.clips]
    facts += [_fact(note, "soft") for note in plan.notes]
    pictures = _pictures(plan.inspection, plan.clips) if plan.inspection is not None else ""
    return (
        f'<article><div class="pictures">{pictures}</div>'
        f'<div>{"".join(lines)}<ul class="facts">{"".join(facts)}</ul></div></article>'
    )


def _fact(text: str, style: str, label: str = "") -> str:
    return f'<li class="{style}">{f"<b>{escape(label)}</b>" if label else ""}{_with_options(text)}</li>'


def _clip_fact(clip: PlannedClip, fps: float) -> str:
    notes = f' <span class="soft">({_with_options("; ".join(clip.notes))})</span>' if clip.notes else ""
    return f"<li>{escape(describe_clip(clip, fps))}{notes}</li>"


def _pictures(inspection: Inspection, clips: tuple[PlannedClip, ...]) -> str:
    """Some frames of a video in a row, with what is cut out of them marked."""
    idxs = list(inspection.thumbnails)
    if clips:
        first, last = clips[0].frame_idxs[0], clips[-1].frame_idxs[-1]
        idxs = [idx for idx in idxs if first <= idx <= last] or idxs
    chosen = sorted({idxs[round(place * (len(idxs) - 1) / (_NUM_PICTURES - 1))] for place in range(3)})
    mark = _crop_mark(inspection, clips[0].box) if clips else ""
    return "".join(
        f'<div class="picture"><img alt="frame {idx}" src="data:image/jpeg;base64,'
        f'{base64.b64encode(inspection.thumbnails[idx]).decode()}">{mark}</div>'
        for idx in chosen
    )


def _crop_mark(inspection: Inspection, box: Box) -> str:
    left, top, right, bottom = box
    width, height = inspection.format.width, inspection.format.height
    if (right - left) * (bottom - top) > 0.995 * width * height:
        return ""
    return (
        f'<i style="left:{left / width:.2%};top:{top / height:.2%};'
        f'width:{(right - left) / width:.2%};height:{(bottom - top) / height:.2%}"></i>'
    )


def _ignored(report: FootageReport) -> str:
    items = (f"<li>{escape(item.name)}: {escape(item.detail)}</li>" for item in report.ignored)
    return f"<details><summary>{len(report.ignored)} passed over</summary><ul>{''.join(items)}</ul></details>"
