"""Text for a terminal: colours, columns, bytes and addresses as people read them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

#: What stands before what had no room on the line above.
_BELOW = "    "
#: Columns below which no terminal is obeyed.
_LEAST = 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def hex_address(address: int | None) -> str | None:
    """An address as JSON documents carry it."""
    return None if address is None else f"{address:#x}"


def spaced(code: bytes) -> str:
    """Bytes as people read them: ``ff 15 e0``."""
    return code.hex(" ")


def printable(text: str) -> str:
    """Text on one line that cannot drive a terminal: what does not print is shown as an escape, ``\\x1b``."""
    return text if text.isprintable() else "".join(c if c.isprintable() else escaped(c) for c in text)


def escaped(text: str) -> str:
    """Every character outside of ASCII, and each that controls, as an escape; a byte that was no text is ``\\xff``."""
    return text.encode("unicode_escape").decode().replace("\\udc", "\\x")


def columns(stream: TextIO | None = None) -> int:
    """How many columns a stream has: COLUMNS, or those of the terminal; elsewhere as many as a mail may have.

    Args:
        stream: it; standard output where none is named.
    """
    import os

    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or 110
    except (OSError, ValueError):
        return 110


class Style:
    """Colours, where they are wanted."""

    _on: bool

    def __init__(self, color: str) -> None:
        import os

        wanted = color == "always" or (
            color == "auto"
            and sys.stdout.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )
        object.__setattr__(self, "_on", wanted)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a style does not change")

    def _sgr(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and text else text

    def bold(self, text: str) -> str:
        """What matters most."""
        return self._sgr("1", text)

    def dim(self, text: str) -> str:
        """What matters least."""
        return self._sgr("2", text)

    def code(self, text: str) -> str:
        """Instructions."""
        return self._sgr("36", text)

    def runs(self, text: str) -> str:
        """What runs in the end."""
        return self._sgr("32", text)


def room(stream: TextIO | None = None) -> int | None:
    """How many columns a row has on a terminal; None where the stream is none: there a row is a line.

    Args:
        stream: it; standard output where none is named.
    """
    try:
        return max(columns(stream), _LEAST) if (stream or sys.stdout).isatty() else None
    except (AttributeError, ValueError):  # there is none, or it is closed
        return None


def table(rows: Sequence[Sequence[str]], *, right: Iterable[int] = (), before: int = 0) -> list[str]:
    """Rows of columns, two spaces apart; on a terminal that is too narrow the last columns stand below the first.

    Args:
        rows: the cells of each.
        right: the columns flushed right.
        before: how many blanks are to stand before each row.
    """
    if not rows:
        return []
    flushed = set(right)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    # What stands below begins where the first column of words does, behind numbers.
    numbers = next((i for i in range(len(widths)) if i not in flushed), 0)
    below = " " * before + (" " * sum(n + 2 for n in widths[:numbers]) or _BELOW)
    cuts = _cuts(widths, before, len(below))
    out = []
    for row in rows:
        cells = [c.rjust(widths[i]) if i in flushed else c.ljust(widths[i]) for i, c in enumerate(row)]
        lines = ["  ".join(cells[cut]).rstrip() for cut in cuts]
        out.append("\n".join([lines[0], *(below + line for line in lines[1:] if line)]))
    return out


def _cuts(widths: Sequence[int], before: int, below: int) -> list[slice]:
    """The columns of each line of a row: as many as fit behind the blanks before it."""
    width = room()
    starts, used = [0], before
    for i, wide in enumerate(widths):
        if width is not None and i > starts[-1] and used + wide > width:
            starts.append(i)
            used = below
        used += wide + 2
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(widths)], strict=True)]


def folded(lines: Iterable[str], stream: TextIO | None = None) -> Iterator[str]:
    """Lines, and on a terminal those that are too long for it as several: between columns, or else between words.

    Args:
        lines: they; one may hold line ends.
        stream: where they go; standard output where none is named.
    """
    width = room(stream)
    if width is None:
        yield from lines
        return
    for row in lines:
        for line in row.split("\n"):
            yield from [line] if len(line) <= width or _length(line) <= width else _folded(line, width)


def _folded(line: str, width: int) -> list[str]:
    import re

    below = min(len(line) - len(line.lstrip(" ")), width // 3) + len(_BELOW)
    rows = [""]

    def put(piece: str) -> None:
        room = width - _length(piece.rstrip())
        if not rows[-1].strip():  # the line's own blanks give way to a word that is wide
            rows[-1] = rows[-1][: max(0, room)]
        elif _length(rows[-1]) > room:
            rows.append(" " * max(0, min(below, room)))
        rows[-1] += piece
        while room < 0 and _length(rows[-1].rstrip()) > width:
            rows[-1:] = _cut(rows[-1], width)

    for field in re.split(r"(?<=  )(?=\S)", line):
        label = _length(rows[-1])
        if _length(field.rstrip()) <= width - below and label > width // 4 and rows[-1].strip():
            put(field)
            continue
        if rows[-1].strip() and label <= width // 4:  # behind a short word its sentence begins, and goes on below
            below = label
        for piece in re.split(r"(?<= )(?=\S)", field):
            put(piece)
    return [row.rstrip() for row in rows]


def _cut(row: str, width: int) -> tuple[str, str]:
    """A row of a word that is longer than the terminal is wide, as far as it fits, and the rest; colours stay whole."""
    import re

    at = left = 0
    for found in re.finditer("\x1b\\[[0-9;]*m|.", row):
        left += len(found[0]) == 1
        if left > width:
            break
        at = found.end()
    return row[:at], row[at:]


def _length(text: str) -> int:
    """How many columns a text takes, without its colours."""
    import re

    return len(re.sub("\x1b\\[[0-9;]*m", "", text)) if "\x1b" in text else len(text)


def fitted(line: str, more: str = "    ", *, left: int = 0) -> list[str]:
    """A sentence as lines that fit the terminal, colours and all.

    Args:
        line: it; blanks stay as they are.
        more: what stands before all lines but the first.
        left: how many columns stand to the left of all of them.
    """
    import re

    first, *words = re.split(r" (?=\S)", line)
    rows, width = [first], columns() - left
    for word in words:
        if rows[-1].strip() and _length(rows[-1]) + 1 + _length(word) > width:
            rows.append(more + word)
        else:
            rows[-1] += f" {word}"
    return rows
