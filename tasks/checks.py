"""Checks of the sources: formatting, lints, types, the direction of imports, and the stub of the built module."""

from __future__ import annotations

import sys
from pathlib import Path

from .environment import VENV, environment, python_in
from .shell import ROOT, Options, run, run_status, say, shown, words_in
from .tools import need_c_compiler, need_rust

STUBTEST = (python_in(VENV), "-m", "mypy.stubtest", "pvops._core")
STUBTEST_ENV = {"MYPYPATH": "python"}


def lint(options: Options) -> None:
    """Checks formatting, lints and types, and holds the stub to the built module; all checks run before any fails."""
    need_rust()
    need_c_compiler()
    environment()
    bin_ = VENV / "bin"
    rust = {"PYO3_PYTHON": str(python_in(VENV))}
    clippy = ("cargo", "clippy", "--locked", "--quiet")
    checks: list[tuple[tuple[str | Path, ...], dict[str, str]]] = [
        (("cargo", "fmt", "--check"), {}),
        # What others build on; tests and benchmarks are the same with every feature.
        ((*clippy, "--", "-D", "warnings"), rust),
        ((*clippy, "--all-targets", "--features", "python,peers", "--", "-D", "warnings"), rust),
        (("cargo", "doc", "--locked", "--quiet", "--no-deps"), {"RUSTDOCFLAGS": "-D warnings"}),
        ((bin_ / "ruff", "check", "."), {}),
        ((bin_ / "ruff", "format", "--check", "."), {}),
        ((bin_ / "mypy",), {}),
        ((bin_ / "lint-imports", "--no-cache"), {"PYTHONPATH": "python"}),
        (STUBTEST, STUBTEST_ENV),
    ]
    failed = [shown(words_in(ROOT, words)) for words, env in checks if run_status(*words, env=env)]
    if failed:
        say("failed: " + "; ".join(failed))
        sys.exit(1)


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
