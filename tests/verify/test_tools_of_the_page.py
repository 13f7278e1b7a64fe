"""The blocks of docs/with-other-tools.md for Volatility 3 and drgn, run as they stand there, on memory made by code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pvops
from image.memory.slid import LARGE, SLIDE, TEXT, Slid
from verify.test_drgn import program

PAGE = Path(__file__).parents[2] / "docs" / "with-other-tools.md"
BOOTED = "/boot/vmlinuz-6.1.0-56-amd64"


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of one language below a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def slid() -> Slid:
    return Slid("native")


@pytest.fixture
def folder(slid: Slid, tmp_path: Path) -> Path:
    """A kernel, and a guest's memory in which a probe stands."""
    (tmp_path / "vmlinux").write_bytes(slid.image)
    (tmp_path / "vmlinuz").symlink_to("vmlinux")
    return tmp_path


def probed(slid: Slid) -> tuple[int, bytes]:
    """Where a probe stands, and memory with it."""
    at = slid.kernel.address_of("sample_idle")
    assert at is not None
    memory = bytearray(slid.physical())
    memory[LARGE + at - (TEXT & -LARGE)] = 0xCC
    return at, bytes(memory)


def test_volatility_runs_the_plugin_as_the_page_says(slid: Slid, folder: Path) -> None:
    pytest.importorskip("volatility3", reason="the extra `test` has volatility3")
    at, memory = probed(slid)
    (folder / "guest.core").write_bytes(memory)
    vol = 'import sys; sys.argv[0] = "vol"; from volatility3.cli import main; main()'
    for name, runs in (("pvops", "-m pvops"), ("vol", f"-c '{vol}' --offline -q")):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {runs} "$@"\n')
        command.chmod(0o755)
    (block,) = blocks("Volatility 3", "console")
    words = block.removeprefix("$ ").replace(BOOTED, "vmlinux")
    assert words.count("--allow ftrace") == 1
    env = {"HOME": str(folder), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ":".join(sys.path)}
    for allowed, verdict in (("ftrace", "modified"), ("kprobes", "clean")):
        shell = ["bash", "-c", words.replace("--allow ftrace", f"--allow {allowed}")]
        done = subprocess.run(shell, cwd=folder, env=env, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        first, *rest = [
            line for line in done.stdout.splitlines() if line and not line.startswith(("Volatility", "Finding"))
        ]
        assert first.split()[0] == verdict
        assert any(f"{at:x}" in line for line in rest)


def test_a_layer_of_volatility_is_memory_as_the_page_says(
    slid: Slid, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: Any = pytest.importorskip("volatility3.framework.contexts", reason="the extra `test` has volatility3")
    from volatility3.framework.layers import physical

    context = contexts.Context()
    context.add_layer(physical.BufferDataLayer(context, "memory", "memory_layer", slid.physical()))
    (block,) = blocks("Volatility 3", "python")
    names: dict[str, Any] = {"pvops": pvops, "context": context}
    monkeypatch.chdir(folder)
    exec(block.replace(Path(BOOTED).name, "vmlinux"), names)
    assert names["report"].verdict == "clean"


def test_drgns_command_and_function_do_as_the_page_says(
    slid: Slid, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands: Any = pytest.importorskip("drgn.commands", reason="the extra `test` has drgn")
    at, _ = probed(slid)
    prog = program(slid, folder, {at: 0xCC})
    monkeypatch.chdir(folder)
    (console,) = blocks("drgn", "console")
    allowed, piped = (line.removeprefix(">>> %").replace(BOOTED, "vmlinux") for line in console.splitlines())
    assert commands.run_command(prog, allowed).verdict == "clean"
    capfd.readouterr()
    commands.run_command(prog, piped)
    lines = capfd.readouterr().out.splitlines()
    assert len([line for line in lines if f"{at:x}" in line]) == 1
    assert all("unexplained" in line for line in lines)
    (block,) = blocks("drgn", "python")
    exec(block.replace(BOOTED, "vmlinux"), {"prog": prog})
    assert capfd.readouterr().out.split()[:2] == [hex(at + SLIDE), "sample_idle+0x0"]
