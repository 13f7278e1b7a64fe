"""The goldens: what the historical patching code itself produced."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def lines(folder: Path) -> Iterator[Line]:
    """Every line of every ``*.jsonl.xz``."""
    for path in sorted(folder.glob("*.jsonl.xz")):
        with lzma.open(path) as file:
            yield from map(json.loads, file)
