"""``pv-ticket-sym``: this project's own lock. Nothing is in it but the two tickets.

The flag is a bit of a slot in a table beside the locks. The release is one ``xchg`` and a look at the slot of the next
ticket: src/lock/pv_ticket.rs without ``membarrier()``, for which a kernel's CPUs would have to interrupt each other.
A CPU notes the slot on which it sleeps, and the CPU that clears a slot's bit kicks all of those: FUTEX_WAIT and
FUTEX_WAKE by means of a hypervisor's sleep and kick.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, function, label, mem
from pvops.assembler.operands import eax, ecx, edx, rdx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    andl,
    cmpl,
    cmpxchgl,
    decl,
    incl,
    je,
    jmp,
    jne,
    leal,
    lock,
    movl,
    orl,
    pause,
    shll,
    testl,
    xaddl,
    xchgl,
    xorl,
)
from pvops.emulate.guest.locks import hypervisor
from pvops.emulate.guest.locks.code import NUMBER, PER_CPU_SHIFT, W_LOCK, W_WANT, Code, Protocol, Variable
from pvops.emulate.guest.locks.pv_tickets import OPS, SLOW
from pvops.emulate.guest.locks.slow import restored
from pvops.emulate.guest.locks.steps import ARRIVE, LEAVE, At

TAIL, HEAD = 0, 4
#: Slots, as few as make waiters share them; where they lie behind the lock, on a cache line of their own.
SLOTS, TABLE = 2, 64
PARKED = 1
NAME = "the_lock"


def slots(mutant: str | None) -> int:
    """How many slots a guest has: one for the bugs that only waiters of one slot show."""
    return 1 if mutant in ("one-slot-for-all", "wake-before-clear", "wrong-hand-clears") else SLOTS


def _acquire(code: Code, name: str) -> Body:
    """The ticket is in ecx."""
    w = code.w
    again, spin, out = Local("again"), Local("spin"), Local("out")
    head = mem(HEAD, w.lock)
    return (
        *(movl(1, ecx), code.steps(name, "my = xadd(tail, 1)", lock(xaddl(ecx, mem(TAIL, w.lock))), mark=ARRIVE)),
        *(code.steps(name, "head == my?", cmpl(ecx, head)), je(addr(out)), label(again), movl(code.threshold, eax)),
        *(label(spin), code.steps(name, "head == my?", cmpl(ecx, head)), je(addr(out))),
        *(pause(), decl(eax), jne(addr(spin)), w.mov(w.lock, w.arguments[0]), movl(ecx, w.words[1])),
        code.pv.PVOP_VCALLEE("pv_lock_ops.lock_spinning", *w.arguments[:2]),
        *(jmp(addr(again)), label(out)),
    )


def _release(code: Code, name: str) -> Body:
    """``head = my + 1``, and a look at the next one's slot."""
    w = code.w
    slowly, done = Local("slowly"), Local("done")
    index = rdx if w.bits == 64 else edx
    slot = mem(addr("slots"), None, index, 4)
    if code.planted("missing-fence"):
        release = code.steps(name, "head = my + 1", movl(eax, mem(HEAD, w.lock)), mark=LEAVE)
    else:
        release = code.steps(name, "xchg(head, my + 1)", xchgl(eax, mem(HEAD, w.lock)), mark=LEAVE)
    after = (movl(mem(HEAD, w.lock), eax), incl(eax), movl(eax, w.kept))

    def quiet(cpu: At) -> tuple[str, ...]:
        """Where the next is parked, the slow path looks again and goes by what it sees there."""
        at = code.slots() + 4 * (cpu.get(index.name) & slots(code.mutant) - 1)
        return () if cpu.number_at(at, 4) & PARKED else ("is slot(my + 1) parked?",)

    look = code.steps(name, (), testl(PARKED, slot), when=quiet)
    chosen = (movl(w.kept, edx), andl(slots(code.mutant) - 1, edx))
    kick = (
        w.mov(w.lock, w.arguments[0]),
        movl(w.kept, w.words[1]),
        code.pv.PVOP_VCALL("pv_lock_ops.unlock_kick", *w.arguments[:2]),
    )
    if code.planted("kick-before-release"):
        away = (label(slowly), label(f"unlock_slowpath.{name}"), kick, jmp(addr(done)))
        return (*after, *chosen, look, jne(addr(slowly)), label(done), movl(w.kept, eax), release, code.aside(away))
    touch: Body = ()
    if code.planted("touch-after-release"):
        looked = code.steps(name, "tail == my + 1?", cmpl(w.kept, mem(TAIL, w.lock)))
        touch = (looked, je(addr(done)))
    away = (label(slowly), label(f"unlock_slowpath.{name}"), kick, jmp(addr(done)))
    return (*after, release, touch, *chosen, look, jne(addr(slowly)), label(done), code.aside(away))


def _functions(code: Code, backend: str) -> Body:
    if backend in ("native", "hyperv-spin"):
        return ()
    name = f"{backend}_lock_spinning"
    return (
        function(name, code.w.keeping(_lock_spinning(code, backend))),
        code.pv.PV_CALLEE_SAVE_REGS_THUNK(name),
        function(f"{backend}_unlock_kick", code.w.keeping(_unlock_kick(code, backend))),
    )


def _slot(code: Code) -> Body:
    """The address of a ticket's slot into `lock`; the ticket is in `also`."""
    w = code.w
    index = rdx if w.bits == 64 else edx
    return (movl(w.also, edx), andl(slots(code.mutant) - 1, edx), w.lea(mem(addr("slots"), None, index, 4), w.lock))


def _lock_spinning(code: Code, backend: str) -> Body:
    """Notes the slot, sets its bit, looks once more, and sleeps until the slot is another."""
    w, steps = code.w, code.steps
    again, asleep, out = Local("again"), Local("asleep"), Local("out")
    slot = mem(0, w.lock)

    def look() -> Body:
        read = steps(NAME, "the last look: head == my?", cmpl(w.also, mem(HEAD, w.kept_word)))
        return (read, je(addr(out)))

    def exchanged(cpu: At) -> tuple[str, ...]:
        same = cpu.number_at(cpu.get(w.lock.name), 4) == cpu.get("eax")
        return ("published = fetch_or(slot(my), PARKED)",) if same else ()

    def waits(cpu: At) -> tuple[str, ...]:
        """It need not sleep where a CPU has claimed it before."""
        same = cpu.number_at(cpu.get(w.lock.name), 4) == cpu.get(w.turns_word.name) & 0xFFFFFFFF
        own = code.symbols["per_cpu_areas"] + (cpu.number << PER_CPU_SHIFT)
        claimed = cpu.number_at(own + W_LOCK, w.bits // 8) == 0
        return ("futex_wait(slot(my), published | PARKED)", *(("(awake)",) if same and claimed else ()))

    body: list[Body] = [w.mov(w.arguments[0], w.kept_word), movl(w.words[1], w.also), _slot(code)]
    body += [code.pv.raw_local_save_flags(), w.push(w.result), code.pv.raw_local_irq_disable()]
    if code.planted("publish-after-look"):

        def fails(cpu: At) -> tuple[str, ...]:
            """Where it has its turn, the lock looks again, and goes by what it sees there."""
            turn = cpu.number_at(cpu.get(w.kept_word.name) + HEAD, 4) == cpu.get(w.also_word.name) & 0xFFFFFFFF
            return () if turn else ("the last look: head == my?",)

        early = steps(NAME, (), cmpl(w.also, mem(HEAD, w.kept_word)), when=fails)
        body += [early, je(addr(out))]
    body += [movl(0, w.own(W_WANT)), w.mov(w.lock, w.own(W_LOCK))]
    if backend == "xen":
        body.append(hypervisor.clear_pending(w))
    # published | PARKED is in `turns`.
    body += [label(again), movl(slot, eax), movl(eax, w.turns), orl(PARKED, w.turns)]
    body += [steps(NAME, (), lock(cmpxchgl(w.turns, slot)), when=exchanged), jne(addr(again))]
    if code.mutant not in ("publish-after-look", "no-look-after-publish"):
        body.append(look())
    # A full barrier: who clears the bit looks at W_WANT after it, and this CPU at the slot after W_WANT.
    body += [movl(w.turns, eax), xchgl(eax, w.own(W_WANT))]
    body += [steps(NAME, (), cmpl(w.turns, slot), when=waits), jne(addr(out))]
    body.append(label(asleep))
    if backend == "xen":
        body += [w.push(w.lock), hypervisor.poll(w), w.pop(w.lock), hypervisor.clear_pending(w)]
    else:
        # A kick ends the sleep though interrupts are off: no handler runs between the last look and the sleep.
        body.append(hypervisor.sleep(code, backend))
    # The CPU that kicks it for its slot clears W_LOCK first: until then another event has ended its sleep.
    body += [w.cmp(0, w.own(W_LOCK)), jne(addr(asleep)), label(out)]
    if code.planted("wrong-hand-clears"):
        body.append(steps(NAME, "fetch_and(slot(my), !PARKED)", lock(andl(~PARKED, slot))))
    body += [w.store(0, w.own(W_LOCK)), w.pop(w.turns_word), *restored(code)]
    return body


def _unlock_kick(code: Code, backend: str) -> Body:
    """Clears the bit and begins the next epoch; then kicks all who sleep on the slot."""
    w, steps = code.w, code.steps
    again, done = Local("again"), Local("done")
    slot = mem(0, w.lock)
    look = steps(NAME, "is slot(my + 1) parked?", movl(slot, eax))

    def clear() -> Body:
        return steps(NAME, "found = cas(slot: clear PARKED, next epoch)", lock(cmpxchgl(ecx, slot)))

    # Interrupts are off: a handler might wait for one that sleeps, whose bit is cleared, and who is not yet kicked.
    body: list[Body] = [movl(w.words[1], w.also), code.pv.raw_local_save_flags(), w.push(w.result)]
    body += [code.pv.raw_local_irq_disable(), _slot(code), label(again), look, testl(PARKED, eax), je(addr(done))]
    if code.planted("wake-before-clear"):
        body += [_wake(code, backend), movl(w.turns, eax), leal(mem(1, w.result), ecx), clear()]
        body += [jne(addr(again))]
    else:
        body += [leal(mem(1, w.result), ecx), clear(), jne(addr(again)), _wake(code, backend)]
    return (*body, label(done), w.pop(w.turns_word), *restored(code))


def _wake(code: Code, backend: str) -> Body:
    """Kicks every CPU that sleeps on this slot as it was, which is in eax; a bug kicks the first one alone."""
    w, steps = code.w, code.steps
    again, following, done = Local("again"), Local("following"), Local("done")
    one = code.planted("one-slot-for-all")
    text = f"futex_wake(slot, {'one' if one else 'all'})"
    after: Body = (jmp(addr(done)),) if one else ()

    def claims(cpu: At) -> tuple[str, ...]:
        """Whoever sleeps on it is woken: nothing else ends its sleep from here on."""
        same = cpu.number_at(cpu.get(w.lock.name), w.bits // 8) == cpu.get(w.result.name)
        return (f"(wakes T{cpu.get(w.also_word.name)})",) if same else ()

    sleeps, published = (mem(addr("per_cpu_areas") + at, w.result) for at in (W_LOCK, W_WANT))
    return (
        *(w.mov(w.lock, w.kept_word), movl(eax, w.turns), steps(NAME, text, xorl(w.also, w.also))),
        *(label(again), cmpl(mem("nr_cpus"), w.also), je(addr(done)), cmpl(w.also, w.own(NUMBER)), je(addr(following))),
        # Out of those who sleep on it, if it still is one of them.
        *(movl(w.also, eax), shll(PER_CPU_SHIFT, eax), cmpl(w.turns, published), jne(addr(following))),
        *(w.lea(sleeps, w.lock), w.mov(w.kept_word, w.result)),
        *(xorl(edx, edx), steps(NAME, (), w.cmpxchg_dx(mem(0, w.lock)), when=claims), jne(addr(following))),
        *(movl(w.also, edx), hypervisor.kick(code, backend, text=""), after),
        *(label(following), incl(w.also), jmp(addr(again)), label(done), w.mov(w.kept_word, w.lock)),
    )


PROTOCOL = Protocol(
    "pv-ticket-sym",
    {32: "3.15", 64: "3.15"},
    "tickets alone; who sleeps is in a table beside the locks",
    _acquire,
    _release,
    _functions,
    OPS,
    {"tail": Variable(TAIL, 4), "head": Variable(HEAD, 4)},
    (
        *("kick-before-release", "wrong-hand-clears", "publish-after-look", "no-look-after-publish"),
        *("missing-fence", "wake-before-clear", "touch-after-release", "one-slot-for-all"),
    ),
    slots=slots,
    slow=SLOW,
    slept="",
    ticket=lambda ticket: (ticket & 0xFFFFFFFF) * 0x1_0000_0001,
)
