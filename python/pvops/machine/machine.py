"""`Machine`: what decides the ops and the nops on one guest.

A machine comes from a bundle of facts collected on it (``==FILE /proc/cpuinfo`` and so on), from JSON or TOML written
by hand, from a preset (`pvops.machine.presets`), or is made in Python. What is not known is ``None``, and whoever needs
it assumes a documented default and says so; what is derived says where it came from (`Finding`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property

from pvops.errors import InputError, MachineError, nearest, wanted
from pvops.machine import cmdline as _cmdline
from pvops.machine import cpus, documents, facts
from pvops.machine import hypervisor as _hypervisor
from pvops.machine.checked import checked
from pvops.machine.frozen import Frozen
from pvops.machine.given import DETECTED, LIMIT, Given, Registers, flags_under, hypervisor_named
from pvops.machine.hypervisor import Finding
from pvops.machine.reading import bad
from pvops.machine.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Unpack

__all__ = ["LIMIT", "Machine", "Registers"]

_BACKENDS = {"none": "native", "xen-pv": "xen"}


class Machine(Frozen):
    """One machine, as its kernel saw it.

    >>> guest = pvops.Machine.load("guest.json")  # or a bundle of facts, TOML, the name of a preset
    >>> guest
    <Machine guest.json: hypervisor kvm, unknown number of possible CPUs>
    >>> guest.possible_cpus
    Finding(value=None, source='nothing tells the number of possible CPUs')
    >>> pvops.open("vmlinux-sample").plan(machine=guest)
    <Plan of 6.1.0-pvops-sample under kvm on guest.json: 107 writes>

    Args:
        name: where the description came from, for messages.
        vendor, family, model, stepping, model_name: of the boot CPU, as /proc/cpuinfo has them.
        flags: names of CPU features, or one string of them; None if not known. ``monitor`` is X86_FEATURE_MWAIT.
        bugs: names of CPU bugs; None if not known.
        features: what the kernel's words of features hold whatever else is said, by the kernel's names ("RETPOLINE",
            "BUG_ITS"): for what no fact shows.
        siblings, cores: CPUs and cores of one package, as /proc/cpuinfo has them: more CPUs than cores is SMT.
        online_cpus, possible_cpus: numbers of CPUs.
        cmdline: the kernel's command line; None if not known.
        vulnerabilities: file name below /sys/devices/system/cpu/vulnerabilities → text.
        hypervisor: "none", "kvm", "xen-pv", "xen-hvm", "vmware", "hyperv" …; derived where not given.
        clocksource: the current one.
        cpuid: (leaf, subleaf) → registers, the hypervisor's leaves at least.
        kernel: /proc/version.
        dmesg: the kernel's log.
        parts: the raw parts of the bundle, by path.
        told_by: the source of `hypervisor` and `possible_cpus` where they are given, in words.
        state: what one kernel itself held on it, where that is known; nothing it says is derived then.
        given_hypervisor, given_possible_cpus: `hypervisor` and `possible_cpus` as given. These are the fields, for
            `dataclasses.replace`; the attributes without ``given_`` are what is derived.

    Raises:
        TypeError: an argument is unknown, or of another type than it has.
        MachineError: a number is none of 32 bits, or a hypervisor's name is misspelt.
    """

    _uncompared = frozenset({"name"})

    name: str
    vendor: str | None
    family: int | None
    model: int | None
    stepping: int | None
    siblings: int | None
    cores: int | None
    model_name: str | None
    flags: frozenset[str] | None
    bugs: frozenset[str] | None
    online_cpus: int | None
    cmdline: str | None
    features: Mapping[str, bool]
    vulnerabilities: Mapping[str, str]
    clocksource: str | None
    cpuid: Mapping[tuple[int, int], Registers]
    kernel: str | None
    dmesg: str
    parts: Mapping[str, str]
    told_by: Mapping[str, str]
    state: State | None
    given_hypervisor: str | None
    given_possible_cpus: int | None

    def __init__(self, **given: Unpack[Given]) -> None:
        if unknown := given.keys() - Given.__annotations__.keys():
            raise TypeError(f"Machine() got an unexpected argument {min(unknown)!r}")
        values: dict[str, Any] = {"name": "machine", "dmesg": "", **given}
        name = values["name"]
        for field in self._kinds():
            value = values.get(field)
            if value is None and field.startswith("given_"):
                value = values.get(field.removeprefix("given_"))
            value = checked(field.removeprefix("given_"), value, name)
            if field == "given_hypervisor" and isinstance(value, str):
                value = hypervisor_named(value, name)
            self._set(field, value)

    def __hash__(self) -> int:
        return hash((self.vendor, self.family, self.model, self.flags, self.cmdline, self.given_hypervisor))

    def __repr__(self) -> str:
        on, cpus = (found.value for found in (self.hypervisor, self.possible_cpus))
        return f"<Machine {self.name}: hypervisor {on or 'unknown'}, {cpus or 'unknown number of'} possible CPUs>"

    @classmethod
    def from_facts(cls, source: str | os.PathLike[str]) -> Machine:
        """A machine from a bundle of facts: its path, or the text itself (which begins with ``==FILE``)."""
        if isinstance(source, str) and source.lstrip().startswith(facts.MARK):
            return cls(**facts.given(source, "facts"))
        return cls(**facts.given(_read(source), os.fspath(source)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Machine:
        """A machine from a file: a bundle of facts, JSON or TOML, told apart by how the text begins.

        The name of a preset (`pvops.machine.presets.NAMES`) gives that, unless there is a file of this name.
        """
        if isinstance(path, bytes):
            raise TypeError("a machine's file is named by a str or a path; Machine.parse takes what is in it")
        if path in cpus.NAMES and not os.path.exists(path):
            return cls(**cpus.given(os.fspath(path)))
        name = os.fspath(path)
        if not os.path.exists(path) and os.path.basename(name) == name:
            hint = nearest(name, cpus.NAMES)
            why = f"no such file, and no preset{hint or ': there are ' + ', '.join(cpus.NAMES)}"
            raise InputError(f"{name}: {why}", reason=why, file=name)
        return cls.parse(_read(path), name=name)

    @classmethod
    def parse(cls, text: str | bytes, *, name: str = "machine") -> Machine:
        """A machine from the text of such a file; the name is for error messages."""
        wanted(text, str | bytes, "the text of a machine's file")
        text = (_decoded(text, name) if isinstance(text, bytes) else text).removeprefix("\ufeff")
        if facts.are_in(text):
            return cls(**facts.given(text, name))
        if not text.strip():
            bad(name, "", 0, "is empty: no bundle of facts, no JSON, no TOML")
        return cls.from_dict(documents.document(text, name), name=name)

    @classmethod
    def usual(cls, release: str | None, hypervisor: str = "none") -> Machine:
        """A machine with a CPU that was usual in servers when a kernel of this release came out: a preset.

        Guests of hypervisors do not see MWAIT (``monitor``), which would stop them from telling that a CPU is idle.
        """
        if release is not None:
            wanted(release, str, "a kernel's release")
        bare = cls(**cpus.given(cpus.usual(release)))
        if hypervisor == "none":
            return bare
        guest = bare.under(hypervisor)
        return guest._replace(flags=(guest.flags or frozenset()) - {"monitor"})

    @classmethod
    def from_dict(cls, document: Mapping[str, object], *, name: str = "machine") -> Machine:
        """A machine from what `to_dict` gives, or the same written by hand; `MachineError` names a bad key."""
        return cls(**documents.given(document, name))

    def to_dict(self) -> dict[str, object]:
        """The machine as one JSON document, schema ``pvops.machine/1``; `from_dict` makes it again."""
        out: dict[str, object] = {
            "schema": documents.SCHEMA,
            "vendor": self.vendor,
            "family": self.family,
            "model": self.model,
            "stepping": self.stepping,
            "model_name": self.model_name,
            "flags": None if self.flags is None else sorted(self.flags),
            "bugs": None if self.bugs is None else sorted(self.bugs),
            "features": dict(self.features) or None,
            "siblings": self.siblings,
            "cores": self.cores,
            "online_cpus": self.online_cpus,
            "possible_cpus": self.possible_cpus.value,
            "cmdline": self.cmdline,
            "hypervisor": self.hypervisor.value,
            "told_by": {
                key: found.source
                for key, found in (("hypervisor", self.hypervisor), ("possible_cpus", self.possible_cpus))
                if found.value is not None
            }
            or None,
            "clocksource": self.clocksource,
            "kernel": self.kernel,
            "vulnerabilities": self.vulnerabilities or None,
            "cpuid": {
                f"{leaf:#x}" if not sub else f"{leaf:#x}/{sub}": {r: f"{v:#x}" for r, v in registers.items()}
                for (leaf, sub), registers in sorted(self.cpuid.items())
            }
            or None,
            "dmesg": self.dmesg or None,
            "state": self.state.to_dict() if self.state is not None else None,
        }
        return {key: value for key, value in out.items() if value is not None}

    def under(self, hypervisor: str) -> Machine:
        """The same machine, but under this hypervisor, whatever its facts say.

        Its flags follow: a guest's CPU shows ``hypervisor``, and Xen PV guests isolate no page tables (``pti``).
        """
        hypervisor = hypervisor_named(hypervisor, self.name)
        return self._replace(
            given_hypervisor=hypervisor,
            flags=None if self.flags is None else flags_under(self.flags, hypervisor),
            told_by={**self.told_by, "hypervisor": f"under {hypervisor}"},
        )

    # -- the command line

    @cached_property
    def options(self) -> tuple[_cmdline.Option, ...]:
        """The kernel's own options in order, up to ``--``: (name, value or None)."""
        return tuple(_cmdline.options(self.cmdline or ""))

    def has_option(self, name: str) -> bool:
        """Whether an option is given, with or without a value; ``-`` and ``_`` are the same in names."""
        return _cmdline.has(self.options, name)

    def option(self, name: str) -> str | None:
        """The last value given to an option, or None."""
        return _cmdline.value(self.options, name)

    def values(self, name: str) -> list[str]:
        """Every value given to an option, in order."""
        return _cmdline.values(self.options, name)

    def found_option(self, name: str) -> str | None:
        """The last value of an option that the kernel looks for before it parses any; "" where it has none."""
        return _cmdline.found(self.cmdline or "", name)

    # -- what is derived

    @cached_property
    def hypervisor(self) -> Finding[str | None]:
        """Which hypervisor the kernel detected; None if nothing tells."""
        if self.given_hypervisor is not None:
            return Finding(self.given_hypervisor, self.told_by.get("hypervisor", "given"))
        guest = self.parts.get("/sys/hypervisor/guest_type", "").strip()
        if guest in ("PV", "HVM", "PVH"):
            return Finding("xen-pv" if guest == "PV" else "xen-hvm", f"/sys/hypervisor/guest_type: {guest}")
        for text in ("Hypervisor detected: ", "Booting paravirtualized kernel on ", "Booting kernel on "):
            if line := self.logged(text):
                found = line[len(text) :].strip()
                if found in DETECTED:
                    return Finding(DETECTED[found], f'log: "{line.strip()}"')
        if (signed := _hypervisor.signed(self)).value is not None:
            return signed
        if self.flags is not None and "hypervisor" not in self.flags:
            return Finding("none", "no hypervisor flag in /proc/cpuinfo")
        if (timed := _hypervisor.by_clock(self.clocksource, self.flags)).value is not None:
            return timed
        if self.flags is not None:
            return Finding(None, "a hypervisor, by its flag in /proc/cpuinfo; nothing tells which")
        return Finding(None, "nothing tells the hypervisor")

    @property
    def backend(self) -> Finding[str | None]:
        """The backend that fits the hypervisor, by its command line name ("native" on bare hardware)."""
        value, source = self.hypervisor
        return Finding(None if value is None else _BACKENDS.get(value, value), source)

    @cached_property
    def possible_cpus(self) -> Finding[int | None]:
        """``num_possible_cpus()``."""
        if self.given_possible_cpus is not None:
            return Finding(self.given_possible_cpus, self.told_by.get("possible_cpus", "given"))
        path = "/sys/devices/system/cpu/possible"
        ranges = self.parts.get(path, "").strip()
        if re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", ranges):
            ends = [[int(n) for n in part.split("-")] for part in ranges.split(",")]
            if all(e[0] <= e[-1] for e in ends):
                return Finding(sum(e[-1] - e[0] + 1 for e in ends), path)
        if line := re.search(r"smpboot: Allowing (\d{1,6}) CPUs", self.dmesg):
            return Finding(int(line.group(1)), f'log: "{line.group(0)}"')
        if line := re.search(r"CPU topo: Allowing (\d{1,6}) present CPUs plus (\d{1,6}) hotplug CPUs", self.dmesg):
            return Finding(int(line.group(1)) + int(line.group(2)), f'log: "{line.group(0)}"')
        if line := re.search(r"setup_percpu: .*nr_cpu_ids:(\d{1,6})", self.dmesg):
            return Finding(int(line.group(1)), f'log: "nr_cpu_ids:{line.group(1)}"')
        if self.online_cpus is not None:
            return Finding(self.online_cpus, "online CPUs in /proc/cpuinfo")
        return Finding(None, "nothing tells the number of possible CPUs")

    @cached_property
    def release(self) -> tuple[int, int] | None:
        """Version of the kernel that the facts were collected under: (6, 1)."""
        text = self.kernel or self.logged("Linux version ") or ""
        found = re.search(r"Linux version (\d{1,3})\.(\d{1,3})", text)
        return (int(found.group(1)), int(found.group(2))) if found else None

    @property
    def log_is_whole(self) -> bool:
        """Whether the log goes back to the start of the boot with its informational lines: then what is not there
        was not said (debug lines excepted).

        Every kernel says its version, and what memory there is; what it boots on says one with CONFIG_PARAVIRT.
        """
        begins = "Linux version " in self.dmesg and "BIOS-provided physical RAM map" in self.dmesg
        return begins or (" kernel on " in self.dmesg and "Booting " in self.dmesg)

    def logged(self, text: str) -> str | None:
        """The rest of the first line of the log from ``text`` on, or None."""
        start = self.dmesg.find(text)
        return None if start < 0 else self.dmesg[start:].split("\n", 1)[0]

    def features_of(self, word: str) -> Finding[int | None]:
        """A hypervisor's feature word: ``features_of("kvm")`` is (0x2e2, "cpuid leaf 0x40000001")."""
        return _hypervisor.word(self, word)

    def feature(self, word: str, bit: str) -> Finding[bool | None]:
        """One bit of it: ``feature("kvm", "PV_UNHALT")``."""
        return _hypervisor.bit(self, word, bit)


def _read(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(LIMIT + 1)
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        why = f"cannot read: {getattr(error, 'strerror', None) or error}"
        raise InputError(f"{name}: {why}", reason=why, file=name) from error
    return _decoded(raw, name)


def _decoded(raw: bytes, name: str) -> str:
    if len(raw) > LIMIT:
        raise MachineError(f"{name}: larger than {LIMIT >> 20} MiB, no description of a machine", file=name)
    return raw.decode("utf-8-sig", "replace")
