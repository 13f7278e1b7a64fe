"""`Machine`: what decides the ops and the nops on one guest.

A machine comes from a bundle of facts collected on it (``==FILE /proc/cpuinfo`` and so on), from JSON or TOML written
by hand, from a preset (`pvops.machine.presets`), or is made in Python. What is not known is ``None``, and whoever needs
it assumes a documented default and says so; what is derived says where it came from (`Finding`).

The kernel's rules for the command line: 6.1 lib/cmdline.c ``next_arg``, kernel/params.c ``parameq``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from pvops.errors import InputError, MachineError
from pvops.machine import hypervisor as _hypervisor
from pvops.machine.hypervisor import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.state import State

#: Registers of one CPUID leaf by name: eax, ebx, ecx, edx.
Registers = Mapping[str, int]

#: The largest description read, in bytes.
LIMIT = 16 << 20

_DETECTED = {
    "KVM": "kvm",
    "Xen": "xen-pv",
    "Xen PV": "xen-pv",
    "Xen HVM": "xen-hvm",
    "Xen PVH": "xen-hvm",
    "VMware": "vmware",
    "VMware hypervisor": "vmware",
    "Microsoft Hyper-V": "hyperv",
    "Hyper-V": "hyperv",
    "Jailhouse": "jailhouse",
    "ACRN": "acrn",
    "Bhyve": "bhyve",
    "bare hardware": "none",
}
_BACKENDS = {"none": "native", "xen-pv": "xen"}


class Machine:
    """One machine, as its kernel saw it.

    Args:
        name: where the description came from, for messages.
        vendor, family, model, stepping, model_name: of the boot CPU, as /proc/cpuinfo has them.
        flags: names of CPU features; None if not known. ``monitor`` is X86_FEATURE_MWAIT.
        bugs: names of CPU bugs; None if not known.
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
        told_by: what told `hypervisor` and `possible_cpus` where they are given, in words.
        state: what one kernel itself held on it, where that is known; nothing it says is derived then.
    """

    def __init__(
        self,
        *,
        name: str = "machine",
        vendor: str | None = None,
        family: int | None = None,
        model: int | None = None,
        stepping: int | None = None,
        siblings: int | None = None,
        cores: int | None = None,
        model_name: str | None = None,
        flags: Iterable[str] | None = None,
        bugs: Iterable[str] | None = None,
        online_cpus: int | None = None,
        possible_cpus: int | None = None,
        cmdline: str | None = None,
        vulnerabilities: Mapping[str, str] | None = None,
        hypervisor: str | None = None,
        clocksource: str | None = None,
        cpuid: Mapping[tuple[int, int], Registers] | None = None,
        kernel: str | None = None,
        dmesg: str = "",
        parts: Mapping[str, str] | None = None,
        told_by: Mapping[str, str] | None = None,
        state: State | None = None,
    ) -> None:
        self.name = name
        self.vendor = vendor
        self.family = family
        self.model = model
        self.stepping = stepping
        self.siblings = siblings
        self.cores = cores
        self.model_name = model_name
        self.flags = None if flags is None else frozenset(flags)
        self.bugs = None if bugs is None else frozenset(bugs)
        self.online_cpus = online_cpus
        self.given_possible_cpus = possible_cpus
        self.cmdline = cmdline
        self.vulnerabilities = dict(vulnerabilities or {})
        self.given_hypervisor = hypervisor
        self.clocksource = clocksource
        self.cpuid = dict(cpuid or {})
        self.kernel = kernel
        self.dmesg = dmesg
        self.parts = dict(parts or {})
        self.told_by = dict(told_by or {})
        self.state = state

    def __repr__(self) -> str:
        return f"<Machine {self.name}: {self.hypervisor.value}, {self.possible_cpus.value} possible CPUs>"

    @classmethod
    def from_facts(cls, source: str | os.PathLike[str]) -> Machine:
        """A machine from a bundle of facts: its path, or the text itself (which begins with ``==FILE``)."""
        from pvops.machine import facts

        if isinstance(source, str) and source.lstrip().startswith(facts.MARK):
            return facts.machine(source, "facts")
        return facts.machine(_read(source), os.fspath(source))

    def under(self, hypervisor: str) -> Machine:
        """The same machine, but under this hypervisor, whatever its facts say.

        Its flags follow: a guest's CPU shows ``hypervisor``, and Xen PV guests isolate no page tables (``pti``).
        """
        other = object.__new__(type(self))
        derived = {name for name, value in vars(type(self)).items() if isinstance(value, cached_property)}
        other.__dict__.update({name: value for name, value in self.__dict__.items() if name not in derived})
        other.given_hypervisor = hypervisor
        if self.flags is not None:
            bare = self.flags - {"hypervisor"}
            other.flags = bare if hypervisor == "none" else bare | {"hypervisor"}
            if hypervisor == "xen-pv":
                other.flags -= {"pti"}
        other.told_by = {key: source for key, source in self.told_by.items() if key != "hypervisor"}
        return other

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Machine:
        """A machine from a file: a bundle of facts, JSON or TOML, told apart by how the text begins.

        The name of a preset (`pvops.machine.presets.NAMES`) gives that, unless there is a file of this name.
        """
        from pvops.machine import facts, presets

        if path in presets.NAMES and not os.path.exists(path):
            return presets.machine(os.fspath(path))
        text, name = _read(path), os.fspath(path)
        if text.lstrip().startswith(facts.MARK):
            return facts.machine(text, name)
        return facts.from_dict(facts.document(text, name), name)

    @classmethod
    def from_dict(cls, document: Mapping[str, object], *, name: str = "machine") -> Machine:
        """A machine from what `to_dict` gives, or the same written by hand; `MachineError` names a bad key."""
        from pvops.machine import facts

        return facts.from_dict(document, name)

    def to_dict(self) -> dict[str, object]:
        """The machine as one JSON document, schema ``pvops.machine/1``; `from_dict` makes it again."""
        from pvops.machine import facts

        return facts.to_dict(self)

    # -- the command line

    @cached_property
    def options(self) -> tuple[tuple[str, str | None], ...]:
        """The kernel's own options in order, up to ``--``: (name, value or None), as ``next_arg`` cuts them."""
        return tuple(_options(self.cmdline or ""))

    def has_option(self, name: str) -> bool:
        """Whether an option is given, with or without a value; ``-`` and ``_`` are the same in names (parameq)."""
        name = name.replace("-", "_")
        return any(given.replace("-", "_") == name for given, _ in self.options)

    def option(self, name: str) -> str | None:
        """The last value given to an option, or None."""
        name = name.replace("-", "_")
        return next((v for given, v in reversed(self.options) if given.replace("-", "_") == name), None)

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
                if found in _DETECTED:
                    return Finding(_DETECTED[found], f'log: "{line.strip()}"')
        if (signed := _hypervisor.signed(self)).value is not None:
            return signed
        if self.flags is not None and "hypervisor" not in self.flags:
            return Finding("none", "no hypervisor flag in /proc/cpuinfo")
        return Finding(None, "nothing tells the hypervisor")

    @property
    def backend(self) -> Finding[str | None]:
        """The backend that fits the hypervisor, by its command line name ("native" on bare hardware)."""
        value, source = self.hypervisor
        return Finding(None if value is None else _BACKENDS.get(value, value), source)

    @cached_property
    def possible_cpus(self) -> Finding[int | None]:
        """``num_possible_cpus()``."""
        import re

        if self.given_possible_cpus is not None:
            return Finding(self.given_possible_cpus, self.told_by.get("possible_cpus", "given"))
        path = "/sys/devices/system/cpu/possible"
        ranges = self.parts.get(path, "").strip()
        if re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", ranges):
            ends = [[int(n) for n in part.split("-")] for part in ranges.split(",")]
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
        import re

        text = self.kernel or self.logged("Linux version ") or ""
        found = re.search(r"Linux version (\d{1,3})\.(\d{1,3})", text)
        return (int(found.group(1)), int(found.group(2))) if found else None

    @property
    def log_is_whole(self) -> bool:
        """Whether the log goes back to the start of the boot with its informational lines: then what is not there
        was not said (debug lines excepted)."""
        return " kernel on " in self.dmesg and "Booting " in self.dmesg

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


def _options(cmdline: str) -> Iterator[tuple[str, str | None]]:
    args = cmdline.lstrip()
    while args:
        quoted = args[0] == '"'
        if quoted:
            args = args[1:]
        in_quote, equals, end = quoted, 0, len(args)
        for i, c in enumerate(args):
            if c.isspace() and not in_quote:
                end = i
                break
            if c == "=" and not equals:
                equals = i
            if c == '"':
                in_quote = not in_quote
        word, args = args[:end], args[end + 1 :].lstrip()
        name, value = (word[:equals], word[equals + 1 :]) if equals else (word, None)
        if value is not None and value.startswith('"'):
            value = value[1:].removesuffix('"')
        elif quoted:
            name, value = (name, value.removesuffix('"')) if value is not None else (name.removesuffix('"'), None)
        if name == "--" and value is None:
            return
        yield name, value


def _read(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(LIMIT + 1)
    except OSError as error:
        raise InputError(f"{name}: cannot read: {error.strerror}", file=name) from error
    if len(raw) > LIMIT:
        raise MachineError(f"{name}: larger than {LIMIT >> 20} MiB, no description of a machine", file=name)
    return raw.decode("utf-8", "replace")
