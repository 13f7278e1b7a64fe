"""Rewriting: all of a boot beside copying the text, and every paravirt site beside what else encodes calls, in one run.

    PVOPS_KERNELS=… python benches/rewriting.py

Every peer must come to the same bytes, which is checked before anything is timed. Processor time, the least of rounds
that alternate between the tools.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.given import kernel, module
from support.rounds import LIMIT, OURS, PEER, Job, measure

import pvops
from pvops import _core

ROUNDS = 7


def planning(opened: pvops.Kernel) -> Iterator[Job]:
    """All tables of a boot planned and written, beside copying the text once."""
    text = opened.plan("native").apply()  # tables and symbols are read once, whoever asks
    runs: dict[str, Callable[[], object]] = {
        "pvops": lambda: opened.plan("native").apply(),
        "copy .text": lambda: bytearray(text),
    }
    yield Job(f"plan a boot of {opened.release}, write its .text", runs, {"pvops": OURS, "copy .text": LIMIT})


def rewriting(opened: pvops.Kernel) -> Iterator[Job]:
    """Every paravirt site made a direct call of one function, and nothing else."""
    table = opened.paravirt
    assert table is not None
    sites = [(row[0], row[3]) for row in table.rows()]
    built = [opened.image.read(*site) or b"" for site in sites]
    target = sites[0][0] & ~0xFFF
    slot, rules = _core.Slot("function", target), _core.TemplateRules(64, "x86")
    iced, keystone = module("iced_x86"), module("keystone")
    encoder: Any = iced.Encoder(64) if iced else None
    engine: Any = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64) if keystone else None

    def by_pvops() -> bytes:
        return b"".join(
            _core.patch_site(slot, rules, 0, address, code)[0] for (address, _), code in zip(sites, built, strict=True)
        )

    def by_hand() -> bytes:
        return b"".join(b"\xe8" + struct.pack("<i", target - a - 5) + b"\x90" * (n - 5) for a, n in sites)

    def by_iced() -> bytes:
        out = []
        for address, length in sites:
            encoder.encode(iced.Instruction.create_branch(iced.Code.CALL_REL32_64, target), address)
            out.append(encoder.take_buffer() + b"\x90" * (length - 5))
        return b"".join(out)

    def by_keystone() -> bytes:
        return b"".join(
            bytes(engine.asm(f"call {target:#x}", address, as_bytes=True)[0]) + b"\x90" * (length - 5)
            for address, length in sites
        )

    runs = {"pvops, site by site from Python": by_pvops, "struct, by hand": by_hand}
    if iced:
        runs["iced-x86's encoder"] = by_iced
    if keystone:
        runs["keystone"] = by_keystone

    def check() -> None:
        wanted = by_hand()
        for name, run in runs.items():
            if run() != wanted:
                raise SystemExit(f"{name}: other bytes than by hand")

    roles = {name: OURS if run is by_pvops else PEER for name, run in runs.items()}
    yield Job(f"rewrite {len(sites):,} sites", runs, roles, check=check)


def jobs(_: Path) -> Iterator[Job]:
    """What is compared."""
    path = kernel()
    if path is not None:
        opened = pvops.open(path)
        yield from planning(opened)
        yield from rewriting(opened)


if __name__ == "__main__":
    measure(jobs, ROUNDS)
