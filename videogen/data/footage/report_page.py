"""The doctor's report as one HTML page that needs no other file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from videogen.data.footage.framing import Box
from videogen.data.footage.inspection import Inspection
from videogen.data.footage.planning import PlannedClip, VideoPlan
from videogen.data.footage.report import FootageReport, describe_clip, describe_video
from videogen.pages.skeleton import page, picture, table, text_list

_NUM_PICTURES = 3  # of each video

_STYLE = """
.totals { display: flex; flex-wrap: wrap; gap: 12px; margin: 28px 0 0; }
.total { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 18px;
  min-width: 130px; }
.total b { display: block; font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums; }
.advice li + li { margin-top: 8px; }
code { font: .92em ui-monospace, "DejaVu Sans Mono", monospace; white-space: nowrap; }
.bar { display: block; width: 240px; padding-top: 7px; }
.bar i { display: block; height: 8px; border-radius: 4px; background: var(--good); min-width: 2px; }
article { display: grid; grid-template-columns: 372px 1fr; gap: 20px; padding: 14px 0;
  border-top: 1px solid var(--line); }
@media (max-width: 720px) { article { grid-template-columns: 1fr; } }
.pictures { display: flex; gap: 4px; align-items: flex-start; }
.picture { position: relative; overflow: hidden; border-radius: 4px; flex: 0 1 auto; }
.picture img { max-width: 100%; max-height: 110px; }
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
    return page(f"Footage: {report.folder}", parts, _STYLE)


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
    rows = [
        [
            str(bucket.num_frames),
            f"{bucket.width}x{bucket.height}",
            str(count),
            f'<span class="bar"><i style="width:{count / most:.1%}"></i></span>',
        ]
        for bucket, count in report.buckets.items()
    ]
    return table(["frames", "size", "clips", ""], rows)


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
        f'<div class="picture">{picture(inspection.thumbnails[idx], f"frame {idx}", kind="jpeg")}{mark}</div>'
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
    items = text_list(f"{item.name}: {item.detail}" for item in report.ignored)
    return f"<details><summary>{len(report.ignored)} passed over</summary>{items}</details>"
