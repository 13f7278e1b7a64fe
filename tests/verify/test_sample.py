"""What is patched is explained: on sample images of every era and pointer size, which need nothing from outside."""

from __future__ import annotations

import pytest

import pvops
from pvops import sample
from pvops.errors import DumpError

SHAPES = [(era, bits) for era in ("5.10", "6.1") for bits in (64, 32)]


@pytest.mark.parametrize(("era", "bits"), SHAPES)
@pytest.mark.parametrize("backend", ["native", "kvm"])
def test_what_is_patched_is_explained(era: str, bits: int, backend: str) -> None:
    kernel = pvops.open(sample.build(era, bits).elf)
    text = bytes(kernel.plan(backend).apply())
    report = kernel.verify(text)
    assert report.verdict == "clean", report.unexplained
    built = next((a, s) for name, a, s, _ in kernel.image.sections() if name == ".text")
    linked = kernel.image.read(*built)
    assert linked is not None
    assert sum(report.explained.values()) == sum(a != b for a, b in zip(linked, text, strict=True))


def test_a_changed_byte_outside_of_tables_is_named() -> None:
    made = sample.build("6.1", 64)
    kernel = pvops.open(made.elf)
    text = bytearray(kernel.plan("native").apply())
    address = next(a for name, a, _, _ in kernel.image.sections() if name == ".text")
    sites = {at for site in kernel.sites for at in range(site.address, site.address + 16)}
    at = next(i for i in range(len(text)) if address + i not in sites)
    text[at] ^= 0x10
    report = kernel.verify(text)
    assert [(run.address, run.wrong) for run in report.unexplained] == [(address + at, 1)]


def test_nothing_is_no_memory() -> None:
    with pytest.raises(DumpError):
        pvops.open(sample.build("6.1", 64).elf).verify(b"")
