"""Who waits for which lock on the two CPUs of the tour on x86-64, with the pv ticket locks of 3.12.

The second CPU has noted that it waits for a ticket and is never started, so that releasing the lock has somebody to
kick. Sources: ``struct kvm_lock_waiting`` of arch/x86/kernel/kvm.c, ``struct xen_lock_waiting`` of
arch/x86/xen/spinlock.c.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, align, label, mem, u32, u64
from pvops.assembler import operands as o
from pvops.assembler import x86 as x
from pvops.assembler.statements import Body

#: The lock, and the ticket that the second CPU waits for.
LOCK, TICKET = "other_lock", 1
_WAITING = "lock_waiting"


def variables() -> Body:
    """For each CPU the lock, and which ticket."""
    return (align(16), label(_WAITING), u64(0), u32(0, 0), u64(addr(LOCK)), u32(TICKET, 0))


def spinning(halt: Body) -> Body:
    """``lock_spinning(lock, want)`` of the first CPU: notes the ticket, looks at it once more, halts."""
    turn = Local("turn")
    return (
        *(x.movl(o.esi, mem(addr(_WAITING) + 8)), x.movq(o.rdi, mem(_WAITING))),
        *(x.movl(o.esi, o.eax), x.cmpb(o.al, mem(0, o.rdi)), x.je(addr(turn)), halt),
        *(label(turn), x.movq(0, mem(_WAITING)), x.ret()),
    )


def kicking(kick: Body) -> Body:
    """``unlock_kick(lock, next)``: kicks the CPU that waits for the ticket, whose number is in ecx."""
    again, following = Local("again"), Local("following")
    return (
        *(x.xorl(o.ecx, o.ecx), label(again), x.movl(o.ecx, o.eax), x.shll(4, o.eax)),
        *(x.cmpq(o.rdi, mem(_WAITING, o.rax)), x.jne(addr(following))),
        *(x.cmpl(o.esi, mem(addr(_WAITING) + 8, o.rax)), x.jne(addr(following)), kick, x.ret()),
        *(label(following), x.incl(o.ecx), x.cmpl(2, o.ecx), x.jb(addr(again)), x.ret()),
    )
