"""What a description of a machine says: the arguments of `Machine`, as its readers give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pvops.errors import nearest, wanted
from pvops.machine.reading import bad
from pvops.machine.state import State
from pvops.types_only import TypedDict

#: Registers of one CPUID leaf by name: eax, ebx, ecx, edx.
Registers = Mapping[str, int]

#: The largest description read, in bytes.
LIMIT = 16 << 20

#: What the kernel's log calls a hypervisor → how a `Machine` names it.
DETECTED = {
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
#: Hypervisors by the names of a `Machine`, with those of guests that detect none.
HYPERVISORS = (*dict.fromkeys(DETECTED.values()), "lguest", "vmi")
#: What `verify` saves of a guest of an image that names no function: whose guest it is cannot be told.
UNTOLD = "guest"


class Given(TypedDict, total=False):
    """Arguments of `Machine`, which says what each means."""

    name: str
    vendor: str | None
    family: int | None
    model: int | None
    stepping: int | None
    siblings: int | None
    cores: int | None
    model_name: str | None
    flags: Iterable[str] | None
    bugs: Iterable[str] | None
    online_cpus: int | None
    possible_cpus: int | None
    cmdline: str | None
    features: Mapping[str, bool] | None
    vulnerabilities: Mapping[str, str] | None
    hypervisor: str | None
    clocksource: str | None
    cpuid: Mapping[tuple[int, int], Registers] | None
    kernel: str | None
    dmesg: str
    parts: Mapping[str, str] | None
    told_by: Mapping[str, str] | None
    state: State | None
    given_hypervisor: str | None
    given_possible_cpus: int | None


def hypervisor_named(word: str, name: str = "machine") -> str:
    """A hypervisor as a `Machine` names it, by that name or by the one in the kernel's log; case does not matter.

    Others are taken as they are: the kernel runs below many that have no ops of their own.

    Raises:
        MachineError: the word is empty, or nearly one that is known; the error names the file, by its name.
    """
    wanted(word, str, "a hypervisor's name")
    known = {name: name for name in (*HYPERVISORS, UNTOLD)} | DETECTED
    by_case = {one.casefold(): hypervisor for one, hypervisor in known.items()}
    found = by_case.get(word.casefold())
    if not word:
        bad(name, "hypervisor", 0, "is empty; on bare hardware it is none")
    if found is None and (near := nearest(word, HYPERVISORS)):
        bad(name, "hypervisor", 0, f"no hypervisor {word[:40]!r}{near}")
    return word if found is None else found


def flags_under(flags: Iterable[str], hypervisor: str) -> frozenset[str]:
    """A CPU's flags under a hypervisor: guests show ``hypervisor``; Xen PV guests isolate no page tables (``pti``)."""
    bare = frozenset(flags) - {"hypervisor"}
    under = bare if hypervisor == "none" else bare | {"hypervisor"}
    return under - {"pti"} if hypervisor == "xen-pv" else under
