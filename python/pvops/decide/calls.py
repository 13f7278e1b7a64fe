"""Where static calls go after boot, for those that leave what they are built with: one rule a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pvops.decide.answers import Facts
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES
from pvops.decide.preempt import preempt_mode

if TYPE_CHECKING:
    from pvops.decide.prediction import FeatureWords
    from pvops.image.kernel_image import KernelImage

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


class CallTarget(NamedTuple):
    """Where a static call target.

    Attributes:
        symbol: the function; None for NULL; ``__static_call_return0`` where the call is replaced by zero.
        source: what told.
        early: it goes there before the initcalls.
    """

    symbol: str | None
    source: str
    early: bool = False


def calls(words: FeatureWords, kernel: KernelImage) -> dict[str, CallTarget]:
    """Static call (without ``__SCK__``) → where it goes, for those that a boot changes."""
    facts = words.facts
    found: dict[str, CallTarget] = {}
    for part in (_preempt(facts, kernel), _guests(words, kernel), _apic(facts, kernel), _crypto(facts), _locks(words)):
        found |= part
    # Not every kernel has all of them.
    return {name: target for name, target in found.items() if _has(kernel, name)}


def _has(kernel: KernelImage, name: str) -> bool:
    return any(kernel.address_of(prefix + name) is not None for prefix in (PREFIX, TRAMPOLINE))


def _preempt(facts: Facts, kernel: KernelImage) -> dict[str, CallTarget]:
    """__sched_dynamic_update(), which preempt_dynamic_init() calls from sched_init()."""
    mode, source = preempt_mode(facts)
    if mode is None or not _has(kernel, "preempt_schedule"):
        return {}
    resched = CallTarget("__cond_resched", source, early=True)
    zero = CallTarget("__static_call_return0", source, early=True)
    if mode in ("none", "voluntary"):
        return {
            "cond_resched": resched,
            "might_resched": resched if mode == "voluntary" else zero,
            **{name: CallTarget(None, source, early=True) for name in _NULL_PREEMPT},
        }
    return {"cond_resched": zero, "might_resched": zero}


def _guests(words: FeatureWords, kernel: KernelImage) -> dict[str, CallTarget]:
    """xen_start_kernel(), xen_hypercall_setfunc(), kvm_guest_init(), kvm_sched_clock_init(), vmware_cyc2ns_setup()."""
    facts = words.facts
    name, source = facts.machine.hypervisor
    found: dict[str, CallTarget] = {}
    if name == "xen-pv":
        found = {
            "xen_hypercall": CallTarget("xen_hypercall_pv", source),
            "pv_sched_clock": CallTarget("xen_sched_clock", source),
            "pv_steal_clock": CallTarget("xen_steal_clock", source),
        }
    elif name == "xen-hvm":
        kind = "amd" if facts.amd else "intel"
        found = {
            "xen_hypercall": CallTarget(f"xen_hypercall_{kind}", f"{source}; {facts.cpu}"),
            "pv_sched_clock": CallTarget("xen_sched_clock", source),
            "pv_steal_clock": CallTarget("xen_steal_clock", source),
        }
    elif name == "kvm":
        steal = RULES["paravirt_steal_enabled"].rule(KeyQuery(facts, words, 0, ()))
        if steal is not None and steal.value:
            found["pv_steal_clock"] = CallTarget("kvm_steal_clock", steal.source)
        if "kvm-clock: using sched offset of" in facts.machine.dmesg:
            found["pv_sched_clock"] = CallTarget("kvm_sched_clock_read", 'log: "kvm-clock: using sched offset of"')
    elif name == "vmware":
        if "vmware: using clock offset of" in facts.machine.dmesg:
            found["pv_sched_clock"] = CallTarget("vmware_sched_clock", 'log: "vmware: using clock offset of"')
        if "vmware: vmware-stealtime: cpu" in facts.machine.dmesg:
            found["pv_steal_clock"] = CallTarget("vmware_steal_clock", 'log: "vmware: vmware-stealtime: cpu"')
    elif name == "hyperv" and facts.machine.feature("hyperv", "REFERENCE_TSC_AVAILABLE").value:
        found["pv_sched_clock"] = CallTarget("read_hv_sched_clock_tsc", "HV_MSR_REFERENCE_TSC_AVAILABLE")
    return {call: target for call, target in found.items() if kernel.address_of(target.symbol or "") is not None}


def _apic(facts: Facts, kernel: KernelImage) -> dict[str, CallTarget]:
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
    found = {f"apic_call_{field}": CallTarget(symbol, source) for field, symbol in at.items()}
    for line in facts.machine.dmesg.splitlines():
        field, replaced, symbol = line.rpartition("APIC: ")[2].partition("() replaced with ")
        if replaced:
            found[f"apic_call_{field}"] = CallTarget(
                symbol.strip().removesuffix("()"), f'log: "{line.rpartition("] ")[2]}"'
            )
    found["x86_idle"] = CallTarget("default_idle", "arch/x86/kernel/process.c: select_idle_routine(): no MWAIT wanted")
    if facts.has("monitor") and not facts.virtual and facts.bug("monitor") is False:
        found["x86_idle"] = CallTarget(
            "mwait_idle", "select_idle_routine(): monitor in /proc/cpuinfo's flags, no guest"
        )
    return found


def _driver(facts: Facts, kernel: KernelImage, members: dict[str, int]) -> tuple[int | None, str]:
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


def _crypto(facts: Facts) -> dict[str, CallTarget]:
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
                found[f"{name}_blocks_x86"] = CallTarget(prefix + suffix, f"the CPU has {', '.join(flags)}")
                break
    if facts.has("avx") and facts.has("bmi2"):
        found["sm3_blocks_x86"] = CallTarget("sm3_blocks_avx", "the CPU has avx, bmi2")
    return found


def _locks(words: FeatureWords) -> dict[str, CallTarget]:
    """pv spin locks where they are static calls (7.3): what the backend's init code puts there."""
    from pvops.decide.rules_guests import pvunlock

    answer = pvunlock(words.facts)
    if not answer.value:
        return {}
    slow = CallTarget("__pv_queued_spin_lock_slowpath", answer.source)
    unlock = CallTarget("__raw_callee_save___pv_queued_spin_unlock", answer.source)
    return {
        f"{prefix}{name}": target
        for prefix in ("", "pv_", "pv_lock_")
        for name, target in (("queued_spin_lock_slowpath", slow), ("queued_spin_unlock", unlock))
    }
