"""The inferred machine, saved: what ``patch --machine`` reproduces the judged boot from."""

from __future__ import annotations

from pvops.machine.state import CFI_MODES, HVM_CALLS, State
from pvops.verify.evidence import SOME_GUEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pvops._core as _core
    from pvops.image.kernel_image import KernelImage


def backends_of(kernel: KernelImage, core: _core.Report) -> list[str]:
    """The backends that fit the ops, the first that allows least.

    An image without names does not say whose functions a guest's are; X86_FEATURE_XENPV, and what Xen writes outside of
    all tables, are Xen PV's alone.
    """
    if core.backends != [SOME_GUEST]:
        return core.backends
    number = kernel.feature_numbers.number("XENPV")
    has = number is not None and number // 32 < len(core.features) and core.features[number // 32] >> number % 32 & 1
    return ["xen"] if has or any(value for _, _, value, *_ in core.votes(["xen"])) else core.backends


def saved_machine(kernel: KernelImage, core: _core.Report) -> dict[str, object]:
    """The machine that was inferred, as `pvops.Machine.from_dict` takes it."""
    slots: dict[int, int] = {}
    keys: dict[int, bool] = {}
    calls: dict[int, int] = {}
    constants: dict[str, int] = {}
    single: dict[str, int] = {}
    names = [section for section, _, _ in kernel.tables.constants()]
    for about, which, value, *_ in core.votes():
        if about == "constant":
            constants[names[which]] = value
        elif about in ("cfi", "cfi_seed", "hid_bpf", "xen", "inlines", "hvm_call"):
            single[about] = value
        elif about == "slot":
            slots[which] = value
        elif about == "key":
            keys[which] = bool(value)
        elif about == "static_call":
            calls[which] = value
    state = State(
        kernel=kernel.release or kernel.name,
        features=tuple(core.features),
        nops=core.nops,
        return_thunk=core.return_thunk,
        uniprocessor=core.uniprocessor,
        its_pages=tuple(core.its_pages),
        slots=slots,
        keys=keys,
        static_calls=calls,
        early_calls=tuple(core.early_calls),
        constants=constants,
        cfi=(CFI_MODES[single["cfi"]], single["cfi_seed"]) if "cfi_seed" in single else None,
        hid_bpf=single.get("hid_bpf"),
        xen=bool(single["xen"]) if "xen" in single else None,
        inlines=bool(single["inlines"]) if "inlines" in single else None,
        hvm_call=HVM_CALLS[single["hvm_call"]] if "hvm_call" in single else None,
    )
    machine: dict[str, object] = {"schema": "pvops.machine/1", "state": state.to_dict()}
    hypervisors = {"native": "none", "xen": "xen-pv"}
    if any(about == "calls_stay" and value for about, _, value, *_ in core.votes()):
        machine["cmdline"] = "noreplace-paravirt"
    if backends := backends_of(kernel, core):
        machine["hypervisor"] = hypervisors.get(backends[0], backends[0])
    return machine
