"""A kernel is booted: its text in memory is what ``pvops patch`` said it would be, and ``pvops verify`` explains it.

Nothing but the kernel and what the guest printed about itself goes into the prediction. `boot.modes` says on which
machines (``PVOPS_BOOT_MODES``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pvops
from boot.compare import Comparison, Run, compare, compare_at, open_sites
from boot.guest import Guest
from boot.modes import Mode, chosen
from kernels.other_tables import lonely_sites
from pvops.decide.backend import backend_for
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

pytestmark = pytest.mark.boot

#: How much of the text may be left open, and how often the form that is written there has to be right.
MOST_UNDETERMINED = 0.007
LEAST_FIRST_RIGHT = 0.98

#: MODULES_VADDR of x86-64 (Documentation/arch/x86/x86_64/mm.rst): what lies above is no part of the kernel's image.
MODULES = 0xFFFF_FFFF_C000_0000

#: ``sarq $5, call_depth(%rip)`` of this CPU, which ``retbleed=stuff`` puts in front of functions (callthunks.c); its
#: displacement and the 5 follow.
COUNTER, COUNTER_LENGTH = b"\x65\x48\xc1\x3d", 9


@pytest.fixture(scope="module")
def opened(booted_kernel: Path) -> Kernel:
    """The kernel to boot, opened."""
    return pvops.open(booted_kernel)


@pytest.mark.parametrize("mode", chosen(), ids=lambda mode: mode.name)
def test_text_is_as_predicted(
    mode: Mode,
    qemu: Path,
    booted_kernel: Path,
    opened: Kernel,
    guest_initramfs: bytes,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, size = next((a, s) for name, a, s, _ in opened.image.sections() if name == ".text")
    built = opened.image.read(address, size)
    assert built is not None
    below: dict[str, Any] = {
        "xen": request.getfixturevalue("xen") if mode.under_xen else None,
        "middle": request.getfixturevalue("middle") if mode.hypervisor == "real-kvm" else None,
        "domains": request.getfixturevalue("domains") if mode.domain else None,
        "text": (address, size),
    }
    with Guest(qemu, booted_kernel, guest_initramfs, mode, address_of=opened.address_of, **below) as guest:
        facts = guest.facts()
        # What is below has put the memory that a guest's page tables name elsewhere.
        memory = guest.scattered(built) if mode.scattered else guest.memory(address, size)
        seconds = guest.seconds
    assert opened.release
    assert f"Linux version {opened.release} " in facts
    assert memory != built, "the kernel has patched nothing"
    bundle = tmp_path / f"{mode.name}.facts"
    bundle.write_text(facts)

    document, predicted = predict(booted_kernel, bundle, tmp_path / "text")
    if document["passes"] == ["paravirt"]:
        places = lonely_sites(opened)
        assert places, "every paravirt site belongs to another pass too"
        found = compare_at(predicted, memory, address, places)
        what = f"{len(places)} paravirt sites that no other pass touches"
    else:
        sites = open_sites(document, address, size)

        def may_go(target: int) -> bool:
            # Hyper-V's page of hypercalls lies where modules do.
            paged = mode.hypervisor == "real-kvm" and target >= MODULES and not target % 4096
            return paged or begins(opened, target, memory, address)

        found = compare(predicted, memory, address, sites, may_go)
        what = "the whole text"
    with capsys.disabled():
        print(f"\n{opened.release} {mode.name}, booted in {seconds:.1f} s: {what}: {found}")
    for name in ("compared", "wrong_bytes", "undetermined", "sites", "first"):
        record_property(name, getattr(found, name))
    judge(found, opened, size)

    if document["passes"] != ["paravirt"]:
        report = opened.verify(memory)
        with capsys.disabled():
            print(f"verify: {report.verdict}; {report.mitigations}; explained: {report.explained}")
        assert report, report.unexplained[:5]
        # The machine that memory shows gives that memory again.
        saved = Machine.from_dict(json.loads(json.dumps(report.machine)))
        again = opened.plan(backend_for(opened, saved).name, machine=saved).apply()
        assert again == memory, f"{sum(a != b for a, b in zip(again, memory, strict=True))} bytes are others"


def begins(kernel: Kernel, target: int, memory: bytes, text: int) -> bool:
    """Whether a function begins at an address: where calls are counted, with the counter in front of it."""
    at = target - text
    if 0 <= at < len(memory) and memory[at : at + len(COUNTER)] == COUNTER:
        target += COUNTER_LENGTH
    return kernel.symbol_at(target) is not None


def predict(kernel: Path, facts: Path, out: Path) -> tuple[dict[str, Any], bytes]:
    """What the public command says a kernel's text becomes on a machine: its document, and the text."""
    words = ("patch", str(kernel), "--machine", str(facts), "--format", "text", "-o", str(out), "--json")
    command = [sys.executable, "-m", "pvops", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), out.read_bytes()


def judge(found: Comparison, kernel: Kernel, size: int) -> None:
    """Every byte is as predicted, little is left open, and what is left open is mostly guessed right."""

    def listed(runs: list[Run]) -> str:
        lines = [f"  {kernel.place(run.address)} {run}" for run in runs[:20]]
        return "\n".join([*lines, f"  … {len(runs)} in all"] if len(runs) > 20 else lines)

    assert not found.wrong, f"not as predicted:\n{listed(found.wrong)}"
    assert not found.other, f"in none of the forms listed:\n{listed(found.other)}"
    assert found.undetermined <= MOST_UNDETERMINED * size
    assert found.first >= LEAST_FIRST_RIGHT * found.sites
