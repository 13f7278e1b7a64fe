"""Where static calls go after boot, for those that a boot changes: one rule a group."""

from __future__ import annotations

import re

from pvops.decide import apic
from pvops.decide.answers import Facts
from pvops.decide.guest import clock_reader, guest_code_runs
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES
from pvops.decide.preempt import preempt_mode
from pvops.image import uses
from pvops.image.updates import preemption, updates
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.decide.prediction import FeatureWords
    from pvops.image.kernel_image import KernelImage

PREFIX = "__SCK__"
TRAMPOLINE = "__SCT__"

#: The instructions of an idle function, ``sti; hlt`` and ``monitor``, which stand in its first bytes.
_IDLES = {"default_idle": b"\xfb\xf4", "mwait_idle": b"\x0f\x01\xc8"}
_IDLE_BYTES = 64
#: What select_idle_routine() says.
_MWAITS = "using mwait in idle threads"

#: In the order in which ``__sched_dynamic_update()`` turns them on.
_PREEMPT_ORDER = (
    "cond_resched",
    "might_resched",
    "preempt_schedule",
    "preempt_schedule_notrace",
    "irqentry_exit_cond_resched",
)
_NULL_PREEMPT = ("preempt_schedule", "preempt_schedule_notrace", "irqentry_exit_cond_resched")


#: What chooses among the codes of a hash, the first that the CPU can run: lib/crypto/x86, arch/x86/lib/crypto (6.16).
_VECTORS = (("ni", ("sha_ni",)), ("avx2", ("avx", "avx2", "bmi2")), ("avx", ("avx",)), ("ssse3", ("ssse3",)))
#: Their instructions: sha256rnds2 and sha1rnds4; rorx; vpshufb; pshufb.
_VECTOR_SIGNS = (
    ("ni", rb"\x0f\x38\xcb|\x0f\x3a\xcc"),
    ("avx2", rb"\xc4[\x03-\xe3][\x7b\xfb]\xf0"),
    ("avx", rb"\xc4[\x02-\xe2].\x00"),
    ("ssse3", rb"\x66[\x40-\x4f]?\x0f\x38\x00"),
)
#: What arch/x86/kernel/fpu says of the registers that it saves.
_AVX, _FXSAVE = "'AVX registers'", "x87 FPU will use FXSAVE"
_CALLS = rb"\xe8(?=(....))"
#: Bytes of a function that brackets such code, and as far as the code's first rounds go.
_WRAPPER, _VECTOR_BYTES = 112, 640


class CallTarget(NamedTuple):
    """Where a static call goes.

    Attributes:
        symbol: the function; None for NULL; ``__static_call_return0`` where the call is replaced by zero.
        source: where it is known from.
        early: it goes there before the initcalls.
        address: of the function, where that and not its name is known; 0 for NULL.
    """

    symbol: str | None
    source: str
    early: bool = False
    address: int | None = None


def calls(words: FeatureWords, kernel: KernelImage) -> dict[str, CallTarget]:
    """Static call (without ``__SCK__``) → where it goes, for those that a boot changes."""
    facts = words.facts
    found: dict[str, CallTarget] = {}
    apic_calls = {
        f"apic_call_{field}": CallTarget(None, source, address=address)
        for field, address, source in apic.targets(facts, kernel)
    }
    for part in (_preempt(facts, kernel), _guests(words, kernel), apic_calls, _idle(facts, kernel), _crypto(facts)):
        found |= part
    found |= _locks(words)
    # Not every kernel has all of them.
    return {name: target for name, target in found.items() if _has(kernel, name)}


def unnamed(words: FeatureWords, kernel: KernelImage) -> dict[int, CallTarget]:
    """The same by the addresses of key and trampoline, for those that the image does not name: the code that sets them
    says which they are."""
    facts = words.facts
    found = {at: CallTarget(None, source, address=address) for at, address, source in apic.unnamed(facts, kernel)}
    found |= _preempt_unnamed(facts, kernel)
    found |= _crypto_unnamed(facts, kernel)
    wanted = _idle(facts, kernel)["x86_idle"]
    code = _IDLES.get(wanted.symbol or "")
    if code is None:
        return found
    for update in updates(kernel):
        bodies = {function: kernel.image.read(function, _IDLE_BYTES) or b"" for function in update.functions}
        # default_idle() is `sti; hlt`, mwait_idle() has `monitor`, and no other function of theirs has either. Where it
        # halts through an op (22cc5ca5de52, 6.15), it is the one beside mwait_idle().
        waits = [function for function, body in bodies.items() if _IDLES["mwait_idle"] in body]
        beside = len(bodies) == 2 and len(waits) == 1 and wanted.symbol == "default_idle"
        for function, body in bodies.items():
            if code in body or (beside and function not in waits):
                target = CallTarget(None, wanted.source, address=function)
                found |= {at: target for at in (update.key, update.trampoline) if at is not None and at not in found}
    return found


def _has(kernel: KernelImage, name: str) -> bool:
    return any(kernel.address_of(prefix + name) is not None for prefix in (PREFIX, TRAMPOLINE))


def _preempt(facts: Facts, kernel: KernelImage) -> dict[str, CallTarget]:
    """kernel/sched/core.c: __sched_dynamic_update(), by preempt_dynamic_init(), 5.12 and later."""
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


def _preempt_unnamed(facts: Facts, kernel: KernelImage) -> dict[int, CallTarget]:
    """What `_preempt` says, by the addresses of keys and trampolines."""
    mode, source = preempt_mode(facts)
    if mode is None:
        return {}
    known = kernel.keep(uses.calls)
    keys = {address: key for _, address, _, _, _, _, key, _ in kernel.tables.rows("trampolines")}

    def built(trampoline: int) -> int | None:
        call = known.get(trampoline) or known.get(keys.get(trampoline) or 0)
        return call.built if call is not None else None

    found: dict[int, CallTarget] = {}
    for name, update in zip(_PREEMPT_ORDER, preemption(kernel, built), strict=False):
        if name in _NULL_PREEMPT:
            goes = 0 if mode in ("none", "voluntary") else update.functions[0]
        else:
            on = mode == "voluntary" or (mode == "none" and name == "cond_resched")
            goes = update.functions[0] if on else built(update.trampoline) or 0
        target = CallTarget(None, source, early=True, address=goes)
        found |= {at: target for at in (update.key, update.trampoline) if at is not None}
    return found


def _guests(words: FeatureWords, kernel: KernelImage) -> dict[str, CallTarget]:
    """arch/x86: xen/enlighten_pv.c: xen_start_kernel(); xen/enlighten.c: xen_hypercall_setfunc(); kernel/kvm.c:
    kvm_guest_init(); and whom `clock_reader` names."""
    facts = words.facts
    name, source = facts.machine.hypervisor
    found: dict[str, CallTarget] = {}
    if not guest_code_runs(facts).best:
        return {}
    reader, why = clock_reader(facts)
    if reader is not None:
        found["pv_sched_clock"] = CallTarget(reader, why)
    if name == "xen-pv":
        found["xen_hypercall"] = CallTarget("xen_hypercall_pv", source)
        found["pv_steal_clock"] = CallTarget("xen_steal_clock", source)
    elif name == "xen-hvm":
        kind = "amd" if facts.amd else "intel"
        found["xen_hypercall"] = CallTarget(f"xen_hypercall_{kind}", f"{source}; {facts.cpu}")
        if reader is not None:
            found["pv_steal_clock"] = CallTarget("xen_steal_clock", why)
    elif name == "kvm":
        steal = RULES["paravirt_steal_enabled"].rule(KeyQuery(facts, words))
        if steal is not None and steal.value:
            found["pv_steal_clock"] = CallTarget("kvm_steal_clock", steal.source)
    elif name == "vmware" and "vmware: vmware-stealtime: cpu" in facts.machine.dmesg:
        found["pv_steal_clock"] = CallTarget("vmware_steal_clock", 'log: "vmware: vmware-stealtime: cpu"')
    return {call: target for call, target in found.items() if kernel.address_of(target.symbol or "") is not None}


def _idle(facts: Facts, kernel: KernelImage) -> dict[str, CallTarget]:
    """select_idle_routine(), arch/x86/kernel/process.c. Up to 6.8 AMD's erratum 400 has a function of its own."""
    idle = facts.last("idle", ("poll", "halt", "nomwait"))
    if idle == "poll":
        return {"x86_idle": CallTarget(None, "select_idle_routine(): idle=poll on the command line")}
    # prefer_mwait_c1_over_halt() of 6.0 and later: with an option nothing but HLT is left.
    if idle == "halt" or (idle == "nomwait" and facts.version >= (6, 0)):
        return {"x86_idle": CallTarget("default_idle", f"select_idle_routine(): idle={idle} on the command line")}
    # Leaf 5 of CPUID, which says whether MWAIT can do what HLT does, is seldom told; the log says what was chosen.
    chosen = facts.logged(_MWAITS)
    if chosen:
        return {"x86_idle": CallTarget("mwait_idle", f'log: "{_MWAITS}"')}
    if facts.bug("amd_e400") and kernel.address_of("amd_e400_idle") is not None:
        return {"x86_idle": CallTarget("amd_e400_idle", "select_idle_routine(): the CPU has AMD's erratum 400")}
    if chosen is None and facts.has("monitor") and not facts.virtual and facts.bug("monitor") is False:
        why = "select_idle_routine(): monitor in /proc/cpuinfo's flags, no guest"
        return {"x86_idle": CallTarget("mwait_idle", why)}
    return {"x86_idle": CallTarget("default_idle", "select_idle_routine(): no MWAIT wanted")}


def _crypto(facts: Facts) -> dict[str, CallTarget]:
    """lib/crypto/x86/{sha1,sha256,sha512,sm3}.h: the *_mod_init_arch() functions, 6.17 and later; aesni-intel_glue.c:
    aesni_init(), 5.12 to 6.9."""
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
    if facts.has("aes") and facts.has("avx"):
        found["aesni_ctr_enc_tfm"] = CallTarget("aesni_ctr_enc_avx_tfm", "the CPU has aes, avx")
    if facts.has("avx") and facts.has("bmi2"):
        found["sm3_blocks_x86"] = CallTarget("sm3_blocks_avx", "the CPU has avx, bmi2")
    return found


def _crypto_unnamed(facts: Facts, kernel: KernelImage) -> dict[int, CallTarget]:
    """What `_crypto` says of hashes: by the instructions of the functions that init code chooses from."""
    told = _vector_flags(facts)
    if told is None:
        return {}
    there, source = told
    found: dict[int, CallTarget] = {}
    for update in updates(kernel):
        kinds = {
            kind: function for function in update.functions if (kind := _vector_code(kernel, function)) is not None
        }
        for kind, flags in _VECTORS if len(kinds) > 1 else ():
            if kind in kinds and there.issuperset(flags):
                target = CallTarget(None, f"{source}the CPU has {', '.join(flags)}", address=kinds[kind])
                found |= {at: target for at in (update.key, update.trampoline) if at is not None}
                break
    return found


def _vector_flags(facts: Facts) -> tuple[frozenset[str], str] | None:
    """The flags that codes of hashes ask for, and words before what is said of them; None where nothing tells.

    A kernel that prints no flags says what its FPU saves: AVX's registers, then AVX2 is assumed, which nearly all that
    have AVX have, but not SHA-NI; or by FXSAVE, then it has none, and SSSE3 as every one since 2006.
    """
    if facts.machine.flags is not None:
        return facts.machine.flags, ""
    if facts.logged(_AVX):
        return frozenset({"ssse3", "avx", "avx2", "bmi1", "bmi2"}), f'assumed, by "{_AVX}" in the log: '
    if facts.logged(_FXSAVE):
        return frozenset({"ssse3"}), f'assumed, by "{_FXSAVE}" in the log: '
    return None


def _vector_code(kernel: KernelImage, function: int) -> str | None:
    """Which instructions the code of a hash is made of; None for other code. The function may be what calls that code
    between kernel_fpu_begin() and kernel_fpu_end()."""
    code = kernel.image.read(function, _WRAPPER) or b""
    places = [
        function + call.end() + 4 + int.from_bytes(call[1], "little", signed=True)
        for call in re.finditer(_CALLS, code, re.DOTALL)
    ]
    bodies = [kernel.image.read(place, _VECTOR_BYTES) or b"" for place in (function, *places) if place >= 0]
    return next(
        (kind for kind, sign in _VECTOR_SIGNS if any(re.search(sign, body, re.DOTALL) for body in bodies)), None
    )


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
