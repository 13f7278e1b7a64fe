"""Commands run and echoed, and lines for the person: what every task is written in."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
Options = argparse.Namespace


def say(text: str) -> None:
    """A line about what the task does, before the output of the commands it runs."""
    print(f"tasks: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    """Ends the task with one line that says what is wrong and what to do."""
    say(text)
    sys.exit(2)


def words_in(cwd: Path, words: Sequence[str | Path]) -> list[str]:
    """A command line for a folder: paths below it are given as seen from there."""
    return [
        str(word.relative_to(cwd) if isinstance(word, Path) and word.is_relative_to(cwd) else word) for word in words
    ]


def shown(words: Sequence[str]) -> str:
    """A command line as the person would type it in the activated environment."""
    return shlex.join(word.removeprefix(f"{ROOT}/").removeprefix(".venv/bin/") for word in words)


def run(*words: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Runs a command, echoed; ends the task with its status where it fails."""
    status = run_status(*words, env=env, cwd=cwd)
    if status:
        say(f"failed with status {status}: {shown(words_in(cwd, words))}")
        sys.exit(status if status > 0 else 1)


def run_status(*words: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> int:
    """Runs a command, echoed, and returns its status."""
    command = words_in(cwd, words)
    print(f"$ {shown(command)}", flush=True)
    return subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}).returncode


def output_of(*words: str | Path, cwd: Path = ROOT, timeout: float | None = None) -> str | None:
    """The standard output of a command that is not echoed; None where it fails or is missing."""
    try:
        done = subprocess.run(
            list(map(str, words)),
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            capture_output=True,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
