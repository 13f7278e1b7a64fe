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
from boot.guest import START_KERNEL_MAP, Guest
from boot.modes import Mode, chosen
from boot.test_boot import judge, predict

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
    if kernel.bits != 64:
        pytest.skip(f"{booted_kernel.name}: the guest's init is for x86-64")
    core = tmp_path / "core"
    try:
        with Guest(qemu, booted_kernel, guest_initramfs, mode) as guest:
            facts = guest.facts()
            guest.dump(core)
        found = pvops.memory.open(core).find(kernel)
        slide, physical_base = told(core)
        held = found.section(".text")
        report = kernel.verify(core)
    finally:
        core.unlink(missing_ok=True)
    with capsys.disabled():
        print(f"\n{kernel.release} {mode.name}: slide {found.slide:#x}, {'; '.join(found.how)}")
    text = held.address
    assert found.slide == slide
    assert found.physical == text + slide - START_KERNEL_MAP + physical_base
    assert not held.unread
    assert report, report.unexplained[:5]
    assert report.slide == slide

    bundle = tmp_path / f"{mode.name}.facts"
    bundle.write_text(facts)
    document, predicted = predict(booted_kernel, bundle, tmp_path / "text")
    size = len(held.bytes)
    sites = open_sites(document, text, size)
    judge(compare(predicted, held.bytes, text, sites, function_of(kernel)), kernel, size)


def function_of(kernel: pvops.Kernel) -> Callable[[int], bool]:
    """Tells whether a function begins at an address."""
    return lambda target: kernel.symbol_at(target) is not None


def told(core: Path) -> tuple[int, int]:
    """The slide and the physical base as the guest's kernel wrote them down (``KERNELOFFSET``, ``phys_base``)."""
    with core.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        slide = re.search(rb"\nKERNELOFFSET=([0-9a-f]+)\n", text)
        base = re.search(rb"\nNUMBER\(phys_base\)=(-?[0-9]+)\n", text)
        assert slide is not None, "the kernel wrote no VMCOREINFO"
        assert base is not None, "the kernel wrote no VMCOREINFO"
        return int(slide[1], 16), int(base[1])
