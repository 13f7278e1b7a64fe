"""The page that explanations and differences share: one file, no script, nothing loaded from anywhere."""

from __future__ import annotations

import os
from html import escape

import pvops._core as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_STYLE = """\
:root { color-scheme: light dark; --ink: #1d2126; --soft: #626b75; --page: #ffffff; --card: #f5f6f8; --line: #d9dde2;
  --code: #0b5a73; --runs: #1c6b35; --warn: #8a5300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6ea; --soft: #9aa4af; --page: #15181c; --card: #1e2329;
  --line: #353c45; --code: #7cc7e2; --runs: #83d39a; --warn: #e8b466; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 80rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .warn { color: var(--warn); }
code, .mono { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
table { border-collapse: collapse; margin: .5rem 0; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.mono { white-space: nowrap; } .asm { color: var(--code); } .runs { color: var(--runs); }
details, .card { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem;
  margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; } summary .soft { font-weight: 400; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
@media print { body { max-width: none; padding: 0; font-size: 9pt; } code, .mono { font-size: 7.5pt; }
  td.mono { white-space: normal; } details, .card { border: 0; padding: 0; } tr { break-inside: avoid; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; the body is HTML already, the title is not."""
    from pvops._core import __version__

    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n"
    )
    foot = f'<p class="soft">pvops {text(__version__)}</p>\n</body>\n</html>\n'
    return head + "\n".join(body) + "\n" + foot


def text(value: object) -> str:
    """Text in a page: nothing in it is markup, and what does not print is shown as an escape."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))
    return escape(shown, quote=True)


def code(value: object, kind: str = "") -> str:
    """Code within a sentence or a cell."""
    return f'<code class="{text(kind)}">{text(value)}</code>' if kind else f"<code>{text(value)}</code>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """A table; the cells are HTML already. `classes` are those of the columns."""
    kinds = [f' class="{kind}"' if kind else "" for kind in classes] or [""] * len(headings)
    out = ['<div class="wide"><table>']
    if any(headings):
        out.append("<thead><tr>" + "".join(f"<th>{text(h)}</th>" for h in headings) + "</tr></thead>")
    for row in rows:
        out.append("<tr>" + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>")
    out.append("</table></div>")
    return "\n".join(out)


def bullets(sentences: Iterable[str]) -> str:
    """Sentences as a list."""
    return "<ul>" + "".join(f"<li>{text(s)}</li>" for s in sentences) + "</ul>"


def write(path: str | os.PathLike[str], content: str) -> None:
    """Writes a page, whole or not at all; ``-`` is standard output."""
    if os.fspath(path) == "-":
        import sys

        sys.stdout.write(content)
    else:
        _core.write_file(path, content.encode())
