"""Wheels for old systems and other machines, linked by zig in no container, and the source distribution."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from . import licences
from .environment import VENV, make_venv, python_in
from .shell import CACHE, ROOT, Options, output_of, run, say, stop
from .site import need_docs
from .tools import need_rust

OUT = ROOT / "build" / "wheels"
#: Target → the oldest system that its wheel is for. Measuring call sites (`pvops bench`) is on x86-64 Linux alone.
TARGETS = {
    "x86_64-unknown-linux-gnu": "manylinux2014",
    "aarch64-unknown-linux-gnu": "manylinux2014",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}
#: Where maturin looks for what a wheel puts below the environment's `share`, by the module's name.
DATA = ROOT / "pvops._core.data"
#: What every wheel has to have in it besides the package.
HELD = ("share/man/man1/pvops.1", "share/bash-completion/completions/pvops", "third-party-licences.txt")


def wheels(options: Options) -> None:
    """Builds the sdist, and a wheel for each target that Rust has the standard library of, into ``build/wheels``."""
    need_rust()
    targets = _targets(options.target)
    tools = CACHE / "wheel-tools"
    if output_of(python_in(tools), "-m", "ziglang", "version") is None:
        make_venv(tools)
        run(python_in(tools), "-m", "pip", "install", "--quiet", "maturin>=1.9,<2", "ziglang>=0.13")
    licences.gather()
    need_docs()
    shutil.rmtree(DATA, ignore_errors=True)
    run(python_in(VENV), "-m", "tasks.references", DATA / "data" / "share")
    maturin = tools / "bin" / "maturin"
    run(maturin, "sdist", "--out", OUT)
    for target in targets:
        words = ("build", "--release", "--locked", "--zig", "--target", target, "--compatibility", TARGETS[target])
        run(maturin, *words, "--out", OUT, env={"PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"})
    for path in sorted(OUT.glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            if missing := [held for held in HELD if not any(name.endswith(held) for name in wheel.namelist())]:
                stop(f"{path.name} lacks {', '.join(missing)}")
    say("build/wheels: " + ", ".join(sorted(path.name for path in OUT.iterdir())))


def _targets(asked: list[str]) -> list[str]:
    """The targets to build for. One that was asked for and cannot be built ends the task; others are left out."""
    if unknown := [target for target in asked if target not in TARGETS]:
        stop(f"no wheel is made for {unknown[0]}: there are {', '.join(TARGETS)}")
    found = []
    for target in asked or TARGETS:
        if _has_std(target):
            found.append(target)
        elif asked:
            stop(f"no wheel for {target}: Rust's standard library for it is missing (`rustup target add {target}`)")
        else:
            say(f"no wheel for {target}: `rustup target add {target}`")
    return found


def _has_std(target: str) -> bool:
    """Whether the compiler that cargo takes has the standard library of a target, or is told to build it."""
    if "std" in os.environ.get("CARGO_UNSTABLE_BUILD_STD", ""):
        return True
    libraries = output_of(os.environ.get("RUSTC", "rustc"), "--print", "target-libdir", "--target", target)
    return libraries is not None and any(Path(libraries.strip()).glob("libstd-*.rlib"))
