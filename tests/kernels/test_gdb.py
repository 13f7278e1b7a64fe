"""The commands of docs/with-other-tools.md for gdb, run as they stand there, on a guest's memory made by code."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pvops
from kernels import given
from kernels.gdb_server import GdbServer

PAGE = Path(__file__).parents[2] / "docs" / "with-other-tools.md"
RELEASE = "6.1.0-56-amd64"
#: Where the page's guest ran.
SLIDE = 0xAA00000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the page starts from: the kernel, and a dump of the guest."""
    if shutil.which("gdb") is None:
        pytest.skip("no gdb (Debian: gdb)")
    kernel, facts = given.given(f"kernels/vmlinuz-{RELEASE}"), given.given(f"boots/{RELEASE}~native-max-smp2.facts")
    (tmp_path / kernel.name).symlink_to(kernel)
    command = tmp_path / "pvops"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pvops "$@"\n')
    command.chmod(0o755)
    words = f"pvops patch {kernel.name} --machine {facts} --slide {SLIDE:#x} --format kcore -o guest.core"
    assert ran(tmp_path, words).returncode == 0
    return tmp_path


def ran(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "HOME": str(folder), "PATH": path, "LC_ALL": "C", "DEBUGINFOD_URLS": ""}
    return subprocess.run(["bash", "-c", words], cwd=folder, env=env, text=True, capture_output=True, check=False)


def test_gdb_shows_the_guest_as_the_page_does(folder: Path) -> None:
    section = PAGE.read_text().partition("## gdb: ")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    *commands, debugger = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    for words in commands:
        # The guest's data are those of the file, which verify says; what it is asked for here is the machine.
        done = ran(folder, words)
        assert done.returncode <= ("verify" in words), done.stderr
    assert pvops.open(folder / f"vmlinuz-{RELEASE}").verify(folder / "guest.core").unexplained == []
    start, asked, shown = re.fullmatch(r"(gdb [^\n]*)\n\(gdb\) ([^\n]*)\n(.*)", debugger, re.DOTALL).groups()  # type: ignore[union-attr]
    with GdbServer(reader(folder / "guest.core")) as server:
        assert ":1234" in start
        done = ran(folder, f"{start.replace(':1234', f':{server.port}')} -nx -batch -ex '{asked}'")
    assert instructions(done.stdout) == instructions(shown), done.stderr
    (core,) = re.findall(r"`(gdb [^`]*\.core)`", section)
    assert instructions(ran(folder, f"{core} -nx -batch -ex '{asked}'").stdout) == instructions(shown)


def reader(core: Path) -> Callable[[int, int], bytes]:
    """What reads the virtual memory that an ELF core holds."""
    held = core.read_bytes()
    start, count = int.from_bytes(held[32:40], "little"), int.from_bytes(held[56:58], "little")
    headers = [struct.unpack_from("<IIQQQQ", held, start + 56 * number) for number in range(count)]

    def read(address: int, size: int) -> bytes:
        for kind, _, offset, begins, _, length in headers:
            if kind == 1 and begins <= address and address + size <= begins + length:
                return held[offset + address - begins :][:size]
        raise LookupError(address)

    return read


def instructions(text: str) -> list[str]:
    """The lines of code among what gdb prints."""
    found = re.findall(r"^ +0x[0-9a-f]+ <.*$", text, re.MULTILINE)
    assert len(found) == 6, text
    return found
