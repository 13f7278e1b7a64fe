"""The page that all documents share: one file, no script, nothing loaded from anywhere."""

from __future__ import annotations

import os

import pvops._core as _core
from pvops.render.terminal import printable
from pvops.tuples import NamedTuple

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
h1, h2, h3, p, li, summary { overflow-wrap: anywhere; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .warn { color: var(--warn); }
code, .mono { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
table { border-collapse: collapse; margin: .5rem 0; }
/* What is too wide is scrolled, and a shadow at its edge says that it goes on there. */
.wide { overflow-x: auto; --back: var(--page); background:
  linear-gradient(to right, var(--back) 40%, transparent) left / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--back) 40%, transparent) right / 2.5rem 100% no-repeat local,
  linear-gradient(to right, rgb(128 128 128 / 50%), transparent) left / .8rem 100% no-repeat scroll,
  linear-gradient(to left, rgb(128 128 128 / 50%), transparent) right / .8rem 100% no-repeat scroll; }
.card .wide, details .wide { --back: var(--card); } .wide > svg { min-width: 44rem; }
th, td { text-align: left; vertical-align: top; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.mono, .key { white-space: nowrap; } td.name { overflow-wrap: anywhere; min-width: 9rem; }
td.prose { min-width: 18rem; }
/* Where a card of a narrow page has sentences in a table, the cells of a row stand one below the other. */
@media (max-width: 40rem) { .card table:has(td.prose) thead { display: none; }
  .card table:has(td.prose) :is(tr, td) { display: block; padding: .1rem 0; }
  .card table:has(td.prose) td { border: 0; white-space: normal; overflow-wrap: anywhere; min-width: 0; }
  .card table:has(td.prose) td:first-child { font-weight: 600; }
  .card table:has(td.prose) tr { border-bottom: 1px solid var(--line); } }
.asm { color: var(--code); } .runs { color: var(--runs); }
details, .card { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem;
  margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; } summary .soft { font-weight: 400; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
footer { margin-top: 2.5rem; padding-top: .6rem; border-top: 1px solid var(--line); color: var(--soft); font-size: 13px;
  overflow-wrap: anywhere; } a { color: inherit; } :target { outline: 2px solid var(--warn); outline-offset: 3px; }
@media print { body { max-width: none; padding: 0; font-size: 9pt; } code, .mono { font-size: 7.5pt; }
  td.mono { white-space: normal; } details, .card { border: 0; padding: 0; } tr { break-inside: avoid; } }
"""


class Made(NamedTuple):
    """How a page came about, for its foot.

    Attributes:
        command: the command line.
        machine: the machine that was given, assumed or measured on; None where none matters.
    """

    command: str
    machine: str | None = None


def page(title: str, body: Iterable[str], made: Made | None = None) -> str:
    """A whole page; the body is HTML already, the title is not."""
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n"
    )
    return head + "\n".join(body) + f"\n</main>\n<footer>{_foot(made)}</footer>\n</body>\n</html>\n"


def _foot(made: Made | None) -> str:
    parts = [text(f"pvops {_core.__version__}")]
    if made is not None:
        parts = [code(made.command), *parts, *([text(made.machine)] if made.machine else [])]
    return " · ".join([*parts, f"<time>{_today()}</time>"])


def _today() -> str:
    """The day, in UTC; SOURCE_DATE_EPOCH is taken for now, so that the same input gives the same page."""
    import time

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%d", time.gmtime(int(epoch) if epoch.isascii() and epoch.isdigit() else None))


def text(value: object) -> str:
    """Text in a page: nothing in it is markup, and what does not print is shown as an escape."""
    from html import escape  # with its table of all entities, which no text for a terminal needs

    return escape(printable(str(value)), quote=True)


def code(value: object, kind: str = "") -> str:
    """Code within a sentence or a cell."""
    return f'<code class="{text(kind)}">{text(value)}</code>' if kind else f"<code>{text(value)}</code>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """A table; the cells are HTML already. `classes` are those of the columns."""
    kinds = [f' class="{kind}"' if kind else "" for kind in classes] or [""] * len(headings)
    out = ["<table>"]
    if any(headings):
        out.append(
            "<thead><tr>" + "".join(f"<th>{text(h)}</th>" if h else "<td></td>" for h in headings) + "</tr></thead>"
        )
    for row in rows:
        out.append("<tr>" + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>")
    out.append("</table>")
    return wide("\n".join(out), "a table")


def wide(content: str, name: str) -> str:
    """What may be wider than the page, HTML already: it is scrolled, by the keyboard too, and has a name there."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{text(name)}">{content}</div>'


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
