"""What rules are made of: the facts they ask, and the answers they give."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import cached_property

from pvops.image.built import Built
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView
    from pvops.machine.machine import Machine


class Answer(NamedTuple):
    """What a rule says of one feature.

    Attributes:
        value: True, False, or None where the facts do not tell.
        source: the sentence that says why.
        guess: what to assume where the value is None.
    """

    value: bool | None
    source: str
    guess: bool = False

    @property
    def best(self) -> bool:
        """The value, or the guess."""
        return self.guess if self.value is None else self.value


#: A rule: a function of the facts.
Rule = Callable[["Facts"], Answer]

_VENDORS = {
    "GenuineIntel": "intel",
    "AuthenticAMD": "amd",
    "HygonGenuine": "hygon",
    "CentaurHauls": "centaur",
    "  Shanghai  ": "zhaoxin",
    "Shanghai": "zhaoxin",
    "GenuineTMx86": "transmeta",
    "CyrixInstead": "cyrix",
    "Geode by NSC": "nsc",
}


def unknown_vendor(machine: Machine, built: Built | None) -> bool:
    """Whether the kernel is built without code for the CPU's vendor (CONFIG_PROCESSOR_SELECT), by its log or image.

    get_cpu_vendor(), arch/x86/kernel/cpu/common.c: init_intel(), init_amd() and the like do not run.
    """
    if "unknown, using generic init" in machine.dmesg:
        return True
    return bool(machine.vendor and built is not None and built.vendors and machine.vendor.strip() not in built.vendors)


class Facts:
    """A machine under one kernel, as rules ask about it.

    Args:
        machine: the machine.
        version: of the kernel that patches itself: (6, 12).
        bits: of the kernel.
        built: what that kernel is built to do; None where there is none to ask.
    """

    def __init__(self, machine: Machine, version: tuple[int, int], bits: int, built: Built | None = None) -> None:
        self.machine = machine
        self.version = version
        self.bits = bits
        self.built = built

    @property
    def mitigates(self) -> bool | None:
        """Whether the kernel is built to mitigate what its CPU is vulnerable to; None where nothing says so."""
        told = self.built.mitigates if self.built is not None else None
        return True if told is None and self.version < (6, 9) else told

    def without(self, *functions: str) -> bool:
        """Whether the kernel is built without all of these functions."""
        return self.built is not None and self.built.without(*functions)

    @cached_property
    def vendor(self) -> str | None:
        """``intel``, ``amd``, ``hygon``, ``centaur``, ``zhaoxin`` …; None where the machine does not say."""
        name = self.machine.vendor
        if unknown_vendor(self.machine, self.built):
            return "unknown"
        return None if name is None else _VENDORS.get(name, _VENDORS.get(name.strip(), "unknown"))

    @property
    def cpu(self) -> str:
        """The CPU in words: "amd family 0x17 model 0x31"."""
        family, model = self.machine.family, self.machine.model
        parts = [self.vendor or "vendor not known"]
        parts += [] if family is None else [f"family {family:#x}"]
        parts += [] if model is None else [f"model {model:#x}"]
        return " ".join(parts)

    @property
    def amd(self) -> bool:
        """Whether it is an AMD or Hygon CPU."""
        return self.vendor in ("amd", "hygon")

    @property
    def family(self) -> int:
        """The family; 0 where the machine does not say."""
        return self.machine.family or 0

    @property
    def model(self) -> int:
        """The model; 0 where the machine does not say."""
        return self.machine.model or 0

    def flag(self, name: str) -> bool | None:
        """Whether /proc/cpuinfo's flags have a name; None where there are none."""
        return None if self.machine.flags is None else name in self.machine.flags

    def has(self, name: str) -> bool:
        """Whether a flag is known to be there."""
        return bool(self.flag(name))

    def bug(self, name: str) -> bool | None:
        """Whether /proc/cpuinfo's bugs have a name; None where there are none."""
        return None if self.machine.bugs is None else name in self.machine.bugs

    def state(self, vulnerability: str) -> str | None:
        """The text of a file in …/cpu/vulnerabilities; None where there is none."""
        return self.machine.vulnerabilities.get(vulnerability)

    def option(self, name: str) -> str | None:
        """The last value of an option on the kernel's command line."""
        return self.machine.option(name)

    def last(self, name: str, known: Container[str]) -> str | None:
        """The last value of an option that the kernel knows: parsers leave things as they are at one they do not."""
        return next((value for value in reversed(self.machine.values(name)) if value in known), None)

    def given(self, *names: str) -> str | None:
        """The first of these options that is on the command line, or None."""
        return next((name for name in names if self.machine.has_option(name)), None)

    @property
    def virtual(self) -> bool | None:
        """Whether the CPU shows X86_FEATURE_HYPERVISOR."""
        return self.flag("hypervisor")

    @cached_property
    def xen_pv(self) -> Answer:
        """Whether the kernel runs as a Xen PV guest."""
        hypervisor, source = self.machine.hypervisor
        if hypervisor is None and self.has("pge"):
            return Answer(False, "pge in /proc/cpuinfo's flags, which Xen shows no PV guest")
        if hypervisor in (None, "xen-pv") and self.built is not None and self.built.xen_pv is False:
            return Answer(False, "the kernel is built without xen_start_kernel()")
        return Answer(None if hypervisor is None else hypervisor == "xen-pv", source)

    def logged(self, text: str) -> bool | None:
        """Whether the log has a text; None where it lacks it and is not whole."""
        if text in self.machine.dmesg:
            return True
        return False if self.machine.log_is_whole else None


def facts_of(machine: Machine, kernel: KernelView) -> Facts:
    """The facts of a machine under the kernel that patches itself; of 6.1 where neither tells a version."""
    version = kernel.sources or machine.release or (6, 1)
    return Facts(machine, (version[0], version[1]), kernel.bits, Built(kernel))
