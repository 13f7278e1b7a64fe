"""What the core's verifier gets of a kernel: names as numbers and addresses, and what is possible; nothing expected.

`info` is of the image alone. `known` is what a machine's description settles, for who gives one: that is not inferred.
"""

from __future__ import annotations

import pvops._core as _core
from pvops.decide.slots import has_noreplace, inlining, require_names, resolved, trivial
from pvops.errors import OpsError, TableError
from pvops.image.hypercalls import of_hyperv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.backends.backend import Fill
    from pvops.eras.patching import PatchFunction
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine

    #: The function that a slot holds, code, and where in it a call is relative, and to what.
    _Direct = tuple[int, bytes, tuple[int, int] | None]

#: The features that other tables than .altinstructions depend on: the core's name → the kernel's.
_NUMBERS = {
    "retpoline": "RETPOLINE",
    "retpoline_lfence": "RETPOLINE_LFENCE",
    "rethunk": "RETHUNK",
    "its": "INDIRECT_THUNK_ITS",
    "call_depth": "CALL_DEPTH",
    "xenpv": "XENPV",
}

#: Where a backend has static calls go (5.13 on): xen_init_time_ops(), xen_hypercall_setfunc(), kvmclock_init(),
#: kvm_guest_init(), vmware_paravirt_ops_setup(), hv_setup_sched_clock().
_CALLS: dict[str, dict[str, tuple[str, ...]]] = {
    "kvm": {"pv_sched_clock": ("kvm_sched_clock_read",), "pv_steal_clock": ("kvm_steal_clock",)},
    "xen": {
        "pv_sched_clock": ("xen_sched_clock",),
        "pv_steal_clock": ("xen_steal_clock",),
        "xen_hypercall": ("xen_hypercall_pv",),
    },
    "xen-hvm": {
        "pv_sched_clock": ("xen_sched_clock",),
        "pv_steal_clock": ("xen_steal_clock",),
        "xen_hypercall": ("xen_hypercall_amd", "xen_hypercall_intel", "xen_hypercall_hvm"),
    },
    "vmware": {"pv_sched_clock": ("vmware_sched_clock",), "pv_steal_clock": ("vmware_steal_clock",)},
    "hyperv": {"pv_sched_clock": ("read_hv_sched_clock_tsc", "read_hv_sched_clock_msr")},
}


def info(kernel: KernelImage) -> _core.KernelInfo:
    """What the image says.

    Raises:
        OpsError: nothing tells by which rules this kernel patches, or which of its ops ``native_patch()`` inlines.
        TableError: a table of the image is malformed.
    """
    from pvops import eras as ops

    rules = kernel.rules
    named = {core: kernel.feature_numbers.number(name) for core, name in _NUMBERS.items()}
    has = kernel.image.nop_tables()
    # An image of one table leaves no choice; of several the era's, all of which it has.
    choice = has if len(has) == 1 else list(ops.era(rules.era).nops.tables[kernel.bits])
    inlined: list[_core._Inlined] = []
    nop = bug = call_clobbers = None
    identities: dict[int, int] = {}
    places: list[int] = []
    if rules.paravirt is not None and kernel.paravirt is not None:
        inlined = _inlined(kernel)
        nop, identities = trivial(kernel, rules.paravirt)
        bug = kernel.address_of(rules.paravirt.null) if rules.paravirt.null != "ud2" else None
        era = ops.era(rules.era)
        if rules.paravirt.clobbers:
            call_clobbers = era.clobbers(kernel.bits)["CLBR_ANY"]
        if not era.arrays[0].symbol or era.arrays[0].numbered:
            places = [kernel.ops.slot(i) for i in range(len(kernel.ops.names))]
    return _core.KernelInfo(
        {core: number for core, number in named.items() if number is not None},
        choice,
        inlined=inlined,
        nop=nop,
        identities=identities,
        bug=bug,
        call_clobbers=call_clobbers,
        places=places,
        may_stay=bool(inlined) and has_noreplace(kernel),
        backends=_backends(kernel),
    )


def verifier(kernel: KernelImage) -> _core.Verifier:
    """What judges memory by an image.

    Raises:
        OpsError: nothing tells by which rules this kernel patches.
        TableError: a table of the image is malformed.
    """
    return _core.Verifier(kernel.tables, kernel.rules.passes, kernel.keep(info))


def _inlined(kernel: KernelImage) -> list[_core._Inlined]:
    """What ``native_patch()`` does with each op, by its type, and what ``xen_patch()`` does."""
    from pvops import eras as ops
    from pvops.eras.patching import Inline

    era = ops.era(kernel.rules.era)
    config = kernel.ops.config or era.usual_config(kernel.bits)
    function = inlining(kernel, era.patch_function(config))
    if function is not None and function.switch:
        require_names(kernel)
    jumps = frozenset(op.name for op in era.template(config) if op.op.jump)
    jumping = kernel.rules.paravirt is not None and kernel.rules.paravirt.jumps
    copied = _copied(kernel, function)
    kinds: list[_core._Inlined] = []
    for op in kernel.ops.names:
        rule = function.switch.get(op) if function is not None else None
        jump, direct = jumping and op in jumps, copied.get(op, [])
        if isinstance(rule, Inline):
            guard = resolved(kernel, rule.guard, op) if rule.guard else None
            unless = kernel.feature_numbers.number(rule.unless.upper()) if rule.unless else None
            kinds.append((rule.code, guard, unless, jump, direct))
        else:
            kinds.append((None, None, None, jump, direct))
    return kinds


def _copied(kernel: KernelImage, native: PatchFunction | None) -> dict[str, list[_Direct]]:
    """What the patch functions of guests copy over a site, by op, while its slot holds a function."""
    from pvops import backends
    from pvops.eras.patching import Inline

    try:
        fill = _fill(kernel)
    except TableError:
        return {}
    found: dict[str, list[_Direct]] = {}
    for name in backends.of_images():
        try:
            function = backends.get(name, kernel.rules.era).patch_function(fill, native)
        except OpsError:
            continue  # this kernel is built without it
        for op, rule in function.switch.items() if function is not None and function is not native else ():
            if isinstance(rule, Inline) and rule.guard:
                reloc = (rule.reloc, resolved(kernel, rule.reloc_target, op)) if rule.reloc >= 0 else None
                found.setdefault(op, []).append((resolved(kernel, rule.guard, op), rule.code, reloc))
    return found


def _fill(kernel: KernelImage) -> Fill:
    """What backends are asked to fill, of a machine that nothing is told of."""
    from pvops import eras as ops
    from pvops.backends.backend import Fill, Slot

    config = kernel.ops.config or ops.era(kernel.rules.era).usual_config(kernel.bits)
    native = {op: Slot(op, held.symbol, held.address, "", "") for op, held in kernel.ops.native.items()}
    return Fill(kernel.rules.era, kernel.bits, config, kernel.ops.names, native, kernel, None)


#: Whose functions are in the slots where the image names none: some hypervisor's, which cannot be told.
SOME_GUEST = "guest"


def _backends(kernel: KernelImage) -> list[_core._Backend]:
    """What each backend may put into slots, and where it has static calls go, whatever the machine; native first."""
    from pvops import backends

    try:
        fill = _fill(kernel)
    except TableError:
        return []
    native = fill.native
    places = {op: kernel.ops.slot(i) for i, op in enumerate(fill.ops)}
    found = []
    for name in backends.of_images():
        try:
            possible = backends.get(name, kernel.rules.era).possible(fill)
        except OpsError:
            continue  # this kernel is built without it
        slots = {places[op]: sorted({*values, native[op].address or 0}) for op, values in possible.items()}
        calls = _calls(kernel, name)
        requires = kernel.feature_numbers.number("XENPV") if name == "xen" else None
        page = _key(kernel, "__hv_hypercall") if name == "hyperv" else None
        found.append((name, slots, calls, requires, page))
    if native and not kernel.image.symbol_count():
        slots = _unnamed({places[op]: held.address or 0 for op, held in native.items() if places[op]}, kernel)
        hypercalls = of_hyperv(kernel)
        page, clocks = (hypercalls.key, hypercalls.clocks) if hypercalls is not None else (None, {})
        found.append((SOME_GUEST, slots, clocks, None, page))
    return found


def _unnamed(built: dict[int, int], kernel: KernelImage) -> dict[int, list[int]]:
    """What the guests of an image that names no function may put into its slots: whose each is cannot be told."""
    from pvops.image import stores

    stored, tabled = stores.stored(kernel, built), stores.tabled(kernel)
    return {place: sorted({value, 0, *stored.get(place, ()), *tabled}) for place, value in built.items()}


def _key(kernel: KernelImage, name: str) -> int | None:
    """The key of a static call; where kallsyms lists no data that of its trampoline's row, or the trampoline."""
    key = kernel.address_of(f"__SCK__{name}")
    if key is not None:
        return key
    trampoline = kernel.address_of(f"__SCT__{name}")
    rows = kernel.tables.rows("trampolines") if trampoline is not None else ()
    return next((key for _, address, _, _, _, _, key, _ in rows if key and address == trampoline), trampoline)


def _calls(kernel: KernelImage, backend: str) -> dict[int, list[int]]:
    """Key → functions, for the static calls that a backend's init code sets."""
    found: dict[int, list[int]] = {}
    for name, functions in _CALLS.get(backend, {}).items():
        key = _key(kernel, name)
        addresses = [address for address in map(kernel.address_of, functions) if address is not None]
        if key is not None and addresses:
            found[key] = sorted(set(addresses))
    return found


def known(kernel: KernelImage, machine: Machine | None) -> _core.Known:
    """What a machine's description settles; guesses are no knowledge, and are inferred.

    Raises:
        OpsError: the machine's backend does not fit this kernel.
    """
    if machine is None:
        return _core.Known()
    from pvops import backends
    from pvops.decide.backend import backend_for
    from pvops.decide.boot import set_up

    name = machine.backend.value
    choice = backend_for(kernel, machine).name
    backend = backends.get(choice, kernel.rules.era)
    setup = set_up(kernel, backend, machine, kernel.rules)
    features: dict[int, bool] = {}
    thunk = None
    if setup.words is not None:
        features = {feature.name.number: feature.value for feature in setup.words if feature.value is not None}
        from pvops.decide.returns import return_thunk

        returns = return_thunk(setup.words, kernel)
        thunk = returns.address if returns.used.value is not None else None
    chosen = setup.nops.table if machine.vendor is not None else None
    # What hangs on something that the machine does not tell, memory tells.
    filled = ((kernel.ops.slot(i), setup.slots[op]) for i, op in enumerate(kernel.ops.names))
    slots = {place: slot.address or 0 for place, slot in filled if not slot.assumed}
    return _core.Known(
        nops=chosen,
        uniprocessor=setup.uniprocessor[0] if machine.possible_cpus.value is not None else None,
        features=features,
        return_thunk=thunk,
        # A hypervisor that this kernel is taken to have no code for says nothing of the slots.
        slots=slots if name == choice else {},
        backend=name if name == choice else None,
    )
