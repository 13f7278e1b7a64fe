"""Text for a terminal: colours, columns, bytes and addresses as people read them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


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


def columns() -> int:
    """How many columns standard output has: those of the terminal, or COLUMNS; elsewhere as many as a mail may have."""
    import os

    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 110
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


def table(rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()) -> list[str]:
    """Lines of columns, two spaces apart; `right` are the columns flushed right."""
    if not rows:
        return []
    flushed = set(right)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return [
        "  ".join(c.rjust(widths[i]) if i in flushed else c.ljust(widths[i]) for i, c in enumerate(row)).rstrip()
        for row in rows
    ]


def fitted(line: str, more: str = "    ", *, left: int = 0) -> list[str]:
    """A sentence as lines that fit the terminal, colours and all.

    Args:
        line: it; blanks stay as they are.
        more: what stands before all lines but the first.
        left: how many columns stand to the left of all of them.
    """
    import re

    def length(text: str) -> int:
        return len(re.sub("\x1b\\[[0-9;]*m", "", text))

    first, *words = re.split(r" (?=\S)", line)
    rows, width = [first], columns() - left
    for word in words:
        if rows[-1].strip() and length(rows[-1]) + 1 + length(word) > width:
            rows.append(more + word)
        else:
            rows[-1] += f" {word}"
    return rows
