"""The skeleton of a page that needs no other file, the look that all pages share, and their tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

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
.advice { background: var(--mark); border-radius: 10px; padding: 14px 18px; margin: 14px 0; max-width: 1012px;
  overflow-wrap: anywhere; }
ul.advice { padding-left: 36px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 14px 0; }
th { text-align: left; font-weight: 500; color: var(--soft); }
th, td { padding: 5px 24px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; border-radius: 8px; }
img { display: block; }
"""


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole page of a title in plain text, the parts of its body in HTML, and CSS that it alone needs."""
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells, which scrolls sideways; the last cell of too short a row spans the rest."""
    lines = [_row("th", header, len(header))] if header else []
    lines += [_row("td", cells, len(header)) for cells in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def text_list(texts: Iterable[str], tag: str = "ul") -> str:
    """A list of plain texts: `ul`, `ol`, or one with attributes such as `ul class="advice"`."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<{tag}>{items}</{tag.split()[0]}>"


def picture(content: bytes, alt: str = "", style: str = "", *, kind: str = "webp") -> str:
    """A picture inside the page, from the bytes of a file of this kind; an animated one plays."""
    look = f' style="{style}"' if style else ""
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<img alt="{escape(alt, quote=True)}"{look} src="{source}">'


def _row(tag: str, cells: Sequence[str], num_columns: int) -> str:
    *first, last = cells
    span = f' colspan="{num_columns - len(first)}"' if len(cells) < num_columns else ""
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in first)}<{tag}{span}>{last}</{tag}></tr>"
