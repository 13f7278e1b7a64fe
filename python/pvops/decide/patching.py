"""From declarations to the core's flat template: slot by slot, what it holds and what the patch function does.

The core knows no op by name. Here names become numbers: a `PatchFunction`'s switch over ops becomes one
action per slot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pvops._core as _core
from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction, Rom
    from pvops.eras.rules import ParavirtRules

#: Address of a function by name; raises OpsError where there is none.
Resolve = Callable[[str], int]

#: What VMI's ROM answers for a call number: a relocation type (``none``, ``call_rel``, ``jump_rel``, ``nop``, or
#: another number) and the address that goes with the first two.
RomAnswers = Mapping[int, tuple[str, int]]


def core_slot(
    op: str,
    pointer: str,
    address: int,
    *,
    jump: bool,
    patch: PatchFunction | None,
    resolve: Resolve,
    rom: RomAnswers | None = None,
) -> _core.Slot:
    """One slot of the core's template.

    Args:
        op: its op.
        pointer: ``null``, ``nop``, ``ident32``, ``ident64`` or ``function``.
        address: of the function.
        jump: its sites jump.
        patch: the backend's patch function; None for the default rules alone.
        resolve: finds the functions that the patch function names.
        rom: what VMI's ROM answers, for a patch function that asks it.
    """
    slot = _core.Slot(pointer, address, jump=jump)
    if patch is None:
        return slot
    rule = patch.switch.get(op)
    if rule is None:
        return slot.ignored() if patch.otherwise == "ignore" else slot
    from pvops.eras.patching import Rom

    if isinstance(rule, Rom):
        return _rom_slot(slot, op, rule, rom)
    return slot.inlined(
        rule.code,
        only_while=resolve(rule.guard) if rule.guard else None,
        no_room=rule.no_room,
        relocation=(rule.reloc, resolve(rule.reloc_target)) if rule.reloc >= 0 else None,
    )


def _rom_slot(slot: _core.Slot, op: str, rule: Rom, rom: RomAnswers | None) -> _core.Slot:
    if rom is None or rule.call not in rom:
        raise OpsError(f"{op}: the patch function asks VMI's ROM for call {rule.call}, and no answer is given")
    answer, address = rom[rule.call]
    return slot.asked(answer, address)


def core_rules(
    rules: ParavirtRules, bits: int, nops: str, *, call_clobbers: int | None = None, null_call: int | None = None
) -> _core.TemplateRules:
    """The core's rules.

    Args:
        rules: the era's.
        bits: 32 or 64.
        nops: name of the nop table.
        call_clobbers: what a C function clobbers (``CLBR_ANY``), where the era checks it.
        null_call: address of what a NULL op becomes a call to, where the era does that.
    """
    if rules.clobbers and call_clobbers is None:
        raise OpsError(f"{rules.era} checks clobbers, and nothing says which a call has")
    return _core.TemplateRules(
        bits,
        nops,
        call_clobbers=call_clobbers if rules.clobbers else None,
        null_call=null_call,
        no_room=rules.no_room,
    )
