"""drgn's helper and its command ``%pvops``, with the real package."""

from __future__ import annotations

import importlib.metadata
import struct
from pathlib import Path
from typing import Any

import pytest

import pvops
from image.memory.slid import LARGE, SLIDE, TABLES, TEXT, Slid

drgn: Any = pytest.importorskip("drgn", reason="the extra `test` has drgn")
commands: Any = pytest.importorskip("drgn.commands")

#: Where x86-64 maps its image, and all of physical memory (arch/x86/include/asm/page_64_types.h).
START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
DIRECT_MAP = 0xFFFF_8880_0000_0000


@pytest.fixture(scope="module")
def slid() -> Slid:
    return Slid("native")


@pytest.fixture
def kernel(slid: Slid, tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux"
    path.write_bytes(slid.image)
    return path


def program(slid: Slid, folder: Path, change: dict[int, int] | None = None) -> Any:
    """drgn, on a core as kdump's: physical memory and VMCOREINFO; `change` is of bytes, by their linked addresses."""
    memory = bytearray(slid.physical())
    for at, byte in (change or {}).items():
        memory[LARGE + at - (TEXT & -LARGE)] = byte
    said = (
        f"OSRELEASE={slid.kernel.release}\nPAGESIZE=4096\nKERNELOFFSET={SLIDE:x}\nNUMBER(phys_base)=0\n"
        f"SYMBOL(swapper_pg_dir)={START_KERNEL_MAP + TABLES:x}\n"
    ).encode()
    note = struct.pack("<III11sx", 11, len(said), 0, b"VMCOREINFO") + said + bytes(-len(said) % 4)
    start = 64 + 2 * 56
    programs = struct.pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(note), len(note), 4)
    programs += struct.pack("<IIQQQQQQ", 1, 7, start + len(note), DIRECT_MAP, 0, len(memory), len(memory), 1)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    path = folder / "core"
    path.write_bytes(elf + programs + note + memory)
    prog = drgn.Program()
    prog.set_core_dump(path)
    return prog


def test_a_clean_kernel_is_clean(slid: Slid, kernel: Path, tmp_path: Path) -> None:
    from pvops.drgn import verify

    report = verify(program(slid, tmp_path), kernel)
    assert report.verdict == "clean"
    assert report.slide == SLIDE
    assert report.backend == "native"


def test_a_changed_byte_is_unexplained_and_an_allowed_one_is_not(slid: Slid, kernel: Path, tmp_path: Path) -> None:
    from pvops.drgn import verify

    at = slid.kernel.address_of("sample_idle")
    assert at is not None
    prog = program(slid, tmp_path, {at: 0xCC})
    report = verify(prog, slid.kernel)
    assert report.verdict == "modified"
    assert [(run.address, run.found) for run in report.unexplained] == [(at, b"\xcc")]
    assert verify(prog, kernel, allow=["kprobes"]).verdict == "clean"


def test_the_command_prints_the_report_and_gives_it(
    slid: Slid, kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prog = program(slid, tmp_path)

    report = commands.run_command(prog, f"pvops {kernel} -v")
    assert isinstance(report, pvops.Report)
    assert report.verdict == "clean"
    printed = capsys.readouterr().out
    assert f"slide {SLIDE:#x}" in printed
    assert "0 unexplained" in printed
    with pytest.raises(commands.CommandError, match="nonexistent"):
        commands.run_command(prog, "pvops /nonexistent")


def test_without_a_kernel_it_says_that_one_is_wanted(slid: Slid, tmp_path: Path) -> None:
    from pvops.drgn import verify

    with pytest.raises(pvops.Error, match="name the image that was booted"):
        verify(program(slid, tmp_path))


def test_drgn_finds_the_command_by_itself() -> None:
    found = {entry.name: entry.value for entry in importlib.metadata.entry_points(group="drgn.plugins")}
    assert found.get("pvops") == "pvops.drgn"
