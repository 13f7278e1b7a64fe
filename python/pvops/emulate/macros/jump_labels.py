"""``static_key_false()``: a nop that becomes a jump while a key is on, and its row in ``__jump_table``."""

from __future__ import annotations

from pvops.assembler.statements import Body, Label, Within, align, data, u32, u64
from pvops.assembler.values import Local, Name, addr

#: STATIC_KEY_INIT_NOP: P6_NOP5_ATOMIC on x86-64, GENERIC_NOP5_ATOMIC on i386 (arch/x86/include/asm/nops.h of 3.12).
_NOP5 = {32: b"\x3e\x8d\x74\x26\x00", 64: b"\x0f\x1f\x44\x00\x00"}


def static_key_false(key: Name, target: Name, bits: int) -> Body:
    """``1: nop5; .pushsection __jump_table; .balign; .long 1b, target, key`` (``.quad`` on x86-64).

    3.12 arch/x86/include/asm/jump_label.h, arch_static_branch().
    """
    at = Local("1")
    word = u64 if bits == 64 else u32
    row = Within("__jump_table", align(bits // 8), word(addr(at), addr(target), addr(key)))
    return (Label(at), data(_NOP5[bits]), row)
