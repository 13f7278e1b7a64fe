"""What the slots of an image's ops hold under a backend, and what ``apply_paravirt()`` makes of each."""

from __future__ import annotations

import pvops._core as _core
from pvops.decide.patching import core_rules, core_slot
from pvops.errors import OpsError
from pvops.image import functions
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pvops.backends.backend import Backend, Slot
    from pvops.eras.patching import Inline, PatchFunction, Rom
    from pvops.eras.rules import ParavirtRules, Rules
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine

#: Why a slot holds what it holds where no backend changed it.
NATIVE = "the image's own pv_ops holds it"


class FilledOps(NamedTuple):
    """The ops of an image under a backend.

    Attributes:
        slots: what each op holds, and why.
        patch_function: the patch function, where it is more than the default rules.
        jumps: the ops whose sites jump.
    """

    slots: Mapping[str, Slot]
    patch_function: PatchFunction | None
    jumps: frozenset[str]


def filled(
    kernel: KernelImage, backend: Backend, machine: Machine | None, rules: Rules, *, otherwise: bool = False
) -> FilledOps:
    """What a backend puts into the slots of an image; nothing where the kernel has no ops.

    Args:
        kernel: the image.
        backend: whose init code ran.
        machine: what it asked.
        rules: by which the image is patched.
        otherwise: whether what the machine does not tell is taken the other way.

    Raises:
        OpsError: the backend does not fit this kernel, or nothing tells what the ops are that it patches by name.
    """
    from pvops import eras
    from pvops.backends.backend import Fill
    from pvops.backends.backend import Slot as Filled

    if rules.paravirt is None and kernel.paravirt is not None:
        reason = f"it has .parainstructions, and kernels by whose rules it patches ({rules.era}) have none"
        raise OpsError(f"{kernel.name}: {reason}", reason=reason, file=kernel.name)
    ops = kernel.ops
    era = eras.era(rules.era)
    config = ops.config or era.usual_config(kernel.bits)
    source = f"{ops.arrays[0].symbol} at {ops.address:#x}" if ops.arrays else ""
    native = {op: Filled(op, held.symbol, held.address, NATIVE, source) for op, held in ops.native.items()}
    fill = Fill(rules.era, kernel.bits, config, ops.names, native, kernel, machine, otherwise)
    slots = backend.fill(fill)
    if rules.paravirt is None or not ops.names:
        _named(kernel, backend, None, frozenset())
        return FilledOps(slots, None, frozenset())
    native_patch = inlining(kernel, era.patch_function(config))
    _named(kernel, backend, native_patch, frozenset())
    patch_function = backend.patch_function(fill, native_patch)
    jumps = frozenset(op.name for op in era.template(config) if op.op.jump) if rules.paravirt.jumps else frozenset()
    _named(kernel, backend, patch_function, jumps)
    return FilledOps(slots, patch_function, jumps)


#: What native_patch() inlines up to 4.13, but for stable kernels with KAISER.
_UNTIL_KAISER = "pv_mmu_ops.flush_tlb_single"


def inlining(kernel: KernelImage, function: PatchFunction | None) -> PatchFunction | None:
    """``native_patch()`` without the ops that the image does not inline, where its labels tell.

    Up to 5.2 DEF_NATIVE() puts ``start_pv_mmu_ops_flush_tlb_single`` before the code; stable kernels with KAISER
    (4.1.52, 4.4.110, 4.9.115) have no such code any more. Where no function has a name, an op of some releases is
    inlined if its native function is that code and no more: native_iret() had more from 7209a75d2009 on, which took its
    code away, __native_flush_tlb_single() has with KAISER.
    """
    if function is None:
        return None
    known = {**function.switch, **function.labelled}
    there = {op: rule for op, rule in known.items() if any(map(kernel.address_of, _labels(op)))}
    if not there and not kernel.image.symbol_count():
        native = kernel.ops.native

        def is_code(op: str, rule: Inline | Rom) -> bool:
            address = native[op].address if op in native else None
            code: bytes = getattr(rule, "code", b"")
            return address is not None and functions.begins_with(kernel, address, code)

        # RHEL 7's code is taken by what the CPU has.
        told = {op for op in (*function.labelled, _UNTIL_KAISER) if not getattr(known.get(op), "unless", "")}
        inlined = {op: rule for op, rule in known.items() if op not in told or is_code(op, rule)}
        return function._replace(switch=inlined)
    return function._replace(switch=there) if there else function


def _labels(op: str) -> tuple[str, str]:
    """What the code of an op is labelled, up to 4.19 and from 4.20 on."""
    structure, _, field = op.partition(".")
    return f"start_{structure}_{field}", f"start_{structure.removeprefix('pv_').removesuffix('_ops')}_{field}"


def _named(kernel: KernelImage, backend: Backend, patch_function: PatchFunction | None, jumps: frozenset[str]) -> None:
    """Refuses a template that no era fits where an op's name decides what its sites become."""
    if backend.name != "native":
        _refuse_unnamed(kernel, f"what {backend.name} puts there")
    elif jumps or (patch_function is not None and patch_function.switch):
        require_names(kernel)


def require_names(kernel: KernelImage) -> None:
    """Refuses a template that no era fits, where ``native_patch()`` inlines some ops."""
    _refuse_unnamed(kernel, "which of them native_patch() inlines")


def _refuse_unnamed(kernel: KernelImage, what: str) -> None:
    if unnamed := kernel.ops.unnamed:
        shown = ", ".join(map(str, unnamed[:6])) + (f" and {len(unnamed) - 6} more" if len(unnamed) > 6 else "")
        ops = f"the ops of {kernel.release}" if kernel.release else "its ops"
        reason = f"no known era's table fits {ops}, and nothing names types {shown}: {what} is not known"
        raise OpsError(f"{kernel.name}: {reason}", reason=reason, file=kernel.name)


def trivial(kernel: KernelImage, rules: ParavirtRules) -> tuple[int | None, dict[int, int]]:
    """The function that counts as nothing to do, and those that return their argument: address → bits.

    By their names, or by what they do in an image that names no functions: of several that do nothing, the one that
    most slots hold.
    """
    nop = kernel.address_of(rules.nop)
    identities = {a: bits for name, bits in rules.identities.items() if (a := kernel.address_of(name)) is not None}
    if nop is None:
        held = [slot.address for slot in kernel.ops.native.values() if slot.address and slot.symbol is None]
        empty = [address for address in held if functions.does(kernel, address) == "nop"]
        nop = max(empty, key=empty.count, default=None)
        if kernel.bits == 32:  # there an argument is returned by doing nothing
            identities |= dict.fromkeys((a for a in empty if a != nop), 32)
        for name, bits in rules.identities.items():
            if kernel.address_of(name) is None:
                identities |= dict.fromkeys((a for a in held if functions.does(kernel, a) == f"ident{bits}"), bits)
    return nop, identities


def has_noreplace(kernel: KernelImage) -> bool:
    """Whether a kernel has ``noreplace-paravirt``, by which apply_paravirt() does nothing.

    The option went with 4.16 (12c69f1e94c8) and with stable releases before. Options' names are data that are freed
    (__setup_param() of include/linux/init.h).
    """
    data = [name for name, address, _, executable in kernel.image.sections() if address and not executable]
    freed = [name for name in data if name.startswith(".init")]
    return any(kernel.image.find(name, b"noreplace-paravirt\0") for name in freed or data)


def template(
    kernel: KernelImage, ops: FilledOps, rules: ParavirtRules, nops: str
) -> tuple[list[_core.Slot], _core.TemplateRules]:
    """The flat template, slot by slot what it holds and what the patch function does with its type; and the rules.

    Raises:
        OpsError: the image names no function that the rules name.
    """
    nop, identities = trivial(kernel, rules)
    slots = [
        core_slot(
            op,
            _pointer(ops.slots[op].address or 0, nop, identities),
            ops.slots[op].address or 0,
            jump=op in ops.jumps,
            patch=ops.patch_function,
            resolve=lambda symbol, op=op: resolved(kernel, symbol, op),  # type: ignore[misc]  # op is bound now
        )
        for op in kernel.ops.names
    ]
    null_call = None
    called = {type for type, _ in kernel.paravirt.by_type()} if kernel.paravirt is not None else set()
    if rules.null != "ud2" and any(
        not ops.slots[op].address for type, op in enumerate(kernel.ops.names) if type in called
    ):
        null_call = _required(kernel, rules.null, "what a NULL op becomes a call to")
    call_clobbers = None
    if rules.clobbers:
        from pvops import eras

        call_clobbers = eras.era(rules.era).clobbers(kernel.bits)["CLBR_ANY"]
    return slots, core_rules(rules, kernel.bits, nops, call_clobbers=call_clobbers, null_call=null_call)


def _pointer(address: int, nop: int | None, identities: Mapping[int, int]) -> str:
    if not address:
        return "null"
    if address == nop:
        return "nop"
    return f"ident{identities[address]}" if address in identities else "function"


def resolved(kernel: KernelImage, symbol: str, op: str) -> int:
    """A function that the patch function names, or the op's native one where the image does not name it.

    Images without symbols name none; others may leave out what PV_CALLEE_SAVE_REGS_THUNK() makes.

    Raises:
        OpsError: the image names functions, and not this one.
    """
    address = kernel.address_of(symbol)
    if address is None and (kernel.image.symbol_count() == 0 or symbol.startswith("__raw_callee_save_")):
        return kernel.ops.native[op].address
    return address if address is not None else _required(kernel, symbol, "which the patch function names")


def _required(kernel: KernelImage, symbol: str, role: str) -> int:
    address = kernel.address_of(symbol)
    if address is None:
        raise OpsError(f"{kernel.name}: no symbol {symbol}, {role}", file=kernel.name)
    return address
