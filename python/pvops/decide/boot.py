"""From a kernel, a backend and a machine to what the core's passes ask: names become numbers and addresses.

Where the machine does not tell, what is assumed says so: features carry their source, and static keys and static calls
are first guesses, whose bytes the plan marks undetermined.
"""

from __future__ import annotations

import re
from functools import partial

import pvops._core as _core
from pvops.decide import slots as slots_of
from pvops.errors import OpsError
from pvops.machine import cpus
from pvops.machine.state import SOME_FUNCTION
from pvops.tuples import NamedTuple
from pvops.types_only import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypedDict

    from pvops.backends.backend import Backend, Slot
    from pvops.decide.keys import CallState, KeyState
    from pvops.decide.prediction import FeatureWords
    from pvops.eras.nops import NopChoice
    from pvops.eras.patching import PatchFunction
    from pvops.eras.rules import Rules
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine
    from pvops.machine.state import State

    class _Calls(TypedDict):
        """What calls of ops become, as `_core.Boot` takes it."""

        nops: str
        template: list[_core.Slot] | None
        rules: _core.TemplateRules | None
        pointers: dict[int, int] | None


K = TypeVar("K")
V = TypeVar("V")

#: Why something is so where the kernel itself held it.
_SAVED = "the kernel held it"
_SAVED_SOME = "the kernel held some function, and its calls do not tell which"

#: The features whose numbers the passes ask for themselves: the core's name → the kernel's.
_PASS_FEATURES = {
    "retpoline": "RETPOLINE",
    "retpoline_lfence": "RETPOLINE_LFENCE",
    "rethunk": "RETHUNK",
    "its": "INDIRECT_THUNK_ITS",
    "call_depth": "CALL_DEPTH",
}


class Setup(NamedTuple):
    """What decided a boot.

    Attributes:
        core: all of it, as the core takes it.
        machine: the machine asked; a made-up one where none was given.
        slots: what each op holds under the backend, and why.
        patch_function: the patch function, where it is more than the default rules.
        nops: the nop table, and why.
        words: the features; None where the kernel has no alternatives.
        uniprocessor: whether lock prefixes are patched away, and why.
        keys: the guessed state of each static key, by address.
        calls: the guessed target of each static call, by address of its key.
        otherwise: the same, with what the machine does not tell taken the other way: features, what they and the
            number of CPUs have a backend put into ops, the nops and lock prefixes, what Xen writes; None where it
            tells all that is asked, or was not given.
    """

    core: _core.Boot
    machine: Machine
    slots: Mapping[str, Slot]
    patch_function: PatchFunction | None
    nops: NopChoice
    words: FeatureWords | None
    uniprocessor: tuple[bool, str]
    keys: Mapping[int, KeyState]
    calls: Mapping[int, CallState]
    otherwise: Callable[[], _core.Boot] | None


def set_up(kernel: KernelImage, backend: Backend, machine: Machine | None, rules: Rules) -> Setup:
    """Gathers what decides a boot.

    Raises:
        OpsError: the backend does not fit this kernel.
        TableError: a table of the image is malformed.
    """
    booted = _machine(kernel, backend, machine, rules)
    state = _state(kernel, booted)
    ops = _filled(kernel, backend, machine, rules, state)
    slots = ops.slots
    nop_choice = _nops(kernel, machine, rules)
    if state is not None:
        nop_choice = nop_choice._replace(table=state.nops, why=_SAVED)
    words: FeatureWords | None = None
    features: list[int] = []
    numbers: dict[str, int] = {}
    thunk: int | None = None
    keys: Mapping[int, KeyState] = {}
    calls: Mapping[int, CallState] = {}
    keys_changed: Mapping[int, bool] = {}
    calls_changed: Mapping[int, int] = {}
    early: set[int] = set()
    one_cpu = (False, "no .smp_locks")
    checks = hvm = None
    if kernel.has_section(".altinstructions"):
        from pvops.decide.guest import hvm_call, unlisted_otherwise
        from pvops.decide.keys import predict_calls, predict_keys
        from pvops.decide.prediction import predict
        from pvops.decide.returns import return_thunk, uniprocessor

        words = predict(booted, kernel)
        for name, kernels_name in _PASS_FEATURES.items():
            number = words.numbers.number(kernels_name)
            if number is not None:
                numbers[name] = number
        features = words.words(numbers.values())
        hvm = hvm_call(words.facts, backend.name)
        returns = return_thunk(words, kernel)
        thunk = returns.address
        answer = uniprocessor(booted, kernel)
        one_cpu = (answer.best, answer.source)
        keys = of_keys = predict_keys(words, kernel)
        calls = of_calls = predict_calls(words, kernel)
        keys_changed, calls_changed = of_keys.changed, of_calls.changed
        early = {key for key in calls_changed if calls[key].early}
        if kernel.has_section(".cfi_sites"):
            from pvops.decide.cfi import cfi

            checks = cfi(booted, words, kernel)
    if state is not None:
        features, thunk, one_cpu = list(state.features), state.return_thunk, (state.uniprocessor, _SAVED)
        checks = (*state.cfi, True) if state.cfi is not None else checks
        hvm = state.hvm_call
    counts_calls(kernel, features, numbers.get("call_depth"))
    boot = partial(
        _core.Boot,
        numbers=numbers,
        return_thunk=thunk,
        xen=backend.name == "xen" if state is None or state.xen is None else state.xen,
        hvm_call=hvm,
        keys=_known(keys_changed, state and state.keys),
        static_calls=_known(calls_changed, state and state.static_calls),
        early_calls=early if state is None else set(state.early_calls),
        constants=_known(_constants(booted, kernel), state and state.constants),
        its_pages=list(state.its_pages) if state is not None else [],
        cfi=checks,
        hid_bpf=state.hid_bpf if state is not None else None,
    )
    calls_of = partial(_calls_of, kernel, booted, rules)
    otherwise = None
    if machine is not None and state is None and words is not None:
        # A preset, or another backend than the machine's, is asked what a usual guest would hold.
        asked = booted is machine and machine.name not in cpus.NAMES
        some_guest = asked and backend.name == "native" and _guest_of_some(machine)
        open_ops = asked and (some_guest or any(slot.assumed for slot in slots.values()))
        other_nops = _other_nops(kernel, machine, rules, nop_choice.table)
        open_cpus = answer.value is None
        of_xen = unlisted_otherwise(words.facts, hvm, some_guest)
        if words.unknown() or open_ops or other_nops or open_cpus or of_xen:

            def otherwise() -> _core.Boot:
                other = ops
                if some_guest:
                    other = _under_others(kernel, machine, ops, rules)
                elif open_ops:
                    other = slots_of.filled(kernel, backend, machine, rules, otherwise=True)
                of_ops = calls_of(other, other_nops or nop_choice.table)
                taken = words.words(numbers.values(), otherwise=True)
                return boot(taken, uniprocessor=one_cpu[0] != open_cpus, **of_ops, **of_xen)

    of_ops = calls_of(ops, nop_choice.table)
    return Setup(
        boot(features, uniprocessor=one_cpu[0], **of_ops),
        booted,
        slots,
        ops.patch_function,
        nop_choice,
        words,
        one_cpu,
        keys,
        calls,
        otherwise,
    )


def counts_calls(kernel: KernelImage, features: list[int], number: int | None) -> None:
    """Refuses to count calls where the image names no function: callthunks.c skip_addr() passes over some by name.

    Raises:
        OpsError: it is so.
    """
    counts = number is not None and number // 32 < len(features) and features[number // 32] >> number % 32 & 1
    if counts and not kernel.image.symbol_count() and kernel.has_section(".call_sites"):
        raise counting_unknown(kernel, "the machine counts calls (CALL_DEPTH)")


def counting_unknown(kernel: KernelImage, what: str) -> OpsError:
    """The error about counted calls of an image that names no function."""
    why = f"{what}; which it passes over is not known, as the image names no function"
    return OpsError(f"{kernel.name}: {why}", reason=why, file=kernel.name)


def _calls_of(kernel: KernelImage, booted: Machine, rules: Rules, ops: slots_of.FilledOps, nops: str) -> _Calls:
    """What the sites' calls become where the ops hold these functions."""
    if rules.paravirt is None or kernel.paravirt is None:
        pointers = {kernel.ops.slot(i): ops.slots[op].address or 0 for i, op in enumerate(kernel.ops.names)}
        return {"nops": nops, "template": None, "rules": None, "pointers": pointers}
    template, core = slots_of.template(kernel, ops, rules.paravirt, nops)
    if booted.has_option("noreplace-paravirt") and slots_of.has_noreplace(kernel):
        template = [slot.ignored() for slot in template]
    return {"nops": nops, "template": template, "rules": core, "pointers": None}


def slots(kernel: KernelImage, backend: Backend, machine: Machine | None, rules: Rules) -> Mapping[str, Slot]:
    """What each op holds on a boot, and why: the `slots` of `set_up`, and nothing else of it.

    Raises:
        OpsError: the backend does not fit this kernel.
    """
    state = _state(kernel, _machine(kernel, backend, machine, rules))
    return _filled(kernel, backend, machine, rules, state).slots


def _filled(
    kernel: KernelImage, backend: Backend, machine: Machine | None, rules: Rules, state: State | None
) -> slots_of.FilledOps:
    """The ops under a backend, as the kernel held them where the machine says."""
    ops = slots_of.filled(kernel, backend, machine, rules)
    if state is None:
        return ops
    # A guest's pv_init_ops.patch is none that inlines (xen_patch(), up to 5.2).
    patch = None if state.inlines is False else ops.patch_function
    return ops._replace(slots=_saved_slots(kernel, ops.slots, state), patch_function=patch)


def _guest_of_some(machine: Machine) -> bool:
    """Whether the CPU's flags say that there is a hypervisor, and nothing says which."""
    return machine.hypervisor.value is None and "hypervisor" in (machine.flags or ())


#: Whose guests have the flag, where nothing else names them: the last is the likeliest to name itself nowhere.
_OTHERS = ("xen-hvm", "hyperv", "kvm", "vmware")


def _under_others(kernel: KernelImage, machine: Machine, ops: slots_of.FilledOps, rules: Rules) -> slots_of.FilledOps:
    """The ops, each as a usual guest of some hypervisor holds it where that is not as natively."""
    from pvops import backends

    held, patch = dict(ops.slots), ops.patch_function
    # Xen shows a PV guest no pge, which all CPUs of 64 bits have.
    for name in _OTHERS if "pge" in (machine.flags or ()) else (*_OTHERS, "xen"):
        try:
            filled = slots_of.filled(kernel, backends.get(name, rules.era), None, rules)
        except OpsError:
            continue  # the kernel is built without it
        held |= {op: slot for op, slot in filled.slots.items() if slot.address != ops.slots[op].address}
        patch = filled.patch_function
    return ops._replace(slots=held, patch_function=patch)


def _state(kernel: KernelImage, machine: Machine) -> State | None:
    """What this kernel held on the machine, where its description says; `OpsError` where it is of another kernel."""
    state = machine.state
    if state is not None and state.kernel != (kernel.release or kernel.name):
        reason = f"the machine's state is of {state.kernel}, this kernel is {kernel.release or kernel.name}"
        raise OpsError(f"{machine.name}: {reason}", reason=reason, file=machine.name)
    return state


def _saved_slots(kernel: KernelImage, slots: Mapping[str, Slot], state: State) -> Mapping[str, Slot]:
    """The slots, as the kernel held them."""
    held = dict(slots)
    for index, op in enumerate(kernel.ops.names):
        function = state.slots.get(kernel.ops.slot(index))
        if function is not None and op in held:
            symbol = kernel.symbol_at(function) if function else None
            why = _SAVED if function != SOME_FUNCTION else _SAVED_SOME
            held[op] = held[op]._replace(symbol=symbol, address=function or None, why=why)
    return held


def _known(guessed: Mapping[K, V], held: Mapping[K, V] | None) -> dict[K, tuple[V, bool]]:
    """Guesses, and what the kernel held, which is certain."""
    return {key: (value, False) for key, value in guessed.items()} | {
        key: (value, True) for key, value in (held or {}).items()
    }


#: ``movabs $0x7ffffffff000,%REG``, and near it ``dec %REG``: the number, and all of it.
_END_OF_USER_SPACE = bytes.fromhex("00f0ffffff7f0000")
_LESS_ONE = rb"H[\xb8-\xbf]" + re.escape(_END_OF_USER_SPACE) + rb".{0,16}?H\xff[\xc8-\xcf]"
_LESS_ONE_SIZE = 29


def _constants(machine: Machine, kernel: KernelImage) -> dict[str, int]:
    """The constants known at boot that the machine tells: by the name of their section."""
    found = {"runtime_ptr_USER_PTR_MAX": _user_ptr_max(machine, kernel)}
    entries = re.search(r"Dentry cache hash table entries: (\d{1,12}) ", machine.dmesg)
    if entries and int(entries[1]):  # fs/dcache.c: dcache_init()
        found["runtime_shift_d_hash_shift"] = 32 - (int(entries[1]).bit_length() - 1)
    return found


def _user_ptr_max(machine: Machine, kernel: KernelImage) -> int:
    """``USER_PTR_MAX``, a constant that the CPU decides (arch/x86/kernel/cpu/common.c: arch_cpu_finalize_init(), 6.12).

    The end of user space, a page short of it: 47 bits of it, 56 with five levels of page tables. At first it was one
    less (573f45a9f9a4, 6.13 and 6.12.y), which the code that runs at boot says.
    """
    five_levels = "la57" in (machine.flags or ()) and not machine.has_option("no5lvl")
    ends = [low + size for name, low, size, _ in kernel.image.sections() if name == ".init.text"]
    places = kernel.image.find(".init.text", _END_OF_USER_SPACE) if kernel.bits == 64 else []
    near = (
        kernel.image.read(at - 2, min(_LESS_ONE_SIZE, *(end - at + 2 for end in ends if end > at))) for at in places
    )
    first = any(re.match(_LESS_ONE, code, re.DOTALL) for code in near if code is not None)
    return ((1 << 56) if five_levels else (1 << 47)) - 4096 - first


def _machine(kernel: KernelImage, backend: Backend, machine: Machine | None, rules: Rules) -> Machine:
    """The machine given, made a guest of the backend where it is no such guest; an assumed one where none is given."""
    from pvops.decide.backend import backend_for
    from pvops.machine.machine import Machine

    if machine is None:
        return Machine(name="assumed", hypervisor=backend.hypervisor)
    # Where the kernel takes this very backend on the machine, the machine stays as it is described.
    if backend_for(kernel, machine, rules.era).name == backend.name:
        return machine
    return machine.under(backend.hypervisor)


def _other_nops(kernel: KernelImage, machine: Machine, rules: Rules, taken: str) -> str | None:
    """Another nop table than was taken, where the machine does not tell its CPU and the image has more than one."""
    from pvops import eras

    if machine.vendor is not None or len(kernel.image.nop_tables()) == 1:
        return None
    policy = eras.era(rules.era).nops.of_release(kernel.sources)
    return next((table for table in policy.tables[kernel.bits] if table != taken), None)


def _nops(kernel: KernelImage, machine: Machine | None, rules: Rules) -> NopChoice:
    from pvops import eras
    from pvops.decide.answers import unknown_vendor
    from pvops.eras import nops
    from pvops.image.built import Built

    tables = kernel.image.nop_tables()
    policy = eras.era(rules.era).nops.of_release(kernel.sources, tables or ("p6",))
    if len(tables) == 1:
        return nops.NopChoice(tables[0], "the one table of the image")
    if machine is None or machine.vendor is None:
        return policy.assumed[kernel.bits]
    vendors = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon"}
    vendor = "unknown" if unknown_vendor(machine, Built(kernel)) else vendors.get(machine.vendor, machine.vendor)
    family, model = machine.family or 0, machine.model or 0
    features = nops.features_of(vendor, family) | frozenset(machine.flags or ())
    return policy.choose(kernel.bits, nops.Cpu(vendor, family, model, features))
