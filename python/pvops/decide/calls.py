"""Where static calls go after boot, for those that leave what they are built with: one rule a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pvops.decide.answers import Facts
from pvops.decide.key_asks import Asked

if TYPE_CHECKING:
    from pvops.decide.prediction import FeatureWords
    from pvops.kernel import Kernel

PREFIX = "__SCK__"
TRAMPOLINE = "__SCT__"

_NULL_PREEMPT = ("preempt_schedule", "preempt_schedule_notrace", "irqentry_exit_cond_resched")
_APICS = (
    "apic_physflat",
    "apic_flat",
    "apic_x2apic_cluster",
    "apic_x2apic_phys",
    "apic_x2apic_uv_x",
    "apic_numachip1",
    "apic_numachip2",
    "apic_noop",
    "xen_pv_apic",
    "x2apic_savic",
)
_ROUTING = "Switched APIC routing to"


class Goes(NamedTuple):
    """Where a static call goes.

    Attributes:
        symbol: the function; None for NULL; ``__static_call_return0`` where the call is replaced by zero.
        source: what told.
        early: it goes there before the initcalls.
    """

    symbol: str | None
    source: str
    early: bool = False


def preempt_mode(facts: Facts) -> tuple[str | None, str]:
    """The mode of dynamic preemption: none, voluntary, full or lazy; None where the kernel has none or nothing tells.

    kernel/sched/core.c preempt_dynamic_init(), setup_preempt_mode().
    """
    line = facts.machine.logged("Dynamic Preempt: ")
    if line:
        return line.partition(": ")[2].strip(), f'log: "{line.strip()}"'
    if facts.logged("Dynamic Preempt: ") is False:
        return None, 'log: no "Dynamic Preempt"'
    given = facts.option("preempt")
    if given in ("none", "voluntary", "full", "lazy"):
        return given, f"preempt={given} on the command line"
    return ("lazy" if facts.version >= (6, 18) else "voluntary"), "assumed: the default of Debian's kernels"


def calls(words: FeatureWords, kernel: Kernel) -> dict[str, Goes]:
    """Static call (without ``__SCK__``) → where it goes, for those that a boot changes."""
    facts = words.facts
    found: dict[str, Goes] = {}
    for part in (_preempt(facts, kernel), _guests(words, kernel), _apic(facts, kernel), _crypto(facts), _locks(words)):
        found |= part
    # Not every kernel has all of them.
    return {name: goes for name, goes in found.items() if _has(kernel, name)}


def _has(kernel: Kernel, name: str) -> bool:
    return any(kernel.address_of(prefix + name) is not None for prefix in (PREFIX, TRAMPOLINE))


def _preempt(facts: Facts, kernel: Kernel) -> dict[str, Goes]:
    """__sched_dynamic_update(), which preempt_dynamic_init() calls from sched_init()."""
    mode, source = preempt_mode(facts)
    if mode is None or not _has(kernel, "preempt_schedule"):
        return {}
    resched = Goes("__cond_resched", source, early=True)
    zero = Goes("__static_call_return0", source, early=True)
    if mode in ("none", "voluntary"):
        return {
            "cond_resched": resched,
            "might_resched": resched if mode == "voluntary" else zero,
            **{name: Goes(None, source, early=True) for name in _NULL_PREEMPT},
        }
    return {"cond_resched": zero, "might_resched": zero}


def _guests(words: FeatureWords, kernel: Kernel) -> dict[str, Goes]:
    """xen_start_kernel(), xen_hypercall_setfunc(), kvm_guest_init(), kvm_sched_clock_init(), vmware_cyc2ns_setup()."""
    from pvops.decide.key_rules import RULES

    facts = words.facts
    name, source = facts.machine.hypervisor
    found: dict[str, Goes] = {}
    if name == "xen-pv":
        found = {
            "xen_hypercall": Goes("xen_hypercall_pv", source),
            "pv_sched_clock": Goes("xen_sched_clock", source),
            "pv_steal_clock": Goes("xen_steal_clock", source),
        }
    elif name == "xen-hvm":
        kind = "amd" if facts.amd else "intel"
        found = {
            "xen_hypercall": Goes(f"xen_hypercall_{kind}", f"{source}; {facts.cpu}"),
            "pv_sched_clock": Goes("xen_sched_clock", source),
            "pv_steal_clock": Goes("xen_steal_clock", source),
        }
    elif name == "kvm":
        steal = RULES["paravirt_steal_enabled"].rule(Asked(facts, words, 0, ()))
        if steal is not None and steal.value:
            found["pv_steal_clock"] = Goes("kvm_steal_clock", steal.source)
        if "kvm-clock: using sched offset of" in facts.machine.dmesg:
            found["pv_sched_clock"] = Goes("kvm_sched_clock_read", 'log: "kvm-clock: using sched offset of"')
    elif name == "vmware":
        if "vmware: using clock offset of" in facts.machine.dmesg:
            found["pv_sched_clock"] = Goes("vmware_sched_clock", 'log: "vmware: using clock offset of"')
        if "vmware: vmware-stealtime: cpu" in facts.machine.dmesg:
            found["pv_steal_clock"] = Goes("vmware_steal_clock", 'log: "vmware: vmware-stealtime: cpu"')
    elif name == "hyperv" and facts.machine.feature("hyperv", "REFERENCE_TSC_AVAILABLE").value:
        found["pv_sched_clock"] = Goes("read_hv_sched_clock_tsc", "HV_MSR_REFERENCE_TSC_AVAILABLE")
    return {call: goes for call, goes in found.items() if kernel.address_of(goes.symbol or "") is not None}


def _apic(facts: Facts, kernel: Kernel) -> dict[str, Goes]:
    """apic_setup_apic_calls(): each call goes where the APIC driver's structure points."""
    members = dict(kernel.image.btf_members("apic") or [])
    driver, source = _driver(facts, kernel, members)
    if driver is None:
        return {}
    at = {}
    for field, offset in members.items():
        word = kernel.read_word(driver + offset)
        at[field] = kernel.symbol_at(word) if word else None
    if "native_eoi" in at:
        at["native_eoi"] = at["native_eoi"] or at["eoi"]
    found = {f"apic_call_{field}": Goes(symbol, source) for field, symbol in at.items()}
    for line in facts.machine.dmesg.splitlines():
        field, replaced, symbol = line.rpartition("APIC: ")[2].partition("() replaced with ")
        if replaced:
            found[f"apic_call_{field}"] = Goes(symbol.strip().removesuffix("()"), f'log: "{line.rpartition("] ")[2]}"')
    found["x86_idle"] = Goes("default_idle", "arch/x86/kernel/process.c: select_idle_routine(): no MWAIT wanted")
    if facts.has("monitor") and not facts.virtual and facts.bug("monitor") is False:
        found["x86_idle"] = Goes("mwait_idle", "select_idle_routine(): monitor in /proc/cpuinfo's flags, no guest")
    return found


def _driver(facts: Facts, kernel: Kernel, members: dict[str, int]) -> tuple[int | None, str]:
    """The APIC driver: the last one that the log says was switched to, else the one that ``apic`` is built with."""
    lines = [line for line in facts.machine.dmesg.splitlines() if _ROUTING in line]
    if lines and "name" in members:
        wanted = lines[-1].partition(_ROUTING)[2].strip(" :.")
        for symbol in _APICS:
            address = kernel.address_of(symbol)
            text = kernel.read_word(address + members["name"]) if address is not None else None
            raw = kernel.image.read(text, 32) if text else None
            if raw is not None and raw.partition(b"\0")[0].decode("ascii", "replace") == wanted:
                return address, f'log: "{_ROUTING}: {wanted}"; {symbol} in the image'
    pointer = kernel.address_of("apic")
    if pointer is None or not members:
        return None, "no struct apic in the image"
    driver = kernel.read_word(pointer)
    place = kernel.image.symbol_at(driver) if driver else None
    return driver, f"apic points to {place[0] if place else 'no symbol'} in the image"


def _crypto(facts: Facts) -> dict[str, Goes]:
    """lib/crypto/x86/{sha1,sha256,sha512,sm3}.h: the *_mod_init_arch() functions, 6.17 and later."""
    if facts.machine.flags is None:
        return {}
    wide = ("avx2", "bmi2")
    choices = {
        "sha1": ("sha1_blocks_", (("ni", ("sha_ni",)), ("avx2", ("avx", *wide, "bmi1")), ("avx", ("avx",)))),
        "sha256": ("sha256_blocks_", (("ni", ("sha_ni",)), ("avx2", ("avx", *wide)), ("avx", ("avx",)))),
        "sha512": ("sha512_blocks_", (("avx2", ("avx", *wide)), ("avx", ("avx",)))),
    }
    found = {}
    for name, (prefix, steps) in choices.items():
        for suffix, flags in (*steps, ("ssse3", ("ssse3",))):
            if all(facts.has(flag) for flag in flags):
                found[f"{name}_blocks_x86"] = Goes(prefix + suffix, f"the CPU has {', '.join(flags)}")
                break
    if facts.has("avx") and facts.has("bmi2"):
        found["sm3_blocks_x86"] = Goes("sm3_blocks_avx", "the CPU has avx, bmi2")
    return found


def _locks(words: FeatureWords) -> dict[str, Goes]:
    """pv spin locks where they are static calls (7.3): what the backend's init code puts there."""
    from pvops.decide.rules_guests import pvunlock

    answer = pvunlock(words.facts)
    if not answer.value:
        return {}
    slow = Goes("__pv_queued_spin_lock_slowpath", answer.source)
    unlock = Goes("__raw_callee_save___pv_queued_spin_unlock", answer.source)
    return {
        f"{prefix}{name}": goes
        for prefix in ("", "pv_", "pv_lock_")
        for name, goes in (("queued_spin_lock_slowpath", slow), ("queued_spin_unlock", unlock))
    }
