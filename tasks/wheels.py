"""Wheels for old systems and other machines, linked by zig in no container, and the source distribution."""

from __future__ import annotations

import os
from pathlib import Path

from . import licences
from .environment import make_venv, python_in
from .shell import CACHE, ROOT, Options, output_of, run, say
from .tools import need_rust

OUT = ROOT / "build" / "wheels"
#: Target → the oldest system that its wheel is for. Measuring call sites (`pvops bench`) is on x86-64 Linux alone.
TARGETS = {
    "x86_64-unknown-linux-gnu": "manylinux2014",
    "aarch64-unknown-linux-gnu": "manylinux2014",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}


def wheels(options: Options) -> None:
    """Builds the sdist, and a wheel for each target that Rust has the standard library of, into ``build/wheels``."""
    need_rust()
    tools = CACHE / "wheel-tools"
    if output_of(python_in(tools), "-m", "ziglang", "version") is None:
        make_venv(tools)
        run(python_in(tools), "-m", "pip", "install", "--quiet", "maturin>=1.9,<2", "ziglang>=0.13")
    licences.gather()
    maturin = tools / "bin" / "maturin"
    run(maturin, "sdist", "--out", OUT)
    for target, oldest in TARGETS.items():
        libraries = output_of("rustc", "--print", "target-libdir", "--target", target)
        if libraries is None or not Path(libraries.strip()).is_dir():
            say(f"no wheel for {target}: `rustup target add {target}`")
            continue
        words = ("build", "--release", "--locked", "--zig", "--target", target, "--compatibility", oldest)
        run(maturin, *words, "--out", OUT, env={"PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"})
    say("build/wheels: " + ", ".join(sorted(path.name for path in OUT.iterdir())))
