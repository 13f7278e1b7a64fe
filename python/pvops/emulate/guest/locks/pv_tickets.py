"""``pv-ticket-3.12`` and ``pv-ticket-4.0``: Linux's paravirtual ticket locks; the fast path calls nobody.

Tickets count by two, so that a bit is left for the flag: someone may sleep. It is the lowest bit of the tail as merged
(545ac13892ab, 96f853eaa889), of the head since 4.0 (d6abfdb20223).

Sources: arch/x86/include/asm/spinlock.h and arch/x86/kernel/paravirt-spinlocks.c of 3.12 and 4.0. As merged, 3.12 looks
at the lock after it gave it up, which is the bug ``touch-after-release``; the sound form here releases and takes the
flag by one ``cmpxchg``, as the checker has it.
"""

from __future__ import annotations

from functools import partial

from pvops.assembler import Local, addr, label, mem
from pvops.assembler.operands import ax, cx, dx, eax, ecx, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    addl,
    addw,
    andl,
    andw,
    cmpl,
    cmpw,
    cmpxchgl,
    decl,
    je,
    jmp,
    jne,
    lock,
    movl,
    movzwl,
    orl,
    pause,
    shll,
    shrl,
    testl,
    xaddl,
    xaddw,
)
from pvops.emulate.guest.locks import slow
from pvops.emulate.guest.locks.code import Code, Protocol, Variable, exchanged
from pvops.emulate.guest.locks.steps import ARRIVE, LEAVE, At
from pvops.emulate.macros.jump_labels import static_key_false

#: TICKET_LOCK_INC, TICKET_SLOWPATH_FLAG; the flag in the tail as a bit of the whole word.
STEP, FLAG = 2, 1
TAIL_FLAG = FLAG << 16
KEY = "paravirt_ticketlocks_enabled"


def _took(pointer: str, cpu: At) -> tuple[str, ...]:
    """What ``xadd`` tells. With the flag set the first comparison fails, and the loop looks again."""
    word = cpu.number_at(cpu.get(pointer), 4)
    head, tail = word & 0xFFFF, word >> 16
    again = (head | tail) & FLAG and not (head ^ tail) & ~FLAG
    return ("my = xadd(tail, 1)",) if again else ("my = xadd(tail, 1)", "head == my?")


def _acquire(code: Code, name: str, *, flag_in_head: bool) -> Body:
    """arch_spin_lock(): the ticket is in ecx."""
    w = code.w
    again, spin, taken, out = Local("again"), Local("spin"), Local("taken"), Local("out")
    at = mem(0, w.lock)
    first = code.steps(name, (), lock(xaddl(ecx, at)), mark=ARRIVE, when=partial(_took, w.lock.name))
    looked = code.steps(name, "head == my?", movzwl(at, edx))
    bare = (movl(edx, w.kept), andl(~FLAG, w.kept)) if flag_in_head else (movl(edx, w.kept),)
    clear = _clear(code, name, out) if flag_in_head else ()
    return (
        *(movl(STEP << 16, ecx), first, movl(ecx, edx), shrl(16, ecx), cmpw(cx, dx), je(addr(out))),
        () if flag_in_head else andl(~FLAG, ecx),
        *(label(again), movl(code.threshold, eax)),
        *(label(spin), looked, bare, cmpl(ecx, w.kept), je(addr(taken)), pause(), decl(eax), jne(addr(spin))),
        # __ticket_lock_spinning(lock, ticket)
        *(w.mov(w.lock, w.arguments[0]), movl(ecx, w.words[1])),
        code.pv.PVOP_VCALLEE("pv_lock_ops.lock_spinning", *w.arguments[:2]),
        *(jmp(addr(again)), label(taken), clear, label(out)),
    )


def _clear(code: Code, name: str, out: Local) -> Body:
    """__ticket_check_and_clear_slowpath(): the owner clears the flag if nobody is behind it."""
    text, at = "cmpxchg(lock: clear the flag, unless queued)", mem(0, code.w.lock)
    flagged = (testl(FLAG, edx), je(addr(out)))
    if code.planted("wrong-hand-clears"):
        return (*flagged, code.steps(name, text, lock(andw(~FLAG, at))))
    return (
        *(*flagged, movl(ecx, eax), addl(STEP, eax), shll(16, eax), orl(ecx, eax), movl(eax, edx), orl(FLAG, eax)),
        code.steps(name, text, lock(cmpxchgl(edx, at))),
    )


def _kick(code: Code) -> Body:
    """__ticket_unlock_kick(lock, ticket): the ticket is in the second argument."""
    w = code.w
    return (w.mov(w.lock, w.arguments[0]), code.pv.PVOP_VCALL("pv_lock_ops.unlock_kick", *w.arguments[:2]))


def _release(code: Code, name: str, body: Body, text: str) -> Body:
    """arch_spin_unlock(): an ordinary add, unless the key says that waiters may sleep."""
    slowly, done = Local("slowly"), Local("done")
    plain = code.steps(name, text, addw(STEP, mem(0, code.w.lock)), mark=LEAVE)
    away = (label(slowly), label(f"unlock_slowpath.{name}"), body, jmp(addr(done)))
    return (static_key_false(KEY, slowly, code.w.bits), plain, label(done), code.aside(away))


def release_3_12(code: Code, name: str) -> Body:
    """With the flag in the tail."""
    text = "cmpxchg(lock: head + 1; flag, unless queued)"
    if code.planted("touch-after-release"):
        return _release(code, name, _as_merged(code, name), "add(head, 1)")
    if code.planted("kick-before-release"):
        return _release(code, name, _kicks_first(code, name), "add(head, 1)")
    w = code.w
    again, queued, quiet, at = Local("again"), Local("queued"), Local("quiet"), mem(0, w.lock)
    unless = () if code.planted("wrong-hand-clears") else (cmpw(cx, dx), jne(addr(queued)))
    body = (
        *(label(again), movl(at, eax), movl(eax, edx), addw(STEP, dx), movl(edx, ecx), shrl(16, ecx), andl(~FLAG, ecx)),
        *(*unless, andl(~TAIL_FLAG, edx), label(queued)),
        code.steps(name, (), lock(cmpxchgl(edx, at)), mark=LEAVE, when=exchanged(w, text)),
        *(jne(addr(again)), testl(TAIL_FLAG, eax), je(addr(quiet))),
        *(addw(STEP, ax), movzwl(ax, w.words[1]), _kick(code), label(quiet)),
    )
    return _release(code, name, body, text)


def _as_merged(code: Code, name: str) -> Body:
    """3.12 as it was: the flag is read, and cleared, when the lock may be another's or gone."""
    w = code.w
    kick, quiet, at = Local("kick"), Local("quiet"), mem(0, w.lock)
    return (
        code.steps(name, "prev = lock", movl(at, w.kept)),
        code.steps(name, "add(head, 1)", lock(addw(STEP, at)), mark=LEAVE),
        *(code.steps(name, "tail & SLOWPATH?", movzwl(mem(2, w.lock), eax)), testl(FLAG, eax), je(addr(quiet))),
        # __ticket_unlock_slowpath(lock, prev)
        *(addw(STEP, w.kept_half), movl(w.kept, edx), andl(~TAIL_FLAG, edx), movl(edx, ecx), shrl(16, ecx)),
        *(cmpw(cx, dx), jne(addr(kick)), movl(w.kept, eax)),
        *(code.steps(name, "cmpxchg(lock: clear the flag)", lock(cmpxchgl(edx, at))), je(addr(quiet))),
        *(label(kick), movzwl(w.kept_half, w.words[1]), _kick(code), label(quiet)),
    )


def _kicks_first(code: Code, name: str) -> Body:
    """The bug planted: the flag is read before the release, so that a waiter who sets it in between is not kicked."""
    w = code.w
    quiet, at = Local("quiet"), mem(0, w.lock)
    return (
        *(movzwl(at, w.kept), code.steps(name, "tail & SLOWPATH?", movzwl(mem(2, w.lock), eax))),
        code.steps(name, "add(head, 1)", lock(addw(STEP, at)), mark=LEAVE),
        *(testl(FLAG, eax), je(addr(quiet)), addl(STEP, w.kept), movzwl(w.kept_half, w.words[1]), _kick(code)),
        label(quiet),
    )


def release_4_0(code: Code, name: str) -> Body:
    """With the flag in the head: one ``xadd`` releases and brings it."""
    w = code.w
    quiet, at = Local("quiet"), mem(0, w.lock)
    text = "head & SLOWPATH? = xadd(head, 1)"
    take: Body
    if code.planted("kick-before-release"):
        look = code.steps(name, "head & SLOWPATH?", movzwl(at, w.kept))
        take = (look, movl(STEP, eax), code.steps(name, "xadd(head, 1)", lock(xaddw(ax, at)), mark=LEAVE))
    else:
        take = (movl(STEP, eax), code.steps(name, text, lock(xaddw(ax, at)), mark=LEAVE), movzwl(ax, w.kept))
    touch: Body = ()
    if code.planted("touch-after-release"):
        looked = code.steps(name, "tail == my + 1?", movzwl(mem(2, w.lock), edx))
        touch = (looked, movl(w.kept, eax), andl(~FLAG, eax), addl(STEP, eax), cmpw(ax, dx), je(addr(quiet)))
    body = (
        *(take, touch, testl(FLAG, w.kept), je(addr(quiet)), andl(~FLAG, w.kept), addl(STEP, w.kept)),
        *(movzwl(w.kept_half, w.words[1]), _kick(code), label(quiet)),
    )
    return _release(code, name, body, text)


def _ops(backend: str) -> dict[str, str]:
    return {
        "pv_lock_ops.lock_spinning": f"__raw_callee_save_{backend}_lock_spinning",
        "pv_lock_ops.unlock_kick": f"{backend}_unlock_kick",
    }


_SLEEPING = ("kvm", "xen", "hyperv")
#: What each backend fills. One that only takes hints has no waiter that sleeps.
OPS = {"native": {}, **{backend: _ops(backend) for backend in _SLEEPING}, "hyperv-spin": {}}
#: Where waiters are who have spun for long enough.
SLOW = tuple(f"{backend}_lock_spinning" for backend in _SLEEPING)

_MUTANTS = ("kick-before-release", "wrong-hand-clears", "publish-after-look", "no-look-after-publish")


def _variables(flag_in_head: bool) -> dict[str, Variable]:
    return {
        "head": Variable(0, 2, 1, 15),
        "tail": Variable(2, 2, 1, 15),
        "slowpath": Variable(0 if flag_in_head else 2, 2, 0, 1),
        **slow.VARIABLES,
    }


V3_12 = Protocol(
    "pv-ticket-3.12",
    {32: "3.12", 64: "3.12"},
    "tickets, the flag in the tail",
    partial(_acquire, flag_in_head=False),
    release_3_12,
    partial(slow.functions, flag_at=2),
    OPS,
    _variables(False),
    (*_MUTANTS, "touch-after-release"),
    slow=SLOW,
    key=KEY,
    ticket=lambda ticket: (ticket * STEP & 0xFFFF) * 0x10001,
)

V4_0 = V3_12._replace(
    name="pv-ticket-4.0",
    eras={32: "3.15", 64: "3.15"},
    doc="tickets, the flag in the head",
    acquire=partial(_acquire, flag_in_head=True),
    release=release_4_0,
    functions=partial(slow.functions, flag_at=0),
    variables=_variables(True),
)
