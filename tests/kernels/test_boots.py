"""What ``pvops patch`` writes is what real kernels held in memory after booting, in every byte.

Left out are only the bytes that the plan itself marks undetermined; those must hold one of the forms it lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from boot.compare import Open, compare, open_sites
from kernels.given import Boot, boots, given
from kernels.other_tables import lonely_sites
from pvops.cli import main
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

pytestmark = pytest.mark.kernels

#: The most of .text that may be undetermined, and the least share of its sites that the first guess must get right.
UNDETERMINED, GUESSED = 0.007, 0.98

_TABLES = {"jump_labels", "static_calls", "trampolines", "runtime_const", "retpolines", "alternatives"}


def ids(boot: Boot | None) -> str:
    return boot.name if boot else "no-boots"


def some(*prefixes: str) -> Iterable[Boot | None]:
    return boots(*prefixes) or [None]


def required(boot: Boot | None) -> Boot:
    """The boot; where there is none, the test is skipped, or fails where it must run."""
    if boot is None:
        pytest.skip(f"no such boots in {given('boots')}")
    return boot


def text_of(kernel: Kernel) -> tuple[int, bytes]:
    address, size = next((a, s) for name, a, s, _ in kernel.image.sections() if name == ".text")
    built = kernel.image.read(address, size)
    assert built is not None
    return address, built


def patched(boot: Boot, root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[bytes, dict[str, Any]]:
    out = folder / "text"
    image = str(root / f"kernels/vmlinuz-{boot.release}")
    assert main(["patch", image, "--machine", str(boot.facts), "--format", "text", "-o", str(out), "--json"]) == 0
    return out.read_bytes(), json.loads(capsys.readouterr().out)


def begins(kernel: Kernel) -> Callable[[int], bool]:
    """Whether a function begins at an address."""
    return lambda address: kernel.symbol_at(address) is not None


@pytest.mark.parametrize("boot", some(), ids=ids)
def test_text_is_what_was_in_memory_in_every_byte(
    boot: Boot | None,
    kernel: Callable[[str], Kernel],
    kernels_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    boot = required(boot)
    opened = kernel(boot.release)
    address, built = text_of(opened)
    ours, document = patched(boot, kernels_root, tmp_path, capsys)
    assert {site["table"] for site in document["undetermined"]["sites"]} <= _TABLES
    sites = open_sites(document, address, len(ours))
    found = compare(ours, boot.text_in_memory(built, address), address, sites, begins(opened))
    print(f"{boot.name}: {found}")
    assert not found.wrong, [f"{run} {opened.place(run.address)}" for run in found.wrong[:20]]
    assert not found.other, [str(run) for run in found.other[:20]]
    assert found.undetermined / len(ours) < UNDETERMINED
    assert found.first / max(found.sites, 1) >= GUESSED


@pytest.mark.parametrize("boot", some(), ids=ids)
def test_the_cpu_and_the_command_line_are_enough(boot: Boot | None, kernel: Callable[[str], Kernel]) -> None:
    """Without the kernel's log and the files of vulnerabilities, mitigations follow from the kernel's own rules."""
    boot = required(boot)
    opened = kernel(boot.release)
    address, built = text_of(opened)
    document = Machine.load(boot.facts).to_dict()
    for told in ("vulnerabilities", "dmesg", "kernel", "clocksource"):
        document.pop(told, None)
    plan = opened.plan(boot.backend, machine=Machine.from_dict(document))
    in_text = [site for site in plan.undetermined if address <= site.address < address + len(built)]
    sites = [Open(site.address, site.len, tuple(site.forms)) for site in in_text]
    found = compare(bytes(plan.apply()), boot.text_in_memory(built, address), address, sites, begins(opened))
    assert not found.wrong, [f"{run} {opened.place(run.address)}" for run in found.wrong[:20]]
    assert not found.other, [str(run) for run in found.other[:20]]


@pytest.mark.parametrize("boot", some("5.10.", "6.1."), ids=ids)
def test_sites_of_paravirt_alone_hold_what_was_in_memory(boot: Boot | None, kernel: Callable[[str], Kernel]) -> None:
    boot = required(boot)
    opened = kernel(boot.release)
    address, built = text_of(opened)
    memory = boot.text_in_memory(built, address)
    ours = opened.plan(boot.backend, machine=Machine.load(boot.facts)).apply()
    sites = lonely_sites(opened)
    wrong = [
        f"{opened.place(a)} {a:#x}: ours {ours[a - address : a - address + n].hex()}, "
        f"memory {memory[a - address : a - address + n].hex()}"
        for a, n in sites
        if ours[a - address : a - address + n] != memory[a - address : a - address + n]
    ]
    print(f"{boot.name}: {len(sites) - len(wrong)} of {len(sites)} paravirt sites as in memory")
    assert sites
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("boot", some(), ids=ids)
def test_the_facts_alone_tell_the_backend(boot: Boot | None) -> None:
    boot = required(boot)
    assert Machine.load(boot.facts).backend.value == boot.backend


def test_counts_of_sites_are_those_of_the_tables(kernel: Callable[[str], Kernel]) -> None:
    counts = {
        "5.10.0-46-amd64": (7577, 7474),
        "5.10.0-30-686-pae": (3312, 3305),
        "6.1.0-56-amd64": (3848, 3676),
        "6.1.0-50-686-pae": (265, 265),
    }
    for release, (rows, in_text) in counts.items():
        sites = kernel(release).sites.of_table("paravirt")
        assert (len(sites), sites.count("section")[".text"]) == (rows, in_text), release
