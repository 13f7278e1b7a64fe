"""The machine this runs on, described as a bundle of facts would describe it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pvops._core as _core
from pvops.machine import facts
from pvops.machine.collect import FILES, VULNERABILITIES
from pvops.machine.cpuid import SCATTERED, WORDS
from pvops.machine.machine import Machine

#: The largest file read, and the largest log kept.
_LIMIT = 4 << 20
_LONGEST_RECORD = 1 << 13


def machine() -> Machine:
    """This machine: its kernel, its CPUs, what it says of itself; what cannot be read here is left out."""
    return Machine(**facts.of_parts(parts(), {}, "this machine"))


def parts(root: str = "/") -> dict[str, str]:
    """The parts of the bundle: of this machine, or of the files below another root."""
    found = {}
    below = Path(root)
    for path in (*FILES, *_vulnerabilities(below)):
        text = _read(below / path.lstrip("/"))
        if text is not None:
            found[path] = text
    if root == "/":
        leaves = "\n".join(_leaves())
        if leaves:
            found["cpuid"] = leaves
        log = _log()
        if log:
            found["dmesg"] = log
    return found


def log_refused() -> str | None:
    """Why the kernel's log cannot be read here; None where it can."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return f"/dev/kmsg: {error.strerror}"
    return None


def _vulnerabilities(below: Path) -> list[str]:
    try:
        names = sorted(os.listdir(below / VULNERABILITIES.lstrip("/")))
    except OSError:
        return []
    return [f"{VULNERABILITIES}/{name}" for name in names]


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT).decode("utf-8", "replace")
    except OSError:
        return None


def _log() -> str:
    """The kernel's log from its ring buffer, a line a record as ``dmesg`` prints them; empty where it is refused."""
    try:
        ring = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    lines: list[str] = []
    size = 0
    try:
        while size < _LIMIT:
            try:
                record = os.read(ring, _LONGEST_RECORD)
            except BrokenPipeError:  # a record was overwritten while it was read: the next read goes on behind it
                continue
            except OSError:  # at the end, or refused after all
                break
            if not record:
                break
            line = logged(record.decode("utf-8", "replace"))
            if line is not None:
                lines.append(line)
                size += len(line)
    finally:
        os.close(ring)
    return "\n".join(lines)


def logged(record: str) -> str | None:
    """A record of /dev/kmsg, ``6,339,5140900,-;NET: …``, as a line of dmesg; None if it is not the kernel's own."""
    head, semicolon, text = record.partition(";")
    fields = head.split(",")
    if not semicolon or len(fields) < 3 or not fields[0].isdigit() or not fields[2].isdigit():
        return None
    if int(fields[0]) >> 3:  # a facility other than the kernel: some program wrote it
        return None
    seconds, micro = divmod(int(fields[2]), 1_000_000)
    return f"[{seconds:5d}.{micro:06d}] {text.partition(chr(10))[0]}"


def _leaves() -> Iterator[str]:
    """The CPUID leaves that tell what neither /proc/cpuinfo nor the log prints, as ``cpuid -r`` prints leaves."""
    asked = {place[:2] for place in WORDS.values()} | {place[:2] for place in SCATTERED.values()}
    for base in (0x0, 0x80000000):
        highest = _core.cpuid(base)
        if highest is None:
            return
        yield _leaf(base, 0, highest)
        for leaf, sub in sorted(asked):
            if base < leaf <= highest[0] and leaf & 0x80000000 == base:
                registers = _core.cpuid(leaf, sub)
                if registers is not None:
                    yield _leaf(leaf, sub, registers)
    for base in range(0x40000000, 0x40000400, 0x100):
        registers = _core.cpuid(base)
        # CPUs answer a leaf beyond their last with what that one holds: only a hypervisor names its own range.
        if registers is None or not base <= registers[0] < base + 0x100:
            continue
        for leaf in range(base, min(registers[0], base + 0x10) + 1):
            held = _core.cpuid(leaf)
            if held is not None:
                yield _leaf(leaf, 0, held)


def _leaf(leaf: int, sub: int, registers: tuple[int, int, int, int]) -> str:
    named = zip(("eax", "ebx", "ecx", "edx"), registers, strict=True)
    return f"{leaf:#010x} {sub:#04x}: " + " ".join(f"{name}={value:#010x}" for name, value in named)
