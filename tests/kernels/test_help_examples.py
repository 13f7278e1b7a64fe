"""The examples of `pvops COMMAND --help`, run as they stand there in a folder that has what they name."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels import given
from pvops.cli.grammar import whole

RELEASE = "6.1.0-56-amd64"
#: Commands that measure, or simulate for long: others' tests run those.
LONG = ("bench", "lock bench", "lock simulate")


def examples(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Each line behind ``example:`` of a parser and of those below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                shown = (command.epilog or "").partition("example")[2]
                yield from (line.strip() for line in shown.splitlines() if line.startswith("  pvops "))
                yield from examples(command)


SHOWN = [line for line in examples(whole()) if not any(line.startswith(f"pvops {command}") for command in LONG)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sample_kernel: Path) -> Path:
    """A kernel, facts of a guest, its memory, and a folder of kernels."""
    path = tmp_path_factory.mktemp("examples")
    (path / "vmlinuz").symlink_to(given.given(f"kernels/vmlinuz-{RELEASE}"))
    (path / "guest.facts").symlink_to(given.given(f"boots/{RELEASE}~kvm-max-smp2.facts"))
    (path / "kernels").mkdir()
    (path / "kernels" / "vmlinux-sample").symlink_to(sample_kernel)
    (path / "boots").mkdir()
    words = "patch vmlinuz --machine guest.facts --format text -o guest.core"
    subprocess.run([sys.executable, "-m", "pvops", *words.split()], cwd=path, check=True, capture_output=True)
    return path


def test_each_command_has_one() -> None:
    assert len(SHOWN) >= 11


@pytest.mark.parametrize("line", SHOWN)
def test_an_example_of_the_help_runs_as_written(line: str, folder: Path) -> None:
    words = [str(folder / "vmlinuz") if word.startswith("/boot/vmlinuz") else word for word in shlex.split(line)[1:]]
    done = subprocess.run(
        [sys.executable, "-m", "pvops", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == (1 if words[0] == "diff" else 0), done.stderr
    for option in ("-o", "--html"):
        if option in words:
            written = folder / words[words.index(option) + 1]
            assert written.stat().st_size > 1000
            written.unlink()
    if words[0] == "explain":
        assert "<- runs" in done.stdout
    assert "Traceback" not in done.stderr
