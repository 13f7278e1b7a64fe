"""What a hypervisor tells a guest: words of feature bits in its CPUID leaves, and what the kernel's log says of them.

A `Finding` is a value and where it came from; it unpacks as the pair it is. Values that nothing gives are ``None``.

Sources: 6.1 arch/x86/include/uapi/asm/kvm_para.h, include/asm-generic/hyperv-tlfs.h and
arch/x86/include/asm/hyperv-tlfs.h for the bits; arch/x86/kernel/kvm.c, kvmclock.c (5.10 and 6.1) and
arch/x86/kernel/cpu/mshyperv.c for the lines of the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pvops.errors import OpsError
from pvops.machine.given import Registers
from pvops.tuples import NamedTuple
from pvops.types_only import Generic, Protocol, TypeVar

T = TypeVar("T")


class Finding(NamedTuple, Generic[T]):
    """A derived value and its source, in words (``"cpuid leaf 0x40000001"``, ``"log: smpboot: Allowing 2 CPUs"``)."""

    value: T
    source: str


class Guest(Protocol):
    """What is asked here of a machine; `Machine` says what each means."""

    @property
    def cpuid(self) -> Mapping[tuple[int, int], Registers]: ...
    @property
    def dmesg(self) -> str: ...
    @property
    def log_is_whole(self) -> bool: ...
    @property
    def hypervisor(self) -> Finding[str | None]: ...
    @property
    def release(self) -> tuple[int, int] | None: ...


class Word(NamedTuple):
    """One 32-bit word of hypervisor features.

    Attributes:
        hypervisor: whose it is, as `Machine.hypervisor` names it.
        signature: the 12 bytes in ebx, ecx, edx of the hypervisor's base leaf.
        leaf: offset of the word's leaf from the base leaf.
        register: the register that holds it.
        prefix: what the kernel's names of the bits begin with.
        bits: bit numbers by the kernel's name without that prefix.
        scan: the base may be any multiple of 0x100 from 0x40000000 (``hypervisor_cpuid_base``), not just the first.
    """

    hypervisor: str
    signature: bytes
    leaf: int
    register: str
    prefix: str
    bits: Mapping[str, int]
    scan: bool = True


_KVM = b"KVMKVMKVM\0\0\0"
_HYPERV = b"Microsoft Hv"
_SIGNATURES = {_KVM: "kvm", _HYPERV: "hyperv", b"VMwareVMware": "vmware", b"XenVMMXenVMM": "xen-hvm"}

WORDS: Mapping[str, Word] = {
    "kvm": Word(
        "kvm",
        _KVM,
        1,
        "eax",
        "KVM_FEATURE_",
        {
            "CLOCKSOURCE": 0,
            "NOP_IO_DELAY": 1,
            "MMU_OP": 2,
            "CLOCKSOURCE2": 3,
            "ASYNC_PF": 4,
            "STEAL_TIME": 5,
            "PV_EOI": 6,
            "PV_UNHALT": 7,
            "PV_TLB_FLUSH": 9,
            "ASYNC_PF_VMEXIT": 10,
            "PV_SEND_IPI": 11,
            "POLL_CONTROL": 12,
            "PV_SCHED_YIELD": 13,
            "ASYNC_PF_INT": 14,
            "MSI_EXT_DEST_ID": 15,
            "HC_MAP_GPA_RANGE": 16,
            "MIGRATION_CONTROL": 17,
            "CLOCKSOURCE_STABLE_BIT": 24,
        },
    ),
    "kvm-hints": Word("kvm", _KVM, 1, "edx", "KVM_HINTS_", {"REALTIME": 0}),
    "hyperv": Word(
        "hyperv",
        _HYPERV,
        3,
        "eax",
        "HV_MSR_",
        {"TIME_REF_COUNT_AVAILABLE": 1, "REFERENCE_TSC_AVAILABLE": 9, "GUEST_IDLE_AVAILABLE": 10},
        False,
    ),
    "hyperv-hints": Word(
        "hyperv",
        _HYPERV,
        4,
        "eax",
        "HV_X64_",
        {"REMOTE_TLB_FLUSH_RECOMMENDED": 2, "CLUSTER_IPI_RECOMMENDED": 10, "EX_PROCESSOR_MASKS_RECOMMENDED": 11},
        False,
    ),
}

# What a line of the log proves: word, bit, text, value.
_SAID = (
    ("kvm", "PV_UNHALT", "kvm-guest: PV spinlocks enabled", True),
    ("kvm", "PV_UNHALT", "kvm-guest: PV spinlocks disabled, no host support", False),
    ("kvm", "PV_TLB_FLUSH", "KVM setup pv remote TLB flush", True),
    ("kvm", "PV_SCHED_YIELD", "kvm-guest: setup PV sched yield", True),
    ("kvm", "PV_SEND_IPI", "kvm-guest: setup PV IPIs", True),
    ("kvm", "STEAL_TIME", "kvm-guest: stealtime: cpu", True),
    ("kvm", "STEAL_TIME", "kvm-stealtime: cpu", True),
    ("kvm", "STEAL_TIME", "KVM setup pv remote TLB flush", True),
    ("kvm", "CLOCKSOURCE2", "kvm-clock: Using msrs 4b564d01", True),
    ("kvm", "CLOCKSOURCE", "kvm-clock: Using msrs 11 and", True),
    ("kvm-hints", "REALTIME", "kvm-guest: PV spinlocks disabled with KVM_HINTS_REALTIME", True),
    ("kvm-hints", "REALTIME", "kvm-guest: PV spinlocks enabled", False),
    ("kvm-hints", "REALTIME", "kvm-guest: PV spinlocks disabled, no host support", False),
    ("kvm-hints", "REALTIME", "KVM setup pv remote TLB flush", False),
)

# What a whole log proves by not having a line: word, bit, text, first and last kernel that always print it. Each of
# these bits is only ever one of several conditions of what the line reports, so that "not set" has the effect seen.
_UNSAID = (
    ("kvm", "PV_UNHALT", "kvm-guest: PV spinlocks enabled", (5, 11), None),
    ("kvm", "PV_TLB_FLUSH", "KVM setup pv remote TLB flush", (4, 16), None),
    ("kvm", "CLOCKSOURCE2", "kvm-clock: Using msrs 4b564d01", (0, 0), None),
    ("kvm", "CLOCKSOURCE", "kvm-clock: Using msrs 11 and", (0, 0), None),
    ("kvm", "STEAL_TIME", "stealtime: cpu", (0, 0), (5, 10)),
)


def word(machine: Guest, name: str) -> Finding[int | None]:
    """The word ``name`` ("kvm", "kvm-hints", "hyperv", "hyperv-hints") as the guest saw it.

    From the CPUID leaf; where that is absent, or the log shows that the kernel saw another one, from the log. From
    KVM's log only the bits it speaks of are known: use `bit` for one bit. `OpsError` for a word without a name here.
    """
    spec = _spec(name)
    leaf = base_leaf(machine, spec)
    if leaf is not None and not _contradicted(machine, name, spec, leaf):
        return Finding(machine.cpuid[leaf, 0][spec.register], f"cpuid leaf {leaf:#x}")
    if spec.hypervisor == "hyperv":
        return _hyperv_log(machine, name)
    known = {bit: _log(machine, name, bit) for bit in spec.bits}
    known_bits = {bit: found for bit, found in known.items() if found.value is not None}
    if not known_bits:
        return Finding(None, f"no {spec.hypervisor} cpuid leaf, and nothing in the log")
    value = sum(1 << spec.bits[bit] for bit, found in known_bits.items() if found.value)
    return Finding(value, f"log, {', '.join(known_bits)} only")


def bit(machine: Guest, name: str, bit: str) -> Finding[bool | None]:
    """Whether one bit of a word is set: ``bit(machine, "kvm", "PV_UNHALT")``; `OpsError` for an unknown bit."""
    spec = _spec(name)
    if bit not in spec.bits:
        raise OpsError(f"no bit {bit} in the {name} feature word (it has {', '.join(spec.bits)})")
    number = spec.bits[bit]
    leaf = base_leaf(machine, spec)
    if leaf is not None and not _contradicted(machine, name, spec, leaf):
        value = machine.cpuid[leaf, 0][spec.register]
        return Finding(bool(value >> number & 1), f"cpuid leaf {leaf:#x} {spec.register} bit {number}")
    if spec.hypervisor == "hyperv":
        whole = _hyperv_log(machine, name)
        return Finding(None if whole.value is None else bool(whole.value >> number & 1), whole.source)
    return _log(machine, name, bit)


def base_leaf(machine: Guest, spec: Word) -> int | None:
    """The leaf of a word on this machine, or None where its hypervisor's signature or the leaf is not there."""
    for base, signature in _bases(machine):
        if signature == spec.signature and (spec.scan or base == 0x40000000):
            return base + spec.leaf if (base + spec.leaf, 0) in machine.cpuid else None
    return None


def signed(machine: Guest) -> Finding[str | None]:
    """The hypervisor by its signature; of several the one with the highest base leaf, which is what
    ``detect_hypervisor_vendor`` prefers (KVM may show Hyper-V's leaves before its own)."""
    for base, signature in reversed(list(_bases(machine))):
        if signature in _SIGNATURES:
            return Finding(_SIGNATURES[signature], f"signature in cpuid leaf {base:#x}")
    return Finding(None, "no hypervisor's signature in a cpuid leaf")


def _bases(machine: Guest) -> Iterator[tuple[int, bytes]]:
    bases = range(0x40000000, 0x40010000, 0x100)
    for base in sorted(leaf for leaf, subleaf in machine.cpuid if subleaf == 0 and leaf in bases):
        registers = machine.cpuid[base, 0]
        yield base, b"".join(registers[r].to_bytes(4, "little") for r in ("ebx", "ecx", "edx"))


def _spec(name: str) -> Word:
    if name not in WORDS:
        raise OpsError(f"no feature word {name} (known: {', '.join(WORDS)})")
    return WORDS[name]


def _contradicted(machine: Guest, name: str, spec: Word, leaf: int) -> bool:
    """Whether the log proves that the kernel saw another word than the leaf holds (the guest moved, say)."""
    value = machine.cpuid[leaf, 0][spec.register]
    return any(
        text in machine.dmesg and bool(value >> spec.bits[b] & 1) != said for w, b, text, said in _SAID if w == name
    )


def _log(machine: Guest, name: str, bit: str) -> Finding[bool | None]:
    for w, b, text, said in _SAID:
        if (w, b) == (name, bit) and text in machine.dmesg:
            return Finding(said, f'log: "{text}"')
    spec = WORDS[name]
    # A kernel without CONFIG_PARAVIRT does not look, and says no line.
    if machine.log_is_whole and " kernel on " in machine.dmesg and machine.hypervisor.value == spec.hypervisor:
        release = machine.release or (99,)
        for w, b, text, first, last in _UNSAID:
            asked = (w, b) == (name, bit) and first <= release and (last is None or release <= last)
            if asked and text not in machine.dmesg:
                return Finding(False, f'log: no "{text}"')
    return Finding(None, f"no {spec.hypervisor} cpuid leaf, and nothing in the log")


def _hyperv_log(machine: Guest, name: str) -> Finding[int | None]:
    """Hyper-V guests print the words themselves: ``features`` up to 5.11, ``privilege flags low`` after."""
    import re

    line = re.search(
        r"Hyper-V: (?:features|privilege flags low) 0x([0-9a-f]{1,8}),.*?hints 0x([0-9a-f]{1,8})", machine.dmesg
    )
    if line is None:
        return Finding(None, "no hyperv cpuid leaf, and nothing in the log")
    return Finding(int(line.group(2 if name == "hyperv-hints" else 1), 16), f'log: "{line.group(0)}"')


#: Clock sources that only guests of one hypervisor register.
_CLOCKS = {
    "kvm-clock": "kvm",
    "hyperv_clocksource_tsc_page": "hyperv",
    "hyperv_clocksource_msr": "hyperv",
}


def by_clock(clocksource: str | None, flags: frozenset[str] | None) -> Finding[str | None]:
    """The hypervisor whose clock a guest uses.

    Xen's is that of PV guests and of others. Xen 4.17 shows PV guests no global pages: their flags lack ``pge``, which
    every other x86 CPU of this century has.
    """
    source = f"the clock source is {clocksource}"
    if clocksource == "xen":
        if flags is None:
            return Finding(None, f"{source}, and nothing tells whether the guest is PV")
        return Finding("xen-hvm" if "pge" in flags else "xen-pv", source)
    return Finding(_CLOCKS.get(clocksource or ""), source)
