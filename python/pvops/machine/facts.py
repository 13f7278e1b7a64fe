"""The bundle of facts: plain text in parts, each begun by a line ``==FILE path``; nothing stands before the first.

The parts read here are /proc/version, /proc/cmdline, /proc/cpuinfo, /sys/…/vulnerabilities/*, the clock source,
``cpuid`` (lines as ``cpuid -r`` prints them) and ``dmesg``; all others are kept. ``(none)`` stands for a file that was
not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pvops.machine.given import LIMIT, Given
from pvops.machine.reading import REGISTERS, bad, integer

MARK = "==FILE "
#: The part that a bundle of `pvops machine --collect` begins with, and the line that it ends with.
COLLECTED = "collected-by-pvops"
END = "==END"

_VULNERABILITIES = "/sys/devices/system/cpu/vulnerabilities/"
_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


def are_in(text: str) -> bool:
    """Whether a text is a bundle, be it one that begins with what does not belong there; JSON and TOML are none."""
    return any(line.startswith(MARK) for line in text.split("\n")) and not text.lstrip().startswith("{")


def given(text: str, name: str) -> Given:
    """What a bundle says of a machine; `MachineError` names the file, the part and the line."""
    if len(text) > LIMIT:
        bad(name, "", 0, f"larger than {LIMIT >> 20} MiB")
    parts, starts = _split(text, name)
    _complete(parts, name)
    return of_parts(parts, starts, name)


def of_parts(parts: Mapping[str, str], starts: Mapping[str, int], name: str) -> Given:
    """What the parts of a bundle say; ``starts`` are their first lines, for messages."""
    cpu, online = _cpuinfo(parts.get("/proc/cpuinfo", ""), name, starts.get("/proc/cpuinfo", 0))
    cpu = cpu or _said_cpu(parts.get("dmesg", ""))
    number = {k: integer(cpu[f], name, "/proc/cpuinfo", 0, f) for k, f in _CPU_NUMBERS.items() if f in cpu}
    return Given(
        name=name,
        vendor=cpu.get("vendor_id"),
        model_name=cpu.get("model name"),
        flags=cpu["flags"].split() if "flags" in cpu else None,
        bugs=cpu["bugs"].split() if "bugs" in cpu else None,
        family=number.get("family"),
        model=number.get("model"),
        stepping=number.get("stepping"),
        siblings=number.get("siblings"),
        cores=number.get("cores"),
        online_cpus=online or None,
        cmdline=_cmdline(parts),
        vulnerabilities={
            path.removeprefix(_VULNERABILITIES): value
            for path in parts
            if path.startswith(_VULNERABILITIES) and (value := _present(parts, path)) is not None
        },
        clocksource=_present(parts, _CLOCKSOURCE),
        cpuid=_cpuid(parts.get("cpuid", ""), name, starts.get("cpuid", 0)),
        kernel=_present(parts, "/proc/version"),
        dmesg=parts.get("dmesg", ""),
        parts=parts,
    )


#: As start_kernel() prints it; the log may have a level and a time before.
_SAID_CMDLINE = r"(?m)^(?:<\d+>)?(?:\[[^]\n]*\] ?)*Kernel command line: (.*)$"


def _cmdline(parts: Mapping[str, str]) -> str | None:
    """The command line; of a kernel without /proc as its log has it."""
    given = _present(parts, "/proc/cmdline")
    if given is not None:
        return given
    said = re.search(_SAID_CMDLINE, parts.get("dmesg", ""))
    return said[1].strip() if said is not None else None


#: As print_cpu_info() prints it (arch/x86/kernel/cpu/common.c): the vendor, where the name lacks it, and the name;
#: since 3.10 with family and model.
_SAID_CPU = (
    r"(?m)^(?:<\d+>)?(?:\[[^]\n]*\] ?)*(?:smpboot: )?CPU0?: (.{3,100}?) "
    r"(?:stepping ([0-9a-f]{1,4})|\(fam(?:ily)?: (?:0x)?([0-9a-f]{1,4}), model: (?:0x)?([0-9a-f]{1,4})"
    r"(?:, stepping: (?:0x)?([0-9a-f]{1,4}))?\))$"
)
_VENDORS = {
    "AMD": "AuthenticAMD",
    "Intel": "GenuineIntel",
    "Hygon": "HygonGenuine",
    "Centaur": "CentaurHauls",
    "VIA": "CentaurHauls",
    "Zhaoxin": "  Shanghai  ",
}


def _said_cpu(log: str) -> dict[str, str]:
    """The first CPU's fields as far as a log tells them, of a kernel without /proc."""
    said = re.search(_SAID_CPU, log)
    if said is None:
        return {}
    words = re.split(r"\W+", said[1])
    vendor = next((vendor for word, vendor in _VENDORS.items() if word in words), None)
    numbers = {"cpu family": said[3], "model": said[4], "stepping": said[2] or said[5]}
    found = {field: str(int(digits, 16)) for field, digits in numbers.items() if digits}
    return ({"vendor_id": vendor} if vendor is not None else {}) | {"model name": said[1]} | found


_CPU_NUMBERS = {
    "family": "cpu family",
    "model": "model",
    "stepping": "stepping",
    "siblings": "siblings",
    "cores": "cpu cores",
}


def _split(text: str, name: str) -> tuple[dict[str, str], dict[str, int]]:
    parts: dict[str, list[str]] = {}
    starts: dict[str, int] = {}
    current: list[str] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(MARK) and "dmesg" not in parts:
            path = line[len(MARK) :].strip()
            if not path or path in parts:
                bad(name, path, number, "part given twice" if path else f"{MARK.strip()} without a path")
            current = parts[path] = []
            starts[path] = number
        elif current is not None:
            current.append(line)
        elif line.strip():
            bad(name, "", number, f"text before the first {MARK.strip()} line")
    if not parts:
        bad(name, "", 0, f"no {MARK.strip()} line: not a bundle of facts")
    return {path: "\n".join(lines) for path, lines in parts.items()}, starts


def _complete(parts: dict[str, str], name: str) -> None:
    """Refuses a bundle that is cut or empty; takes the line at the end of a collected one away."""
    last = next(reversed(parts))
    if COLLECTED in parts:
        text, mark, _ = parts[last].rstrip("\n").rpartition(END)
        if not mark:
            bad(name, last, 0, f"the bundle is cut: {END}, its last line, is missing")
        parts[last] = text
    if not any(_present(parts, path) for path in parts):
        bad(name, "", 0, "the bundle is empty: no part has any text")
    blocks = [block for block in parts.get("/proc/cpuinfo", "").split("\n\n") if block.strip()]
    if last == "/proc/cpuinfo" and blocks:
        fields = [{line.partition(":")[0].strip() for line in block.splitlines()} for block in (blocks[0], blocks[-1])]
        if "vendor_id" in fields[0] and not {"flags", *fields[0]} <= fields[1]:
            bad(name, last, 0, "the bundle is cut: its last CPU has not all that the first has, flags among it")


def _present(parts: Mapping[str, str], path: str) -> str | None:
    value = parts.get(path, "(none)").strip()
    return None if value == "(none)" else value


def _cpuinfo(text: str, name: str, start: int) -> tuple[dict[str, str], int]:
    """The first CPU's fields and how many CPUs there are."""
    first: dict[str, str] = {}
    online = 0
    for number, line in enumerate(text.split("\n"), start + 1):
        if not line.strip() or line.strip() == "(none)":
            continue
        field, colon, value = line.partition(":")
        if not colon:
            bad(name, "/proc/cpuinfo", number, f"line without a colon: {line.strip()[:60]!r}")
        field = field.strip()
        if field == "processor":
            online += 1
        if online <= 1:
            first.setdefault(field, value.strip())
    return first, online


def _cpuid(text: str, name: str, start: int) -> dict[tuple[int, int], dict[str, int]]:
    """Lines ``0x40000001 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…``; headings such as ``CPU 0:`` are skipped."""
    leaves: dict[tuple[int, int], dict[str, int]] = {}
    for number, line in enumerate(text.split("\n"), start + 1):
        if not line.strip().startswith("0x"):
            if line.strip() and not line.strip().endswith(":") and line.strip() != "(none)":
                bad(name, "cpuid", number, f"not a leaf: {line.strip()[:60]!r}")
            continue
        key, colon, rest = line.partition(":")
        pairs = dict(pair.partition("=")[::2] for pair in rest.split())
        if not colon or len(key.split()) not in (1, 2) or set(pairs) != set(REGISTERS):
            bad(name, "cpuid", number, f"not a leaf: {line.strip()[:60]!r}")
        ids = [integer(n, name, "cpuid", number, "leaf") for n in key.split()]
        registers = {r: integer(pairs[r], name, "cpuid", number, r) for r in REGISTERS}
        leaves.setdefault((ids[0], ids[1] if len(ids) == 2 else 0), registers)
    return leaves
