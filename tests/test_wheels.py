"""The task `wheels`: what cannot be built is said before anything is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def asked(target: str, tmp_path: Path) -> str:
    """The one line on stderr of the task for a target, with a compiler that has the standard library of none."""
    for name, says in (("rustc", "rustc 9.99.0"), ("cargo", "cargo 9.99.0")):
        tool = tmp_path / name
        answer = f'case "$*" in *target-libdir*) echo {tmp_path}/none;; *) echo {says};; esac'
        tool.write_text(f"#!/bin/sh\n{answer}\n")
        tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    env.pop("CARGO_UNSTABLE_BUILD_STD", None)
    env.pop("RUSTC", None)
    words = [sys.executable, "tasks.py", "wheels", "--target", target]
    done = subprocess.run(words, cwd=ROOT, env=env, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("target", ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-musl"])
def test_a_target_without_a_standard_library_is_refused(target: str, tmp_path: Path) -> None:
    assert f"Rust's standard library for it is missing (`rustup target add {target}`)" in asked(target, tmp_path)


def test_a_target_that_nobody_makes_wheels_for_is_refused(tmp_path: Path) -> None:
    assert "no wheel is made for riscv64gc-unknown-linux-gnu" in asked("riscv64gc-unknown-linux-gnu", tmp_path)
