"""``pvops patch``."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import pvops as package
from cli.run import document, pvops, trouble
from image.memory.slid import SLIDE, TEXT, Slid


def test_writes_the_image_with_every_site_patched(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "patched"
    found = document("patch", sample_kernel, "--backend", "native", "-o", out)
    assert found["schema"] == "pvops.patch/1"
    assert found["writes"] == sum(found["kinds"].values()) == len(package.open(sample_kernel).sites)
    before, after = sample_kernel.read_bytes(), out.read_bytes()
    assert len(before) == len(after)
    patched = package.open(out)
    for site in package.open(sample_kernel).sites:
        now = patched.image.read(site.address, len(site.bytes))
        assert now is not None
        assert now != site.bytes


def test_text_is_the_text_section_alone(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "text"
    assert pvops("patch", sample_kernel, "--format", "text", "-o", out).returncode == 0
    kernel = package.open(sample_kernel)
    assert out.read_bytes() == kernel.plan("native").apply()
    assert len(out.read_bytes()) == next(s for n, _, s, _ in kernel.image.sections() if n == ".text")


def test_a_kcore_is_a_core_file_of_the_same_segments(sample_kernel: Path, tmp_path: Path) -> None:
    elf, kcore = tmp_path / "elf", tmp_path / "kcore"
    assert pvops("patch", sample_kernel, "-o", elf).returncode == 0
    assert document("patch", sample_kernel, "--format", "kcore", "-o", kcore)["format"] == "kcore"
    whole, core = elf.read_bytes(), kcore.read_bytes()
    kind, count = struct.unpack_from("<H", core, 16)[0], struct.unpack_from("<H", core, 56)[0]
    assert kind == 4  # ET_CORE
    assert struct.unpack_from("<Q", core, 40)[0] == struct.unpack_from("<H", core, 60)[0] == 0  # no sections
    for at in range(64, 64 + 56 * count, 56):
        assert core[at : at + 56] == whole[at : at + 56]
        offset, size = struct.unpack_from("<Q", core, at + 8)[0], struct.unpack_from("<Q", core, at + 32)[0]
        assert core[offset : offset + size] == whole[offset : offset + size]


def test_standard_output_gets_the_same_bytes(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "elf"
    assert pvops("patch", sample_kernel, "-o", out).returncode == 0
    assert pvops("patch", sample_kernel, "-o", "-").stdout == out.read_bytes()


def test_a_file_appears_whole_or_not_at_all(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    out.write_text("as it was")
    assert "no backend" in trouble("patch", sample_kernel, "--backend", "nosuch", "-o", out)
    assert out.read_text() == "as it was"
    nowhere = tmp_path / "missing" / "out"
    assert str(nowhere) in trouble("patch", sample_kernel, "-o", nowhere)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept"]


def test_no_scratch_file_stays(sample_kernel: Path, tmp_path: Path) -> None:
    pvops("patch", sample_kernel, "-o", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_a_link_and_a_mode_stays_a_mode(sample_kernel: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    assert pvops("patch", sample_kernel, "-o", link).returncode == 0
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.stat().st_size == sample_kernel.stat().st_size


def test_a_device_is_written_to_as_it_is(sample_kernel: Path) -> None:
    assert pvops("patch", sample_kernel, "-o", "/dev/null").returncode == 0
    assert not os.path.isfile("/dev/null")


def test_binary_never_goes_to_a_terminal(sample_kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from pvops.cli import main

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["patch", str(sample_kernel), "-o", "-"]) == 2


def test_the_output_and_json_cannot_share_standard_output(sample_kernel: Path) -> None:
    done = pvops("patch", sample_kernel, "-o", "-", "--json")
    assert done.returncode == 2
    assert b"standard output" in done.stderr


def test_the_machines_own_hypervisor_is_the_default_backend(sample_kernel: Path, tmp_path: Path) -> None:
    machine = tmp_path / "guest.toml"
    machine.write_text('hypervisor = "kvm"\n')
    found = document("patch", sample_kernel, "--machine", machine, "-o", tmp_path / "out")
    assert found["backend"] == "kvm"


def test_a_hypervisor_that_nothing_names_is_said(sample_kernel: Path, tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text('{"flags": "fpu hypervisor", "clocksource": "tsc"}')
    done = pvops("patch", sample_kernel, "-o", tmp_path / "out", "--machine", tmp_path / "machine.json")
    assert done.returncode == 0
    assert b"a hypervisor, by its flag in /proc/cpuinfo; nothing tells which; taken as native" in done.stderr


def test_a_backend_the_kernel_was_built_without_is_trouble(sample_kernel: Path, tmp_path: Path) -> None:
    said = trouble("patch", sample_kernel, "--backend", "xen", "-o", tmp_path / "out")
    assert "built without Xen PV" in said


def test_the_patched_image_names_its_functions_for_other_tools(
    kernel: Callable[[str], package.Kernel], tmp_path: Path
) -> None:
    opened = kernel("6.1.0-50-686-pae")
    out = tmp_path / "vmlinux"
    opened.plan().save(out)
    again = package.open(out)
    assert again.release == opened.release
    for symbol in ("schedule", "native_write_cr4", "do_exit"):
        assert again.address_of(symbol) == opened.address_of(symbol) is not None, symbol
    # The lists of relocations behind the ELF file are still found: the image can be moved.
    assert again.moved(0x100000).address_of("schedule") == (opened.address_of("schedule") or 0) + 0x100000
    if tool := shutil.which("objdump"):
        listing = subprocess.run(
            [tool, "-d", "--disassemble=schedule", out], capture_output=True, text=True, check=True
        )
        assert f"{opened.address_of('schedule'):08x} <schedule>:" in listing.stdout
        assert "file format elf32-i386" in listing.stdout
    if tool := shutil.which("readelf"):
        listed = subprocess.run([tool, "-W", "-s", "-S", out], capture_output=True, text=True, check=True)
        assert not listed.stderr
        row = next(line.split() for line in listed.stdout.splitlines() if line.endswith(" schedule"))
        assert (row[3], row[4], int(row[2], 0) > 0) == ("FUNC", "GLOBAL", True)


@pytest.mark.parametrize(
    ("release", "slide"),
    [
        ("6.1.0-56-amd64", 0x1000000),
        ("6.1.0-50-686-pae", 0x1000000),
        # Of i386 up to 3.10 loaders could put a kernel at 1 MiB which is linked at 16.
        ("6.1.0-50-686-pae", (1 << 64) - 0xF00000),
        ("6.12.117+deb12-amd64", 0x1000000),
    ],
)
def test_the_text_of_a_kernel_that_slid_is_that_of_one_that_did_not_with_its_addresses_moved(
    kernel: Callable[[str], package.Kernel], tmp_path: Path, release: str, slide: int
) -> None:
    opened = kernel(release)
    out = tmp_path / "text"
    done = pvops("patch", opened.name, "--slide", f"{slide:x}", "--format", "text", "-o", out)
    assert done.returncode == 0, done.stderr
    _, low, size, _ = next(section for section in opened.image.sections() if section[0] == ".text")
    moved = out.read_bytes()
    assert len(moved) == size

    def read(address: int, length: int) -> bytes:
        """The memory of such a kernel: its text as patched, all else as built, all of it moved."""
        at = address - slide - low & (1 << 64) - 1
        if at <= size - length:
            return moved[at : at + length]
        found = image.read(address, length)
        if found is None:
            raise ValueError(address)
        return found

    image = opened.image.moved(slide)
    report = opened.verify(read)
    assert report.slide == slide
    assert not report.unexplained  # its data are as built: of a kernel that never ran


def test_what_a_dump_was_judged_by_makes_its_text_again_where_it_runs(tmp_path: Path) -> None:
    slid = Slid("native", tables=True)
    image, core, saved, out = (tmp_path / name for name in ("image", "core", "saved.json", "text"))
    image.write_bytes(slid.image)
    core.write_bytes(slid.physical())
    assert pvops("verify", image, core, "--save-machine", saved).returncode == 0
    words = ("patch", image, "--machine", saved, "--format", "text", "-o", out)
    for slide in (("--slide-of", core), ("--slide", f"{SLIDE:x}")):
        done = pvops(*words, *slide)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes() == slid.read(TEXT + SLIDE, len(slid.text))


def test_a_slide_is_a_hexadecimal_number(sample_kernel: Path, tmp_path: Path) -> None:
    assert "hexadecimal" in trouble("patch", sample_kernel, "-o", tmp_path / "out", "--slide", "x")


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
def test_gdb_reads_the_patched_image_where_the_kernel_slid_to(
    kernel: Callable[[str], package.Kernel], tmp_path: Path
) -> None:
    opened = kernel("6.1.0-56-amd64")
    slide = 0x1C000000
    out = tmp_path / "vmlinux"
    done = pvops("patch", opened.name, "--machine", "intel-haswell", "--slide", f"{slide:x}", "-o", out)
    assert done.returncode == 0, done.stderr
    start = (opened.address_of("do_syscall_64") or 0) + slide
    words = ["gdb", "-q", "-batch", "-ex", f"info symbol {start + 58:#x}", "-ex", "x/2i do_syscall_64", str(out)]
    said = subprocess.run(words, capture_output=True, text=True).stdout
    assert "do_syscall_64 + 58 in section .text" in said
    assert f"{start:#x} <do_syscall_64>:" in said


def test_what_memory_told_of_features_is_not_said_to_be_assumed(sample_kernel: Path, tmp_path: Path) -> None:
    text, machine = tmp_path / "text", tmp_path / "machine.json"
    assert pvops("patch", sample_kernel, "--format", "text", "-o", text).returncode == 0
    assert pvops("verify", sample_kernel, text, "--save-machine", machine).returncode == 0
    done = pvops("patch", sample_kernel, "--machine", machine, "-o", tmp_path / "again", "--json")
    assert json.loads(done.stdout)["assumed_features"] == []
    assert b"assumed" not in done.stderr


@pytest.mark.parametrize(
    ("cmdline", "said"),
    [
        ("quiet", ""),
        ("ftrace=nop", ""),
        ("ftrace=function_graph", "ftrace on the command line"),
        ("stacktrace kprobe_event=p,vfs_read", "stacktrace, kprobe_event on the command line"),
    ],
)
def test_what_tracers_write_from_the_boot_on_is_said_not_to_be_planned(
    cmdline: str, said: str, sample_kernel: Path, tmp_path: Path
) -> None:
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps({"cmdline": cmdline}))
    heard = pvops("patch", sample_kernel, "--machine", machine, "-o", tmp_path / "out").stderr.decode()
    assert said in heard
    assert ("is not planned" in heard) == bool(said)
