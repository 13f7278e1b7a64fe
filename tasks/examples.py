"""Examples of docstrings as code on the site: an extension of griffe, which reads the sources for mkdocstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe

#: Lines from a prompt to the next empty line.
_EXAMPLE = re.compile(r"^>>> .*(?:\n[^\n]+)*", re.MULTILINE)


def fenced(text: str) -> str:
    """A docstring whose examples are blocks of code: to Markdown a line that begins with `>>>` is a quotation."""
    return _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)


def _on_object(self: object, *, obj: griffe.Object, **kwargs: Any) -> None:
    """An object has been read."""
    if obj.docstring is not None:
        obj.docstring.value = fenced(obj.docstring.value)


#: Made by hand: where griffe is not installed, type checkers take its classes for anything.
Examples = type("Examples", (griffe.Extension,), {"on_object": _on_object})
