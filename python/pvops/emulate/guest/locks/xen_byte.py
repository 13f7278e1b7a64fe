"""``xen-byte-2.6.27``: all of the lock behind ``pv_lock_ops``, and below Xen another lock: a byte, and who spins on it.

Source: arch/x86/xen/spinlock.c of 2.6.27, with the repair of later kernels: the unlocker kicks everybody who
spins, not the first one found (which only hangs where an interrupt handler waits for another CPU). On bare hardware,
and below KVM, which fills none of these ops, it is the ticket lock of 2.6.25, now behind a call.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, function, label, mem
from pvops.assembler.operands import al, eax, ecx, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    btl,
    btsl,
    call,
    cmpb,
    cmpl,
    cmpw,
    decl,
    decw,
    incl,
    incw,
    je,
    jmp,
    jnc,
    jne,
    lock,
    mfence,
    movb,
    movl,
    pause,
    ret,
    shll,
    testb,
    testl,
    xchgb,
    xorl,
)
from pvops.emulate.abi.xen import EVTCHN_PENDING
from pvops.emulate.guest.locks import hypervisor, ticket_2_6_25
from pvops.emulate.guest.locks.code import KICKER, NUMBER, PER_CPU_SHIFT, W_LOCK, Code, Protocol, Variable
from pvops.emulate.guest.locks.steps import ARRIVE, LEAVE, At, Texts

#: struct xen_spinlock { unsigned char lock; unsigned short spinners; }, and ``lock_spinners`` of each CPU.
SPINNERS = 2
SPINNING = W_LOCK
NAME = "the_lock"


def _acquire(code: Code, name: str) -> Body:
    w = code.w
    return (w.mov(w.lock, w.arguments[0]), code.pv.PVOP_VCALL("pv_lock_ops.spin_lock", w.arguments[0]))


def _release(code: Code, name: str) -> Body:
    w = code.w
    return (w.mov(w.lock, w.arguments[0]), code.pv.PVOP_VCALL("pv_lock_ops.spin_unlock", w.arguments[0]))


def _functions(code: Code, backend: str) -> Body:
    if backend != "xen":
        return ()
    return (
        function("xen_spin_lock", code.w.keeping(_lock(code))),
        function("xen_spin_lock_slow", _slow(code)),
        function("xen_spin_unlock", code.w.keeping(_unlock(code))),
    )


def _exchange(code: Code, mark: str = "") -> Body:
    """One try: ``xchgb`` of the lock's byte."""
    return (
        movl(1, eax),
        code.steps(NAME, "old = xchg(lock, 1)", xchgb(al, mem(0, code.w.lock)), mark=mark),
        testb(al, al),
    )


def _lock(code: Code) -> Body:
    """xen_spin_lock(): spins for a while, then sleeps, and tries again."""
    w = code.w
    anew, again, wait, taken = (Local(name) for name in ("anew", "1", "2", "3"))
    return (
        *(w.mov(w.arguments[0], w.lock), label(anew), movl(code.threshold, ecx)),
        *(label(again), _exchange(code, ARRIVE), je(addr(taken))),
        *(label(wait), pause(), cmpb(0, mem(0, w.lock)), je(addr(again)), decl(ecx), jne(addr(wait))),
        *(call("xen_spin_lock_slow"), testl(eax, eax), je(addr(anew)), label(taken)),
    )


def _nested(code: Code, text: str, outside: str = "") -> Texts:
    """The line of a handler's wait, and that of any other."""

    def told(cpu: At) -> tuple[str, ...]:
        line = text if cpu.get(code.w.lock.name) == code.symbols["irq_lock"] else outside
        return (line,) if line else ()

    return told


def _slow(code: Code) -> Body:
    """xen_spin_lock_slow(): says on which lock it spins, tries once more, polls. 1 where it has the lock."""
    w, steps = code.w, code.steps
    again, poll, out, gone = (Local(name) for name in ("again", "poll", "out", "gone"))
    pending = mem(addr("xen_shared_info") + EVTCHN_PENDING)
    # Before 168d2f464ab9 a nested interrupt left behind that its CPU spins on nothing.
    forgets = code.planted("nested-interrupt-slot")
    restored = w.store(0, w.own(SPINNING)) if forgets else w.mov(w.kept_word, w.own(SPINNING))
    line = _nested(code, "spinning on = none" if forgets else "spinning on = previous", "spinning on = none")

    def looks_again() -> Body:
        return steps(NAME, (), lock(btsl(eax, pending)), when=_nested(code, "pending = 1"))

    return (
        *(xorl(eax, eax), cmpl(-1, w.own(KICKER)), je(addr(gone))),
        # spinning_lock(): what it spun on before is in `kept`.
        *(
            steps(NAME, (), w.mov(w.own(SPINNING), w.kept_word), when=_nested(code, "previous = spinning on")),
            steps(NAME, "spinning on = this lock", w.mov(w.lock, w.own(SPINNING))),
        ),
        steps(NAME, "spinners += 1", lock(incw(mem(SPINNERS, w.lock)))),
        *(label(again), hypervisor.clear_pending(w, lambda i: steps(NAME, "pending = 0", i))),
        *(_exchange(code), jne(addr(poll)), movl(1, w.also)),
        # The spinner that was interrupted must look again: this kick may have been meant for it.
        () if forgets else (w.cmp(0, w.kept_word), je(addr(out)), movl(w.own(KICKER), eax), looks_again()),
        jmp(addr(out)),
        *(label(poll), w.push(w.lock), hypervisor.poll(w), w.pop(w.lock), xorl(w.also, w.also)),
        *(movl(w.own(KICKER), eax), steps(NAME, "poll: pending?", btl(eax, pending)), jnc(addr(again))),
        *(label(out), steps(NAME, "spinners -= 1", lock(decw(mem(SPINNERS, w.lock))))),
        steps(NAME, (), restored, when=line),
        *(movl(w.also, eax), label(gone), ret()),
    )


def _unlock(code: Code) -> Body:
    """xen_spin_unlock(): a store, and a look for those who spin."""
    w, steps = code.w, code.steps
    done, slowly = Local("done"), Local("slowly")
    at = mem(SPINNERS, w.lock)

    def look() -> Body:
        return steps(NAME, "spinners?", cmpw(0, at))

    first = code.planted("kick-before-release")
    released = steps(NAME, "lock = 0", movb(0, mem(0, w.lock)), mark=LEAVE)
    # Added by 2496afbf1e50.
    fence = () if code.planted("missing-fence") else steps(NAME, "mfence", mfence())
    if first:
        # The store and mfence change no flags.
        body: Body = (look(), released, fence, je(addr(done)))
    else:
        body = (released, fence, look(), je(addr(done)))
    return (w.mov(w.arguments[0], w.lock), body, label(slowly), _kick(code, done), label(done))


def _kick(code: Code, done: Local) -> Body:
    """xen_spin_unlock_slow()."""
    w, steps = code.w, code.steps
    again, following = Local("again"), Local("following")
    spins = mem(addr("per_cpu_areas") + SPINNING, w.result)
    return (
        *(w.mov(w.lock, w.kept_word), xorl(w.also, w.also)),
        *(label(again), cmpl(mem("nr_cpus"), w.also), je(addr(done)), cmpl(w.also, w.own(NUMBER)), je(addr(following))),
        *(movl(w.also, eax), shll(PER_CPU_SHIFT, eax)),
        *(steps(NAME, "does it spin on this lock?", w.cmp(w.kept_word, spins)), jne(addr(following))),
        *(movl(w.also, edx), hypervisor.kick(code, "xen")),
        *(label(following), incl(w.also), jmp(addr(again))),
    )


PROTOCOL = Protocol(
    "xen-byte-2.6.27",
    {32: "2.6.27", 64: "2.6.33"},
    "the whole lock is replaced: a byte, which anyone may take, and those who spin on it",
    _acquire,
    _release,
    _functions,
    {
        "native": {},
        "kvm": {},
        "xen": {"pv_lock_ops.spin_lock": "xen_spin_lock", "pv_lock_ops.spin_unlock": "xen_spin_unlock"},
    },
    {
        "lock": Variable(0, 1, bits=1),
        "spinners": Variable(SPINNERS, 2, bits=3),
        "spinning on": Variable(SPINNING, 4, bits=2, own=True, pointer=True),
    },
    ("kick-before-release", "missing-fence", "nested-interrupt-slot"),
    fifo=False,
    no_touch=False,
    natives=ticket_2_6_25.natives,
    slow=("xen_spin_lock_slow",),
    slept="",
)
