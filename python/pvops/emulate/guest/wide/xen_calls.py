"""How Xen's guest side asks on x86-64: hypercalls through Xen's page of them, one by one or many in a batch.

Sources: arch/x86/xen/multicalls.{c,h} of 2.6.33 and arch/x86/include/asm/xen/hypercall.h: the arguments of a call are
in rdi, rsi, rdx, r10 and r8.
"""

from __future__ import annotations

from pvops.assembler import Local, Value, addr, function, label, mem
from pvops.assembler import operands as o
from pvops.assembler import x86 as x
from pvops.assembler.statements import Body
from pvops.emulate.abi.xen import BATCH, CALLS_64, DOMID_SELF, MMUEXT_64

LAZY_MMU, LAZY_CPU = 1, 2
NUMBERS = {name: number for number, name in CALLS_64.items()}
_EXT = {name: number for number, name in MMUEXT_64.items()}
ARGUMENTS = (o.rdi, o.rsi, o.rdx, o.r10, o.r8)


def shared(offset: int) -> Value:
    """A place in the shared page."""
    return addr("xen_shared_info") + offset


def hypercall(name: str) -> Body:
    """``call hypercall_page + 32 * number``."""
    return x.call(addr("hypercall_page") + 32 * NUMBERS[name])


def entry(name: str, mode: int) -> Body:
    """``xen_mc_entry`` and ``xen_mc_issue(mode)``: queued, and handed over at once unless this mode is lazy."""
    return (x.movl(NUMBERS[name], o.eax), x.call("xen_mc_entry"), issue(mode))


def issue(mode: int) -> Body:
    """``xen_mc_issue(mode)``: the batch is handed over unless this mode is lazy."""
    later = Local("later")
    return (x.cmpl(mode, mem("paravirt_lazy_mode")), x.je(addr(later)), x.call("xen_mc_flush"), label(later))


def extended(command: str, mode: int, *argument: Body) -> Body:
    """An mmuext_op in a batch; its arguments are in rdi and rsi."""
    return (*argument, x.movl(_EXT[command], o.eax), x.call("xen_mmuext"), issue(mode))


def _room() -> Body:
    """A full batch is handed over first."""
    room = Local("room")
    return (x.cmpl(BATCH, mem("mc_count")), x.jne(addr(room)), x.call("xen_mc_flush"), label(room))


def batches() -> Body:
    """``xen_mc_entry()``, ``xen_mc_flush()`` and what calls point to."""
    none = Local("none")
    stored = [x.movq(r, mem(addr("mc_entries") + 16 + 8 * i, o.r11)) for i, r in enumerate(ARGUMENTS)]
    saved = (o.rax, o.rcx, o.rdx, o.rsi, o.rdi, o.r8, o.r9, o.r10, o.r11)
    return (
        # multicall_entry: op, result, six arguments, 8 bytes each.
        function(
            "xen_mc_entry",
            *(_room(), x.movl(mem("mc_count"), o.r11d), x.shll(6, o.r11d), x.movq(o.rax, mem("mc_entries", o.r11))),
            *(x.movq(0, mem(addr("mc_entries") + 8, o.r11)), *stored, x.incl(mem("mc_count")), x.ret()),
        ),
        function(
            "xen_mc_flush",
            *(*(x.pushq(r) for r in saved), x.movl(mem("mc_count"), o.esi), x.testl(o.esi, o.esi), x.je(addr(none))),
            *(x.movq(addr("mc_entries"), o.rdi), hypercall("multicall"), x.movl(0, mem("mc_count")), label(none)),
            *(*(x.popq(r) for r in reversed(saved)), x.ret()),
        ),
        # What a call points to must last as long as its entry: 32 bytes beside each, whose address is in rcx then.
        function(
            "xen_mc_argument",
            *(_room(), x.movl(mem("mc_count"), o.ecx), x.shll(5, o.ecx), x.addq(addr("mc_arguments"), o.rcx), x.ret()),
        ),
        # struct mmuext_op: command, two arguments.
        function(
            "xen_mmuext",
            *(x.call("xen_mc_argument"), x.movq(o.rax, mem(0, o.rcx)), x.movq(o.rdi, mem(8, o.rcx))),
            *(x.movq(o.rsi, mem(16, o.rcx)), x.movq(o.rcx, o.rdi), x.movl(1, o.esi), x.xorl(o.edx, o.edx)),
            *(x.movl(DOMID_SELF, o.r10d), x.movl(NUMBERS["mmuext_op"], o.eax), x.jmp("xen_mc_entry")),
        ),
        # mmu_update of one request (pointer in rdi, value in rsi).
        function(
            "xen_mmu_update",
            *(x.call("xen_mc_argument"), x.movq(o.rdi, mem(0, o.rcx)), x.movq(o.rsi, mem(8, o.rcx))),
            *(x.movq(o.rcx, o.rdi), x.movl(1, o.esi), x.xorl(o.edx, o.edx), x.movl(DOMID_SELF, o.r10d)),
            *(entry("mmu_update", LAZY_MMU), x.ret()),
        ),
    )
