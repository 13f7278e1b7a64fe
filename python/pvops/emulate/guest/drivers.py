"""Two drivers that read ``pv_info`` before they start: lguest's console, and lguest's host module.

Sources: drivers/char/hvc_lguest.c and drivers/lguest/core.c of the seed.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, asciz, function, label, mem, u32
from pvops.assembler.operands import al, eax, ebx, ecx, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import cmpb, cmpl, incl, int_, je, jne, movb, movl, popl, pushl, ret
from pvops.emulate.abi.lguest import TRAP
from pvops.emulate.guest.layout import pa

#: Offsets in pv_info: whether this is a guest, and whose.
_ENABLED, _NAME = 8, 12
_NOTIFY = 17
_EPERM = 1


def functions() -> Body:
    """``cons_init()``: a console, but only on lguest. ``lg_init()``: lguest's host, but not in a guest."""
    other, again, same, guest = Local("other"), Local("again"), Local("same"), Local("guest")
    return (
        function(
            "cons_init",
            # strcmp(pv_info.name, "lguest")
            *(pushl(ebx), movl(mem(addr("pv_info") + _NAME), ecx), movl(addr("lguest_name"), edx)),
            *(
                label(again),
                movb(mem(0, ecx), al),
                cmpb(al, mem(0, edx)),
                jne(addr(other)),
                cmpb(0, al),
                je(addr(same)),
            ),
            *(incl(ecx), incl(edx), cmpl(0, ecx), jne(addr(again))),
            # early_put_chars(): the host is told where the text is.
            *(label(same), movl(1, mem("console_started")), movl(pa("greeting"), edx), movl(_NOTIFY, eax), int_(TRAP)),
            *(label(other), popl(ebx), ret()),
        ),
        function(
            "lg_init",
            *(cmpl(0, mem(addr("pv_info") + _ENABLED)), jne(addr(guest)), movl(1, mem("lg_loaded")), ret()),
            *(label(guest), movl(-_EPERM, mem("lg_loaded")), ret()),
        ),
    )


def variables() -> Body:
    """Whether each has started, and its strings."""
    return (
        *(label("console_started"), u32(0), label("lg_loaded"), u32(0)),
        *(label("lguest_name"), asciz("lguest"), label("greeting"), asciz("hvc0 on lguest\n")),
    )
