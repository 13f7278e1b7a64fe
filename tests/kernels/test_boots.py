"""What ``pvops patch`` writes is what real kernels held in memory after booting, in every byte.

Left out are only the bytes that the plan itself marks undetermined; those must hold one of the forms it lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from kernels.given import Boot, boots
from kernels.other_tables import lonely_sites
from pvops.cli import main
from pvops.kernel import Kernel
from pvops.machine import Machine

pytestmark = pytest.mark.kernels

#: The most of .text that may be undetermined, and the least share of its sites that the first guess must get right.
UNDETERMINED, GUESSED = 0.007, 0.98

_TABLES = {"jump_labels", "static_calls", "trampolines", "runtime_const", "retpolines", "alternatives"}


def ids(boot: Boot | None) -> str:
    return boot.name if boot else "no-boots"


def some(*prefixes: str) -> Iterable[Boot | None]:
    return boots(*prefixes) or [None]


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


def holds(form: str, found: bytes) -> bool:
    pairs = [form[i : i + 2] for i in range(0, len(form), 2)]
    return len(pairs) == len(found) and all(
        pair in ("??", f"{byte:02x}") for pair, byte in zip(pairs, found, strict=True)
    )


@pytest.mark.parametrize("boot", some(), ids=ids)
def test_text_is_what_was_in_memory_in_every_byte(
    boot: Boot | None,
    kernel: Callable[[str], Kernel],
    kernels_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert boot is not None
    opened = kernel(boot.release)
    address, built = text_of(opened)
    memory = bytearray(boot.text_in_memory(built, address))
    ours, document = patched(boot, kernels_root, tmp_path, capsys)
    assert len(ours) == len(memory)

    sites = guessed = undetermined = 0
    for site in document["undetermined"]["sites"]:
        at, length = int(site["address"], 16) - address, site["len"]
        if not 0 <= at < len(memory):
            continue
        found = bytes(memory[at : at + length])
        assert site["table"] in _TABLES
        assert any(holds(form, found) for form in site["forms"]), site
        sites += 1
        guessed += found == ours[at : at + length]
        undetermined += length
        memory[at : at + length] = ours[at : at + length]

    wrong = [at for at in range(len(ours)) if ours[at] != memory[at]] if ours != bytes(memory) else []
    share, right = undetermined / len(ours), guessed / max(sites, 1)
    print(
        f"{boot.name}: {len(ours) - len(wrong) - undetermined} bytes as in memory, {len(wrong)} wrong; "
        f"{undetermined} undetermined ({share:.3%}) at {sites} sites, {right:.2%} of them guessed right"
    )
    assert not wrong, [f"{address + at:#x} {opened.place(address + at)}" for at in wrong[:20]]
    assert share < UNDETERMINED
    assert right >= GUESSED


@pytest.mark.parametrize("boot", some("5.10.", "6.1."), ids=ids)
def test_sites_of_paravirt_alone_hold_what_was_in_memory(boot: Boot | None, kernel: Callable[[str], Kernel]) -> None:
    assert boot is not None
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
    assert boot is not None
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
