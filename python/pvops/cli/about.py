"""``pvops --version -v``: how this one was built and what it runs on, for reports of faults."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pvops._core as _core

#: Extra → a distribution that it needs.
_EXTRAS = {"run": "unicorn", "plot": "matplotlib", "dask": "distributed", "completion": "shtab"}


def facts() -> list[str]:
    """Lines of what there is: the core, Python, and the extras that are there."""
    there = []
    for extra, distribution in _EXTRAS.items():
        try:
            there.append(f"{extra} ({distribution} {version(distribution)})")
        except PackageNotFoundError:
            there.append(f"{extra} (no {distribution})")
    return [
        f"  core    {_core.__build__}",
        f"  python  {platform.python_implementation()} {platform.python_version()}, {platform.platform()}",
        f"  extras  {', '.join(there)}",
        f"  at      {Path(__file__).parents[1]}",
    ]
