"""The command line of the tasks."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from .benches import bench
from .checks import format_, lint, stubs
from .demo import demo
from .environment import build, smoke
from .models import locks, locks_long
from .pages import readme
from .shell import CACHE, ROOT, Options, say
from .site import manuals, site
from .tests import boot, fuzz, mutations, test
from .wheels import wheels


class Task(NamedTuple):
    """A task: what runs, and what it is for."""

    run: Callable[[Options], None]
    what: str


def ci(options: Options) -> None:
    """Everything a change must pass: lint, tests, models of the locks, a boot, the wheel alone, the site, outputs."""
    start = time.monotonic()
    # A fresh clone builds once: what would make a next build shorter only makes this one longer.
    os.environ["CARGO_INCREMENTAL"] = "0"
    for task in (lint, test, locks, boot, smoke, site):
        began = time.monotonic()
        task(options)
        say(f"{task.__name__}: {time.monotonic() - began:.0f} s")
    options.check = True
    readme(options)
    say(f"all passed in {time.monotonic() - start:.0f} s")


TASKS = {
    "demo": Task(demo, "find a kernel; list its paravirt sites, explain one, patch it for KVM"),
    "test": Task(test, "cargo test and pytest, without what `boot` runs"),
    "locks": Task(locks, "model-check the locks, catch their planted bugs, watch their memory"),
    "locks-long": Task(
        locks_long,
        "search the locks without a bound with loom, sample more threads with shuttle, and schedules of guests",
    ),
    "boot": Task(boot, "boot a kernel in QEMU, compare its text in memory with the prediction"),
    "lint": Task(lint, "rustfmt, clippy, ruff, mypy --strict, stubtest"),
    "format": Task(format_, "format the Rust and the Python"),
    "build": Task(build, "build the wheel into dist"),
    "smoke": Task(smoke, "install the wheel alone and run it"),
    "bench": Task(bench, "run the benchmarks beside their peers, one table (--only, --against)"),
    "mutations": Task(mutations, "change memory of every recorded boot, and find it (PVOPS_KERNELS)"),
    "fuzz": Task(fuzz, "run every fuzz target for a while (--seconds)"),
    "stubs": Task(stubs, "hold the stub file to the built module"),
    "readme": Task(readme, "write the outputs that README and docs show anew (--check: compare only)"),
    "site": Task(site, "build the site into build/site"),
    "manuals": Task(manuals, "write manual pages and completions into build/share"),
    "wheels": Task(wheels, "build wheels for old systems and other machines, and the sdist, into build/wheels"),
    "ci": Task(ci, "everything a change must pass"),
}


def main() -> None:
    """Runs the task that the command line names."""
    parser = argparse.ArgumentParser(
        prog="tasks.py",
        description="The tasks of this project. Each does its own set-up.",
        epilog="\n".join(f"  {name:<12}{task.what}" for name, task in TASKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", nargs="?", default="help", choices=[*TASKS, "help"], metavar="TASK")
    parser.add_argument("--check", action="store_true", help="readme: compare, write nothing")
    parser.add_argument("--seconds", type=int, default=60, help="fuzz: how long each target runs (default 60)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="bench: only this one (repeatable)")
    parser.add_argument("--target", action="append", default=[], metavar="TRIPLE", help="wheels: only for this target")
    parser.add_argument("--against", metavar="RUN", help="bench: say what changed since this saved run")
    options = parser.parse_args()
    if options.task == "help":
        parser.print_help()
        return
    os.chdir(ROOT)
    CACHE.mkdir(exist_ok=True)
    try:
        TASKS[options.task].run(options)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
