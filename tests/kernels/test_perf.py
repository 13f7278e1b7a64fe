"""The commands of docs/with-other-tools.md for perf, run as they stand there, on a profile that is made by code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pvops
from kernels import given, perf_data

PAGE = Path(__file__).parents[2] / "docs" / "with-other-tools.md"
RELEASE = "6.1.0-56-amd64"
SLIDE = 0x1C000000


def build_id(kernel: pvops.Kernel) -> bytes:
    """What the GNU build id note of a kernel holds."""
    address, size = next((address, size) for name, address, size, _ in kernel.image.sections() if name == ".notes")
    found = re.search(
        rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0(.{20})", kernel.image.read(address, size) or b"", re.DOTALL
    )
    assert found is not None
    return found.group(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the page starts from: the kernel, the facts of a boot of it, and a profile."""
    kernel = pvops.open(given.given(f"kernels/vmlinuz-{RELEASE}"))
    (tmp_path / f"vmlinuz-{RELEASE}").symlink_to(given.given(f"kernels/vmlinuz-{RELEASE}"))
    (tmp_path / "guest.facts").symlink_to(given.given(f"boots/{RELEASE}~native-max-smp2.facts"))
    text, size = next((address, size) for name, address, size, _ in kernel.image.sections() if name == ".text")
    unlock, syscall = kernel.address_of("_raw_spin_unlock"), kernel.address_of("do_syscall_64")
    assert unlock is not None
    assert syscall is not None
    samples = [SLIDE + at for at in (unlock + 5, unlock + 5, unlock + 0xB, syscall + 0x6E)]
    (tmp_path / "perf.data").write_bytes(perf_data.made(text + SLIDE, size, build_id(kernel), samples))
    return tmp_path


def test_perf_reads_what_the_page_makes(folder: Path) -> None:
    if missing := [tool for tool in ("perf", "objcopy", "nm") if shutil.which(tool) is None]:
        pytest.skip(f"no {', '.join(missing)} (Debian: linux-perf, binutils)")
    section = PAGE.read_text().partition("## perf: ")[2].partition("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    command = folder / "pvops"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pvops "$@"\n')
    command.chmod(0o755)
    env = {**os.environ, "HOME": str(folder), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"}
    ran = 0
    for block in blocks:
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            words, _, output = shown.partition("\n")
            done = subprocess.run(
                ["bash", "-c", words], cwd=folder, env=env, text=True, capture_output=True, check=False
            )
            assert done.returncode == 0, f"{words}\n{done.stderr}"
            # perf says a file by its last name or by its path, as its version will have it.
            assert fields(done.stdout) == fields(output), words
            ran += 1
    assert ran == 10
    report = pvops.open(folder / f"vmlinuz-{RELEASE}").verify(folder / "profile" / "kcore_dir" / "kcore")
    assert report.slide == SLIDE
    assert not report.unexplained
    assert report.data  # which is as built: only text is what a boot leaves


def fields(text: str) -> list[list[str]]:
    """The words of each line; where perf names a file, its words are left out: versions of perf name it differently."""
    lines = [line.split() for line in text.splitlines()]
    return [words[:2] + words[-2:] if "[k]" in words else words for words in lines]
