"""Checks of the sources: formatting, lints, types, the direction of imports, and the stub of the built module."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from .environment import VENV, environment, python_in
from .shell import ROOT, Options, run, run_status, say, shown, words_in
from .tools import need_c_compiler, need_rust

STUBTEST = (python_in(VENV), "-m", "mypy.stubtest", "pvops._core")
STUBTEST_ENV = {"MYPYPATH": "python"}

#: A command, and what its environment has besides.
Check: TypeAlias = tuple[tuple[str | Path, ...], dict[str, str]]


def lint(options: Options) -> None:
    """Checks formatting, lints and types, and holds the stub to the built module; all checks run before any fails."""
    need_rust()
    need_c_compiler()
    environment()
    bin_ = VENV / "bin"
    rust = {"PYO3_PYTHON": str(python_in(VENV))}
    clippy = ("cargo", "clippy", "--locked", "--quiet")
    of_rust: list[Check] = [
        (("cargo", "fmt", "--check"), {}),
        # What others build on; tests and benchmarks are the same with every feature.
        ((*clippy, "--", "-D", "warnings"), rust),
        ((*clippy, "--all-targets", "--features", "python,peers", "--", "-D", "warnings"), rust),
        (("cargo", "doc", "--locked", "--quiet", "--no-deps"), {"RUSTDOCFLAGS": "-D warnings"}),
    ]
    of_python: list[Check] = [
        ((bin_ / "ruff", "check", "."), {}),
        ((bin_ / "ruff", "format", "--check", "."), {}),
        ((bin_ / "mypy",), {}),
        ((bin_ / "lint-imports", "--no-cache"), {"PYTHONPATH": "python"}),
        (STUBTEST, STUBTEST_ENV),
    ]
    # Side by side: most of them use one CPU most of the time.
    with ThreadPoolExecutor() as executor:
        failed = [check for checks in executor.map(_failing, [of_rust, of_python]) for check in checks]
    if failed:
        say("failed: " + "; ".join(failed))
        sys.exit(1)


def _failing(checks: list[Check]) -> list[str]:
    return [shown(words_in(ROOT, words)) for words, env in checks if run_status(*words, env=env)]


def format_(options: Options) -> None:
    """Formats the Rust and the Python."""
    need_rust()
    environment()
    run("cargo", "fmt")
    run(VENV / "bin" / "ruff", "check", "--fix", "--quiet", ".")
    run(VENV / "bin" / "ruff", "format", ".")


def stubs(options: Options) -> None:
    """Holds ``_core.pyi`` to the built module; there is no list of exceptions."""
    environment()
    run(*STUBTEST, env=STUBTEST_ENV)
