"""Benchmarks, each beside what it is compared with."""

from __future__ import annotations

import time
from pathlib import Path

from .environment import VENV, environment, peers, python_in
from .shell import CACHE, ROOT, Options, run, say
from .tools import need_c_compiler, need_rust


def bench(options: Options) -> None:
    """Runs every benchmark, each beside what it is compared with; saves the run, and a page of it, in ``.cache``.

    Those of real kernels need ``PVOPS_KERNELS``: they are of certain releases. What is left out is listed.
    """
    need_rust()
    need_c_compiler()
    environment()
    peers()
    runs = CACHE / "bench"
    runs.mkdir(exist_ok=True)
    name = time.strftime("%Y-%m-%d-%H%M%S")
    words: list[str | Path] = ["--json", runs / f"{name}.json", "--page", runs / f"{name}.html"]
    if options.against:
        words += ["--against", options.against]
    run(python_in(VENV), "benches/suite.py", *options.only, *words)
    say(f"saved: {(runs / name).relative_to(ROOT)}.json and .html; --against holds a later run against it")
