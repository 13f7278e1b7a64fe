"""What ``pvops patch`` writes is what real kernels held in memory after booting.

The paravirt pass alone is judged, so only sites that no later pass touches are compared: every one of them, byte for
byte, on every boot of a kernel that has ``.parainstructions``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernels.given import Boot, boots
from kernels.other_tables import lonely_sites
from pvops.cli import main
from pvops.kernel import Kernel

pytestmark = pytest.mark.kernels

_BOOTS: list[Boot | None] = [*boots("5.10.", "6.1.")]


@pytest.mark.parametrize("boot", _BOOTS or [None], ids=lambda boot: boot.name if boot else "no-boots")
def test_sites_hold_what_was_in_memory(
    boot: Boot | None,
    kernel: Callable[[str], Kernel],
    kernels_root: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    assert boot is not None
    opened = kernel(boot.release)
    address, size = next((a, s) for name, a, s, _ in opened.image.sections() if name == ".text")
    built = opened.image.read(address, size)
    assert built is not None
    memory = boot.text_in_memory(built, address)

    out = tmp_path / "text"
    image = str(kernels_root / f"kernels/vmlinuz-{boot.release}")
    command = [
        "patch",
        image,
        "--machine",
        str(boot.facts),
        "--backend",
        boot.backend,
        "--format",
        "text",
        "-o",
        str(out),
    ]
    assert main(command) == 0
    ours = out.read_bytes()

    assert len(ours) == len(memory)
    sites = lonely_sites(opened)
    wrong = [
        f"{opened.place(a)} {a:#x}: ours {ours[a - address : a - address + n].hex()}, "
        f"memory {memory[a - address : a - address + n].hex()}"
        for a, n in sites
        if ours[a - address : a - address + n] != memory[a - address : a - address + n]
    ]
    print(f"{boot.name}: {len(sites) - len(wrong)} of {len(sites)} sites as in memory")
    record_property("sites", len(sites))
    assert sites
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("boot", _BOOTS or [None], ids=lambda boot: boot.name if boot else "no-boots")
def test_the_facts_alone_tell_the_backend(boot: Boot | None) -> None:
    assert boot is not None
    from pvops.machine import Machine

    assert Machine.load(boot.facts).backend.value == boot.backend


def test_counts_of_sites_are_those_of_the_tables(kernel: Callable[[str], Kernel]) -> None:
    counts = {
        "5.10.0-46-amd64": (7577, 7474),
        "5.10.0-30-686-pae": (3312, 3305),
        "6.1.0-56-amd64": (3848, 3676),
        "6.1.0-50-686-pae": (265, 265),
    }
    for release, (rows, in_text) in counts.items():
        sites = kernel(release).sites
        assert (len(sites), dict(sites.by_section())[".text"]) == (rows, in_text), release
