"""A kernel is booted with KASLR and dumped. It is found, and its text, moved back, is what ``pvops patch`` said.

How far it slid is the guest's own word too: every kernel keeps VMCOREINFO in memory for kdump. The search does not look
at it there.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pvops
from boot.compare import compare, open_sites
from boot.guest import PAGE_OFFSET, START_KERNEL_MAP, Guest
from boot.modes import Mode, chosen
from boot.tamper import Dump, changes
from boot.test_boot import judge, predict
from pvops.image.memory import Location

#: Formats of QEMU's that pack pages, as it names them; it may be built without some.
FORMATS = ("kdump-zlib", "kdump-lzo", "kdump-snappy")

pytestmark = pytest.mark.boot


@pytest.mark.parametrize("mode", chosen(kaslr=True), ids=lambda mode: mode.name)
def test_a_kernel_that_slid_is_found(
    mode: Mode,
    qemu: Path,
    booted_kernel: Path,
    guest_initramfs: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kernel = pvops.open(booted_kernel)
    core = tmp_path / "core"
    try:
        with Guest(qemu, booted_kernel, guest_initramfs, mode) as guest:
            facts = guest.facts()
            guest.dump(core)
            guest_formats = [path for kind in FORMATS if (path := guest.dump_packed(tmp_path / kind, kind))]
        found = pvops.memory.open(core).find(kernel)
        slide, physical_base = told(core, kernel)
        held = found.section(".text")
        report = kernel.verify(core)
        packed_alike(guest_formats, report, kernel)
        changes_are_found(core, kernel, found, report)
    finally:
        core.unlink(missing_ok=True)
    with capsys.disabled():
        print(f"\n{kernel.release} {mode.name}: slide {found.slide:#x}, {'; '.join(found.how)}")
    text = held.address
    assert found.slide == slide
    base = START_KERNEL_MAP if kernel.bits == 64 else PAGE_OFFSET
    assert found.physical == text + slide - base + physical_base
    assert not held.unread
    assert report, report.unexplained[:5]
    assert report.slide == slide

    bundle = tmp_path / f"{mode.name}.facts"
    bundle.write_text(facts)
    document, predicted = predict(booted_kernel, bundle, tmp_path / "text")
    size = len(held.bytes)
    sites = open_sites(document, text, size)
    judge(compare(predicted, held.bytes, text, sites, function_of(kernel)), kernel, size)


def packed_alike(dumps: list[Path], report: pvops.Report, kernel: pvops.Kernel) -> None:
    """The same guest, in every format that this QEMU writes."""
    for path in dumps:
        packed = kernel.verify(path)
        path.unlink()
        assert packed.slide == report.slide
        assert packed.explained == report.explained
        assert packed, packed.unexplained[:5]


def changes_are_found(core: Path, kernel: pvops.Kernel, found: Location, report: pvops.Report) -> None:
    """The kernel's data and text agree, and one thing changed is found and named, whatever it is."""
    assert not report.data.disagreements
    if kernel.bits == 64:
        assert report.data.counts["pv_ops"] > 50
    dump = Dump(core, found)
    for kind, address, new in changes(kernel, report, dump):
        with dump.changed(address, new):
            altered = kernel.verify(core)
        assert altered.verdict == "modified", kind
        assert [datum.what for datum in altered.data.disagreements] == [kind]


def function_of(kernel: pvops.Kernel) -> Callable[[int], bool]:
    """Tells whether a function begins at an address."""
    return lambda target: kernel.symbol_at(target) is not None


def told(core: Path, kernel: pvops.Kernel) -> tuple[int, int]:
    """The slide and ``phys_base``, as the guest's kernel wrote them down; i386 has the latter not, and it is 0."""
    linked = kernel.address_of("_stext")
    assert linked is not None
    with core.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = re.search(rb"\nSYMBOL\(_stext\)=([0-9a-f]+)\n", text)
        base = re.search(rb"\nNUMBER\(phys_base\)=(-?[0-9]+)\n", text)
        assert start is not None, "the kernel wrote no VMCOREINFO"
        assert kernel.bits == 32 or base is not None
        return int(start[1], 16) - linked, int(base[1]) if base else 0
