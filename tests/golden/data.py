"""The folder of real kernels, boots and goldens that some tests need (``PVOPS_KERNELS``), and the goldens in it."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Line = dict[str, Any]


def given(part: str) -> Path:
    """A folder of ``PVOPS_KERNELS`` (``kernels``, ``boots``, ``goldens``).

    Skips the test where it is absent, or fails it with ``PVOPS_REQUIRE_KERNELS=1``.
    """
    root = os.environ.get("PVOPS_KERNELS", "")
    if root and (folder := Path(root) / part).is_dir():
        return folder
    why = f"no {part} in PVOPS_KERNELS={root}" if root else f"PVOPS_KERNELS is not set: no {part}"
    if os.environ.get("PVOPS_REQUIRE_KERNELS") == "1":
        pytest.fail(why)
    pytest.skip(why)


def lines(folder: Path) -> Iterator[Line]:
    """Every line of every ``*.jsonl.xz``."""
    for path in sorted(folder.glob("*.jsonl.xz")):
        with lzma.open(path) as file:
            yield from map(json.loads, file)
