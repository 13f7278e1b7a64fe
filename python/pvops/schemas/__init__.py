"""JSON Schemas (draft 2020-12) of every document that a command prints or reads, as data beside this file.

A schema is named as its document says: ``pvops.sites/1`` is ``sites``, version 1. A key that changed its meaning would
make a new version; keys are added without.
"""

from __future__ import annotations

import json
from pathlib import Path

from pvops.errors import UsageError, nearest

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all documents: ``sites``, ``verify``, …."""
    return sorted(path.stem.rpartition("-")[0] for path in _FOLDER.glob("*.json"))


def schema(name: str) -> dict[str, object]:
    """The newest schema of a document.

    Raises:
        UsageError: there is no such document.
    """
    found = sorted(_FOLDER.glob(f"{name}-[0-9]*.json")) if name in names() else []
    if not found:
        raise UsageError(f"no document {name}{nearest(name, names())}; there are {', '.join(names())}")
    loaded: dict[str, object] = json.loads(found[-1].read_text(encoding="utf-8"))
    return loaded
