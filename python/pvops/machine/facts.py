"""The two written forms of a `Machine`: the bundle of facts, and the JSON or TOML document.

A bundle is plain text in parts, each begun by a line ``==FILE path``; what stands before the first is not allowed. The
parts read here are /proc/version, /proc/cmdline, /proc/cpuinfo, /sys/…/vulnerabilities/*, the clock source, ``cpuid``
(lines as ``cpuid -r`` prints them) and ``dmesg``; all others are kept. ``(none)`` stands for a file that was not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from pvops.errors import MachineError

if TYPE_CHECKING:
    from pvops.machine.machine import Machine

MARK = "==FILE "
SCHEMA = "pvops.machine/1"

_VULNERABILITIES = "/sys/devices/system/cpu/vulnerabilities/"
_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_STRINGS = ("vendor", "model_name", "cmdline", "hypervisor", "clocksource", "kernel", "dmesg")
_NUMBERS = ("family", "model", "stepping", "siblings", "cores", "online_cpus", "possible_cpus")
_WORDS = ("flags", "bugs")
_KEYS = ("schema", "preset", *_STRINGS, *_NUMBERS, *_WORDS, "vulnerabilities", "cpuid", "told_by", "state")
#: What of a document decides how a preset turns out, and what it is where the document does not say.
_OF_PRESET = {"preset": None, "cmdline": "", "hypervisor": "none"}
_TOLD = ("hypervisor", "possible_cpus")
_REGISTERS = ("eax", "ebx", "ecx", "edx")


def machine(text: str, name: str) -> Machine:
    """The machine that a bundle describes; `MachineError` names the file, the part and the line."""
    from pvops.machine.machine import LIMIT

    if len(text) > LIMIT:
        _bad(name, "", 0, f"larger than {LIMIT >> 20} MiB")
    return of_parts(*_split(text, name), name)


def of_parts(parts: Mapping[str, str], starts: Mapping[str, int], name: str) -> Machine:
    """The machine that the parts of a bundle describe; ``starts`` are their first lines, for messages."""
    from pvops.machine.machine import Machine

    cpu, online = _cpuinfo(parts.get("/proc/cpuinfo", ""), name, starts.get("/proc/cpuinfo", 0))
    number = {k: _integer(cpu[f], name, "/proc/cpuinfo", 0, f) for k, f in _CPU_NUMBERS.items() if f in cpu}
    return Machine(
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
        cmdline=_present(parts, "/proc/cmdline"),
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


def document(text: str, name: str) -> Mapping[str, object]:
    """The JSON or TOML text as a mapping; `MachineError` with line and column if it is neither."""
    import json

    try:
        if text.lstrip().startswith("{"):
            value = json.loads(text)
        else:
            import tomllib

            value = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        what = "JSON" if text.lstrip().startswith("{") else f"TOML, nor facts (no {MARK.strip()} line)"
        raise MachineError(f"{name}: not {what}: {error}", reason=str(error), file=name) from error
    return dict(value)


def from_dict(values: Mapping[str, object], name: str) -> Machine:
    """The machine that a document describes; unknown keys and wrong types are a `MachineError`."""
    from pvops.machine import state
    from pvops.machine.machine import Machine

    for key in values:
        if key not in _KEYS:
            import difflib

            near = difflib.get_close_matches(key, _KEYS, n=1)
            _bad(name, "", 0, f"unknown key {key}" + (f" (did you mean {near[0]}?)" if near else ""))
    if values.get("schema", SCHEMA) != SCHEMA:
        _bad(name, "", 0, f"schema is {values['schema']}, not {SCHEMA}")
    if "preset" in values:
        values = _on_preset(values, name)
    told = _texts(values.get("told_by"), name, "told_by")
    for key in told:
        if key not in _TOLD:
            _bad(name, f"told_by.{key}", 0, f"unknown key; it has {' and '.join(_TOLD)}")
    strings, numbers, words = {}, {}, {}
    for key in _STRINGS:
        value = values.get(key)
        if value is not None and not isinstance(value, str):
            _bad(name, key, 0, "must be a string")
        strings[key] = value
    for key in _NUMBERS:
        value = values.get(key)
        if value is not None:
            numbers[key] = _integer(value, name, key, 0, key)
    for key in _WORDS:
        value = values.get(key)
        value = value.split() if isinstance(value, str) else value
        if value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            _bad(name, key, 0, "must be a list of names, or the names in one string")
        words[key] = value
    return Machine(
        name=name,
        vendor=strings["vendor"],
        model_name=strings["model_name"],
        cmdline=strings["cmdline"],
        hypervisor=strings["hypervisor"],
        clocksource=strings["clocksource"],
        kernel=strings["kernel"],
        dmesg=strings["dmesg"] or "",
        family=numbers.get("family"),
        model=numbers.get("model"),
        stepping=numbers.get("stepping"),
        siblings=numbers.get("siblings"),
        cores=numbers.get("cores"),
        online_cpus=numbers.get("online_cpus"),
        possible_cpus=numbers.get("possible_cpus"),
        flags=words["flags"],
        bugs=words["bugs"],
        vulnerabilities=_texts(values.get("vulnerabilities"), name, "vulnerabilities"),
        cpuid=_leaves(values.get("cpuid"), name),
        told_by=told,
        state=state.from_dict(values["state"], name) if values.get("state") is not None else None,
    )


def _on_preset(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The document of the preset that a document names, with what else stands there put over it."""
    from pvops.machine import presets

    preset, cmdline, hypervisor = (values.get(key, default) for key, default in _OF_PRESET.items())
    if not isinstance(preset, str) or preset not in presets.NAMES:
        _bad(name, "preset", 0, f"no preset {str(preset)[:40]!r}; there are {', '.join(presets.NAMES)}")
    if not isinstance(cmdline, str) or not isinstance(hypervisor, str):
        _bad(name, "hypervisor" if isinstance(cmdline, str) else "cmdline", 0, "must be a string")
    given = values.get("possible_cpus", values.get("online_cpus", 2))
    cpus = _integer(given, name, "possible_cpus", 0, "possible_cpus")
    base = to_dict(presets.machine(preset, cpus=cpus, hypervisor=hypervisor, cmdline=cmdline))
    told = {key: source for key, source in _texts(base["told_by"], name, "told_by").items() if key not in values}
    return {**base, "told_by": told, **{key: value for key, value in values.items() if key != "preset"}}


def to_dict(machine: Machine) -> dict[str, object]:
    """The document of a machine; what is not known is left out."""
    out: dict[str, object] = {
        "schema": SCHEMA,
        "vendor": machine.vendor,
        "family": machine.family,
        "model": machine.model,
        "stepping": machine.stepping,
        "model_name": machine.model_name,
        "flags": None if machine.flags is None else sorted(machine.flags),
        "bugs": None if machine.bugs is None else sorted(machine.bugs),
        "siblings": machine.siblings,
        "cores": machine.cores,
        "online_cpus": machine.online_cpus,
        "possible_cpus": machine.possible_cpus.value,
        "cmdline": machine.cmdline,
        "hypervisor": machine.hypervisor.value,
        "told_by": {
            key: found.source
            for key, found in (("hypervisor", machine.hypervisor), ("possible_cpus", machine.possible_cpus))
            if found.value is not None
        }
        or None,
        "clocksource": machine.clocksource,
        "kernel": machine.kernel,
        "vulnerabilities": machine.vulnerabilities or None,
        "cpuid": {
            f"{leaf:#x}" if not sub else f"{leaf:#x}/{sub}": {r: f"{v:#x}" for r, v in registers.items()}
            for (leaf, sub), registers in sorted(machine.cpuid.items())
        }
        or None,
        "dmesg": machine.dmesg or None,
        "state": machine.state.to_dict() if machine.state is not None else None,
    }
    return {key: value for key, value in out.items() if value is not None}


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
                _bad(name, path, number, "part given twice" if path else f"{MARK.strip()} without a path")
            current = parts[path] = []
            starts[path] = number
        elif current is not None:
            current.append(line)
        elif line.strip():
            _bad(name, "", number, f"text before the first {MARK.strip()} line")
    if not parts:
        _bad(name, "", 0, f"no {MARK.strip()} line: not a bundle of facts")
    return {path: "\n".join(lines) for path, lines in parts.items()}, starts


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
            _bad(name, "/proc/cpuinfo", number, f"line without a colon: {line.strip()[:60]!r}")
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
                _bad(name, "cpuid", number, f"not a leaf: {line.strip()[:60]!r}")
            continue
        key, colon, rest = line.partition(":")
        pairs = dict(pair.partition("=")[::2] for pair in rest.split())
        if not colon or len(key.split()) not in (1, 2) or set(pairs) != set(_REGISTERS):
            _bad(name, "cpuid", number, f"not a leaf: {line.strip()[:60]!r}")
        ids = [_integer(n, name, "cpuid", number, "leaf") for n in key.split()]
        registers = {r: _integer(pairs[r], name, "cpuid", number, r) for r in _REGISTERS}
        leaves.setdefault((ids[0], ids[1] if len(ids) == 2 else 0), registers)
    return leaves


def _leaves(value: object, name: str) -> dict[tuple[int, int], dict[str, int]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        _bad(name, "cpuid", 0, 'must be a table: leaf ("0x40000001" or "0xd/1") → registers')
    leaves = {}
    for key, registers in value.items():
        if not isinstance(registers, Mapping) or not set(registers) <= set(_REGISTERS):
            _bad(name, f"cpuid.{key}", 0, f"must be a table of {', '.join(_REGISTERS)}")
        leaf, _, sub = str(key).partition("/")
        ids = (_integer(leaf, name, "cpuid", 0, "leaf"), _integer(sub or "0", name, "cpuid", 0, "subleaf"))
        leaves[ids] = {r: _integer(registers.get(r, 0), name, f"cpuid.{key}", 0, r) for r in _REGISTERS}
    return leaves


def _texts(value: object, name: str, key: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        _bad(name, key, 0, "must be a table of strings")
    return {str(k): str(v) for k, v in value.items()}


def _integer(value: object, name: str, part: str, line: int, what: str) -> int:
    """A number of 32 bits, as such or written in decimal or hexadecimal."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and len(value) <= 12:
        try:
            number = int(value, 0)
        except ValueError:
            number = None
    if number is None or not 0 <= number < 1 << 32:
        _bad(name, part, line, f"{what} is no 32-bit number: {str(value)[:40]!r}")
    return number


def _bad(name: str, part: str, line: int, reason: str) -> NoReturn:
    where = ", ".join(x for x in (part and f"part {part}", line and f"line {line}") if x)
    raise MachineError(
        f"{name}: {where}: {reason}" if where else f"{name}: {reason}", reason=reason, file=name, section=part or None
    )
