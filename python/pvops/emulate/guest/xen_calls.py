"""How Xen's guest side asks: hypercalls through Xen's page of them, one by one or many in a batch.

Sources: arch/x86/xen/multicalls.{c,h} of 2.6.24 and include/asm-x86/xen/hypercall.h.
"""

from __future__ import annotations

from pvops.assembler import Local, Value, addr, function, label, mem
from pvops.assembler.operands import eax, ebp, ebx, ecx, edi, edx, esi
from pvops.assembler.statements import Body, Statement
from pvops.assembler.x86 import addl, call, cmpl, incl, je, jmp, jne, movl, popal, popl, pushal, pushl, ret, shll, xorl
from pvops.emulate.abi.xen import BATCH, CALLS, DOMID_SELF, MMUEXT

LAZY_MMU, LAZY_CPU, LAZY_FLUSH = 1, 2, 3
NUMBERS = {name: number for number, name in CALLS.items()}
_EXT = {name: number for number, name in MMUEXT.items()}


def shared(offset: int) -> Value:
    """A place in the shared page."""
    return addr("xen_shared_info") + offset


def hypercall(name: str) -> Statement:
    """``call hypercall_page + 32 * number``; ebx, ecx, edx, esi, edi are its arguments."""
    return call(addr("hypercall_page") + 32 * NUMBERS[name])


def keeping(name: str, *body: Body) -> Body:
    """A function that keeps ebx, esi and edi; arguments on the stack start at 16(%esp)."""
    return function(name, pushl(ebx), pushl(esi), pushl(edi), *body, popl(edi), popl(esi), popl(ebx), ret())


def entry(name: str, mode: int) -> Body:
    """``xen_mc_entry`` and ``xen_mcissue(mode)``: queued, and handed over at once unless this mode is lazy."""
    return (movl(NUMBERS[name], eax), call("xen_mc_entry"), issue(mode))


def issue(mode: int) -> Body:
    """``xen_mc_issue(mode)``: the batch is handed over unless this mode is lazy."""
    later = Local("later")
    return (cmpl(mode, mem("paravirt_lazy_mode")), je(addr(later)), call("xen_mc_flush"), label(later))


def extended(command: str, mode: int, *argument: Body) -> Body:
    """An mmuext_op in a batch; its argument is in ebx."""
    return (*argument, movl(_EXT[command], eax), call("xen_mmuext"), issue(mode))


def _room() -> tuple[Body, ...]:
    """A full batch is handed over first."""
    room = Local("room")
    return (cmpl(BATCH, mem("mc_count")), jne(addr(room)), call("xen_mc_flush"), label(room))


def batches() -> Body:
    """``xen_mc_entry()``, ``xen_mc_flush()`` and what calls point to."""
    none, stay = Local("none"), Local("stay")
    arguments = [movl(r, mem(addr("mc_entries") + 8 + 4 * i, ebp)) for i, r in enumerate((ebx, ecx, edx, esi, edi))]
    return (
        function(
            "xen_mc_entry",
            *(pushl(ebp), *_room(), movl(mem("mc_count"), ebp), shll(5, ebp), movl(eax, mem("mc_entries", ebp))),
            *(movl(0, mem(addr("mc_entries") + 4, ebp)), *arguments, incl(mem("mc_count")), popl(ebp), ret()),
        ),
        function(
            "xen_mc_flush",
            *(pushal(), cmpl(0, mem("mc_count")), je(addr(none)), movl(addr("mc_entries"), ebx)),
            *(
                movl(mem("mc_count"), ecx),
                hypercall("multicall"),
                movl(0, mem("mc_count")),
                label(none),
                popal(),
                ret(),
            ),
        ),
        # What the call points to must last as long as its entry: 16 bytes beside each. (cmd, arg) or (ptr, value)
        function(
            "xen_mc_argument",
            *(*_room(), movl(mem("mc_count"), ecx), shll(4, ecx), addl(addr("mc_arguments"), ecx), ret()),
        ),
        function(
            "xen_mmuext",
            *(call("xen_mc_argument"), movl(eax, mem(0, ecx)), movl(ebx, mem(4, ecx)), movl(edx, mem(8, ecx))),
            *(movl(ecx, ebx), movl(1, ecx), xorl(edx, edx), movl(DOMID_SELF, esi)),
            *(movl(NUMBERS["mmuext_op"], eax), jmp("xen_mc_entry")),
        ),
        function(
            "xen_set_lazy_mode",
            *(call("xen_mc_flush"), cmpl(LAZY_FLUSH, eax), je(addr(stay)), movl(eax, mem("paravirt_lazy_mode"))),
            *(label(stay), ret()),
        ),
    )
