"""Programs of README and docs that no task prints the output of: they are run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import pvops
from image.memory.slid import SLIDE, Slid
from kernels import given

ROOT = Path(__file__).parents[2]
RELEASE = "6.1.0-56-amd64"


def programs(page: str) -> list[str]:
    """The blocks of Python of a page that stand without a mark of the task `readme`."""
    blocks = re.findall(r"^([^\n]*)\n```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [text for above, text in blocks if above != "<!-- python -->"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages start from: a kernel, the facts of a boot of it, and memory; the pages' `/boot` is this folder."""
    (tmp_path / f"vmlinuz-{RELEASE}").symlink_to(given.given(f"kernels/vmlinuz-{RELEASE}"))
    (tmp_path / "guest.facts").symlink_to(given.given(f"boots/{RELEASE}~kvm-max-smp2.facts"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def patched(*words: str) -> None:
    command = [sys.executable, "-m", "pvops", "patch", f"vmlinuz-{RELEASE}", "--machine", "guest.facts", *words]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.usefixtures("folder")
def test_the_program_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    patched("--format", "text", "-o", "guest.core")
    (program,) = (text for text in programs("README.md") if "pvops.open" in text)
    names: dict[str, Any] = {}
    exec(compile(program.replace("/boot/", ""), "README.md", "exec"), names)
    assert "do_syscall_64+0x6e" in capsys.readouterr().out
    assert names["report"].backend == "kvm"
    assert names["text"] == Path("guest.core").read_bytes()


@pytest.mark.usefixtures("folder")
def test_the_first_program_about_memory_finds_the_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    patched("--format", "kcore", "--slide", "0x1c000000", "-o", "guest.core")
    names: dict[str, Any] = {}
    exec(compile(programs("docs/memory.md")[0].replace("/boot/", ""), "memory.md", "exec"), names)
    assert capsys.readouterr().out.startswith("0x1c000000\n")
    assert names["held"].bytes == names["kernel"].plan("kvm", machine="guest.facts").apply()
    assert not names["held"].unread
    assert not names["held"].strays


def test_readers_are_memory_as_the_page_about_memory_has_them() -> None:
    slid = Slid("native")
    physical = slid.physical()

    def read(address: int, size: int) -> bytes:
        return physical[address : address + size].ljust(size, b"\0")

    below_a_gib = [(0, 0xA0000), (0x100000, len(physical))]
    program = programs("docs/memory.md")[1]
    assert program.count("found = ") == 3
    for line in program.splitlines():
        names: dict[str, Any] = {
            "pvops": pvops,
            "kernel": slid.kernel,
            "prog": slid,
            "layer": slid,
            "read": read,
        }
        exec(line.replace("[(0, 0xA0000), (0x100000, 3 << 30)]", repr(below_a_gib)), names)
        assert names["found"].slide == SLIDE, line


@pytest.mark.usefixtures("folder")
def test_tables_are_taken_by_the_packages_that_are_here() -> None:
    (program,) = (text for text in programs("docs/for-scripts.md") if "pyarrow" in text)
    kernel = pvops.open(f"vmlinuz-{RELEASE}")
    names: dict[str, Any] = {"kernel": kernel, "plan": kernel.plan("kvm", machine="intel-haswell")}
    ran = []
    for line in program.splitlines():
        package = re.sub(r"^rows = ", "", line).partition(".")[0]
        if find_spec(package) is not None:
            exec(f"import {package}\n{line}", names)
            ran.append(package)
    assert "numpy" in ran
    if "pyarrow" in ran:
        assert names["rows"].num_rows == sum(len(site.rows) for site in kernel.sites)
