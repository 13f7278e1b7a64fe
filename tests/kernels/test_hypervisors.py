"""Guests of real hypervisors: what the facts predict is what memory held, and memory alone names the hypervisor."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from kernels.given import Boot, boots, given
from pvops.decide.backend import backend_for
from pvops.kernel import Kernel
from pvops.machine.machine import Machine
from pvops.plan.plan import Plan

pytestmark = pytest.mark.kernels

FOLDER = "boots-hypervisors"
#: The least share of static keys, static calls and trampolines that a first guess must get right.
GUESSED = 0.995


def every(name: str) -> pytest.MarkDecorator:
    """Every boot of the folder, or of the others too."""
    folders = (FOLDER,) if name == "real" else (FOLDER, "boots")
    found: list[Boot | None] = [boot for folder in folders for boot in boots(folder=folder)]
    return pytest.mark.parametrize("boot", found or [None], ids=lambda boot: boot.name if boot else "no-boots")


def opened(boot: Boot | None, kernel: Callable[[str], Kernel]) -> tuple[Boot, Kernel, int, bytes]:
    """The boot, its kernel, and .text in memory with its address."""
    if boot is None:
        pytest.skip(f"no boots in {given(FOLDER)}")
    found = kernel(boot.release)
    address, size = next((a, s) for name, a, s, _ in found.image.sections() if name == ".text")
    return boot, found, address, boot.text_in_memory(found.image.read(address, size) or b"", address)


def planned(kernel: Kernel, machine: Machine) -> Plan:
    return kernel.plan(backend_for(kernel, machine).name, machine=machine)


@every("all")
def test_what_the_facts_predict_is_what_memory_held(boot: Boot | None, kernel: Callable[[str], Kernel]) -> None:
    boot, found, address, memory = opened(boot, kernel)
    machine = Machine.from_facts(boot.facts)
    assert backend_for(found, machine).name == boot.backend
    plan = planned(found, machine)
    text, guesses, right = bytearray(plan.apply()), 0, 0
    for site in plan.undetermined:
        at = site.address - address
        if 0 <= at < len(text):
            if site.table in ("jump_labels", "static_calls", "trampolines"):
                guesses += 1
                right += text[at : at + site.len] == memory[at : at + site.len]
            text[at : at + site.len] = memory[at : at + site.len]
    print(f"{boot.name}: {right} of {guesses} first guesses right")
    assert right >= GUESSED * guesses
    assert text == memory


@every("all")
def test_memory_names_its_hypervisor_and_the_saved_machine_gives_its_bytes(
    boot: Boot | None, kernel: Callable[[str], Kernel]
) -> None:
    boot, found, _, memory = opened(boot, kernel)
    report = found.verify(memory)
    assert report.backend == boot.backend
    assert report, report.unexplained[:5]
    saved = Machine.from_dict(json.loads(json.dumps(report.machine)))
    assert planned(found, saved).apply() == memory
