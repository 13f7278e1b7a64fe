"""Every byte of real kernels' text is explained from memory and image alone; what was inferred is what they held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernels.given import Boot
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

pytestmark = pytest.mark.kernels


def text_of(kernel: Kernel, boot: Boot) -> tuple[bytes, bytes]:
    """``.text`` as built, and as it was in memory."""
    address, size = next((a, s) for name, a, s, _ in kernel.image.sections() if name == ".text")
    built = kernel.image.read(address, size)
    assert built is not None
    return built, boot.text_in_memory(built, address)


def test_every_byte_is_explained_and_the_state_is_the_kernels_own(boot: Boot, kernel: Callable[[str], Kernel]) -> None:
    opened = kernel(boot.release)
    built, memory = text_of(opened, boot)
    report = opened.verify(memory)
    changed = sum(a != b for a, b in zip(built, memory, strict=True))
    print(f"{boot.name}: {sum(report.explained.values()):,} of {changed:,} changed bytes explained")
    assert report, report.unexplained[:5]
    assert report.verdict == "clean"
    assert sum(report.explained.values()) == changed
    assert not any(vote.against for vote in report.votes)
    assert report.backend == boot.backend
    assert report.cpus == ("1" if boot.name.endswith("smp1") else "2 or more")

    words = boot.json.get("x86_capability")
    if words is None:
        return  # i386: the boot did not record them
    held = [int(word, 16) for word in words]
    wrong = []
    numbers = opened.feature_numbers
    for name, present in report.features.items():
        number = numbers.number(name)
        assert number is not None
        if bool(held[number // 32] >> number % 32 & 1) != present:
            wrong.append(name)
    assert not wrong
    thunk = report.mitigations["return_thunk"]
    assert thunk is None or thunk == boot.json["return_thunk"]


def test_what_a_machine_settles_is_not_inferred(kernel: Callable[[str], Kernel], kernels_root: Path) -> None:
    name = "6.1.0-56-amd64~native-epyc-smp2"
    boot = Boot(kernels_root / "boots" / f"{name}.json")
    opened = kernel(boot.release)
    _, memory = text_of(opened, boot)
    report = opened.verify(memory, machine=Machine.load(boot.facts))
    assert report, report.unexplained[:5]
    assert sum(vote.given for vote in report.votes) > 100

    other = Machine.load(boot.facts.with_name("6.1.0-56-amd64~xenpv-max-smp2.facts"))
    report = opened.verify(memory, machine=other)
    assert report.verdict == "modified"
    assert len(report.unexplained) > 1000
