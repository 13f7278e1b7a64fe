"""``pvops volatility3``: where Volatility 3 finds the plugins."""

from __future__ import annotations

import argparse
from pathlib import Path

import pvops


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    print(Path(pvops.__file__).resolve().parent / "volatility3")
    return 0
