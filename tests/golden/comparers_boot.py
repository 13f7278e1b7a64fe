"""Goldens about the rest of a boot: alternatives, locks, and whole runs of alternative_instructions()."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from golden.comparers_patching import rules_of, slot_of
from golden.data import Line
from pvops import _core
from pvops.errors import KernelBug


def number(text: str) -> int:
    return int(text, 16)


def text_of(line: Line) -> tuple[int, int]:
    return number(line["text"]), number(line["text_end"])


def alternative(line: Line) -> dict[str, Any]:
    """One alt_instr through apply_alternatives."""
    try:
        after = _core.patch_alternative(
            line["era"],
            line["bits"],
            line["cpu_nops"],
            number(line["address"]),
            bytes.fromhex(line["before"]),
            number(line["replacement_address"]),
            bytes.fromhex(line["replacement"]),
            line["present"],
        )
    except KernelBug:
        return {"after": "BUG"}
    return {"after": after.hex()}


def smp_locks(line: Line) -> dict[str, Any]:
    """alternatives_smp_unlock, which heeds noreplace-smp; alternatives_smp_lock leaves that to its caller."""
    lock = line["mode"] == "lock"
    if line["noreplace_smp"] and not lock:
        return {"after": line["before"]}
    locks = [number(site) for site in line["locks"]]
    before = bytes.fromhex(line["before"])
    after = _core.patch_locks(line["era"], number(line["address"]), before, locks, text_of(line), lock)
    return {"after": after.hex()}


def processors(line: Line) -> tuple[int, int, int, int, bool, bool]:
    return (
        line["possible_cpus"],
        line["present_cpus"],
        line["online_cpus"],
        line["setup_max_cpus"],
        line["hotplug_cpu"],
        line["noreplace_smp"],
    )


def boot(line: Line) -> dict[str, Any]:
    """The whole alternative_instructions(), and the switches between one CPU and many after it."""
    try:
        return {"after": _boot(line).hex()}
    except KernelBug:
        return {"after": "BUG"}


def _boot(line: Line) -> bytes:
    era, address, cpus = line["era"], number(line["address"]), processors(line)
    rows = [] if line["noreplace_paravirt"] else line["paravirt"]
    slots = [slot_of(line | row)[1] for row in rows]
    words = [0] * 16
    for feature in line["features"]:
        words[feature // 32] |= 1 << feature % 32
    unlocked = _core.unlocks_at_boot(era, cpus)
    locks = [number(site) for site in line["locks"]]
    after = _core.boot_region(
        era,
        line["bits"],
        address,
        bytes.fromhex(line["before"]),
        [(number(r["address"]), r["len"], bytes.fromhex(r["replacement"]), r["feature"]) for r in line["alternatives"]],
        # One slot a site: a line may fill the same op differently at each.
        [(number(r["address"]), index, r["len"], r["clobbers"]) for index, r in enumerate(rows)],
        locks,
        text_of(line),
        _core.Boot(
            words,
            {},
            line["cpu_nops"],
            uniprocessor=unlocked,
            template=slots,
            rules=rules_of(era, line["bits"], line["cpu_nops"]),
        ),
    )
    for then in line["then"]:
        lock = _core.switch_locks(era, cpus, unlocked, then == "smp")
        if lock is not None:
            after = _core.patch_locks(era, address, after, locks, text_of(line), lock)
            unlocked = not lock
    return after


COMPARERS: dict[str, Callable[[Line], dict[str, Any] | None]] = {
    "alternative": alternative,
    "smp-locks": smp_locks,
    "boot": boot,
}
