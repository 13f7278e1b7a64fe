"""``ticket-2.6.25``: Nick Piggin's ticket lock (314cdbefd1fd), two bytes: who waits spins, and nobody is called.

Source: include/asm-x86/spinlock.h of 2.6.25, ``__raw_spin_lock()`` for fewer than 256 CPUs.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, label, mem
from pvops.assembler.operands import ch, cl, cx, ecx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import cmpb, incb, incw, je, jmp, lock, movb, movl, pause, ret, xaddw
from pvops.emulate.guest.locks.code import Code, Protocol, Variable
from pvops.emulate.guest.locks.steps import ARRIVE, LEAVE


def acquire(code: Code, name: str) -> Body:
    """``lock xaddw``, and a loop of loads."""
    spin, taken = Local("1"), Local("2")
    at = mem(0, code.w.lock)
    took = ("my = xadd(tail, 1)", "head == my?")
    return (
        movl(0x100, ecx),
        code.steps(name, took, lock(xaddw(cx, at)), mark=ARRIVE),
        *(label(spin), cmpb(cl, ch), je(addr(taken)), pause()),
        *(code.steps(name, "head == my?", movb(at, cl)), jmp(addr(spin)), label(taken)),
    )


def release(code: Code, name: str) -> Body:
    """``incb``; a bug of 2008 added to the whole word, and the carry went into the tail."""
    at = mem(0, code.w.lock)
    if code.planted("ticket-wrap"):
        return code.steps(name, "lock: add 1, the carry goes into tail", incw(at), mark=LEAVE)
    return code.steps(name, "head = my + 1", incb(at), mark=LEAVE)


def natives(code: Code) -> dict[str, Body]:
    """The functions of ``pv_lock_ops`` of 2.6.27 on bare hardware, which take the lock's address."""
    w = code.w
    moved = w.mov(w.arguments[0], w.lock)
    return {
        "__ticket_spin_lock": (w.push(w.lock), moved, acquire(code, "the_lock"), w.pop(w.lock), ret()),
        "__ticket_spin_unlock": (w.push(w.lock), moved, release(code, "the_lock"), w.pop(w.lock), ret()),
    }


PROTOCOL = Protocol(
    "ticket-2.6.25",
    {32: "2.6.26", 64: "2.6.33"},
    "tickets of a byte; whoever waits spins",
    acquire,
    release,
    lambda code, backend: (),
    {"native": {}, "kvm": {}, "xen": {}},
    {"head": Variable(0, 1, bits=8), "tail": Variable(1, 1, bits=8)},
    ("ticket-wrap",),
    ticket=lambda ticket: (ticket & 0xFF) * 0x101,
)
