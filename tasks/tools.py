"""What a task cannot make itself: a Rust, a C compiler and a Python that are new enough."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from .shell import ROOT, output_of, stop

#: The oldest Python that the wheel is for (``requires-python``).
PYTHON = (3, 11)


def minimum_rust() -> tuple[int, int]:
    """The oldest Rust that builds the crate, from Cargo.toml."""
    found = re.search(r'^rust-version = "(\d+)\.(\d+)', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    if not found:
        stop("Cargo.toml names no rust-version")
    return int(found[1]), int(found[2])


def need_rust() -> None:
    """Checks for a Rust that is new enough."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"), "bin")
    if shutil.which("cargo") is None and (home / "cargo").exists():
        os.environ["PATH"] = f"{home}{os.pathsep}{os.environ.get('PATH', '')}"
    major, minor = minimum_rust()
    found = re.match(r"rustc (\d+)\.(\d+)", output_of("rustc", "--version") or "")
    if found is None or shutil.which("cargo") is None:
        stop(f"Rust {major}.{minor} or later is missing: install it with rustup, see https://rustup.rs")
    if (int(found[1]), int(found[2])) < (major, minor):
        have = f"{found[1]}.{found[2]}"
        stop(f"Rust {major}.{minor} or later is needed, this is {have}: `rustup update`, or see https://rustup.rs")


def need_c_compiler() -> None:
    """Checks for the C compiler that the xz and zstd libraries are built with."""
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "cc", "gcc", "clang")):
        stop("a C compiler is missing (for the xz and zstd libraries): `apt install build-essential`")


def need_python() -> None:
    """Checks for a Python that is new enough and can make virtual environments."""
    if sys.version_info < PYTHON:
        have = ".".join(map(str, sys.version_info[:2]))
        stop(f"Python {PYTHON[0]}.{PYTHON[1]} or later is needed, this is {have}: run this with a newer one")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop("Python cannot make virtual environments: `apt install python3-venv`")
