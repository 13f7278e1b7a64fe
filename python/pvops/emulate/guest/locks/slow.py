"""The slow path of ticket locks as their backends have it: wait in the hypervisor, and be woken by the one who unlocks.

Sources: arch/x86/kernel/kvm.c (``kvm_lock_spinning()``, ``kvm_unlock_kick()``) and arch/x86/xen/spinlock.c
(``xen_lock_spinning()``, ``xen_unlock_kick()``) of 3.12 and 4.0. ``waiting_cpus``, which only saves looking at CPUs
that do not wait, is left out, as in the checker.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, function, label, mem
from pvops.assembler.operands import eax, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import andl, cmpl, incl, je, jmp, jne, lock, movl, movzwl, orw, shll, testl, xorl
from pvops.emulate.guest.locks import hypervisor
from pvops.emulate.guest.locks.code import IF, KICKER, NUMBER, PER_CPU_SHIFT, W_LOCK, W_WANT, Code, Variable

FLAG = 1

VARIABLES = {
    "w.lock": Variable(W_LOCK, 4, bits=1, own=True, pointer=True),
    "w.want": Variable(W_WANT, 4, 1, 15, own=True),
}


def functions(code: Code, backend: str, *, flag_at: int) -> Body:
    """``lock_spinning`` with its thunk, and ``unlock_kick``; nothing on bare hardware."""
    if backend in ("native", "hyperv-spin"):
        return ()
    name = f"{backend}_lock_spinning"
    return (
        function(name, code.w.keeping(_lock_spinning(code, backend, flag_at))),
        code.pv.PV_CALLEE_SAVE_REGS_THUNK(name),
        function(f"{backend}_unlock_kick", code.w.keeping(_unlock_kick(code, backend))),
    )


def _lock_spinning(code: Code, backend: str, flag_at: int) -> Body:
    """Says what it waits for, sets the flag, looks once more, sleeps. The lock is in `kept`, the ticket in `also`."""
    w, steps = code.w, code.steps
    out, early, leave, off = (Local(name) for name in ("out", "early", "leave", "off"))
    name = "the_lock"
    at = mem(0, w.kept_word)
    bare = (andl(~FLAG, eax),) if flag_at == 0 else ()

    def look(to: Local) -> Body:
        read = steps(name, "the last look: head == my?", movzwl(at, eax))
        return (read, *bare, cmpl(w.also, eax), je(addr(to)))

    body: list[Body] = [w.mov(w.arguments[0], w.kept_word), movl(w.words[1], w.also)]
    if backend == "xen":
        # If the kicker's interrupt is not bound yet: just spin.
        body += [cmpl(-1, w.own(KICKER)), je(addr(leave))]
    body += [code.pv.raw_local_save_flags(), w.mov(w.result, w.turns_word), code.pv.raw_local_irq_disable()]
    if code.planted("publish-after-look"):
        body.append(look(early))
    body += [
        steps(name, "w.lock = NULL", w.store(0, w.own(W_LOCK))),
        steps(name, "w.want = my", movl(w.also, w.own(W_WANT))),
        steps(name, "w.lock = lock", w.mov(w.kept_word, w.own(W_LOCK))),
        steps(name, "set the slowpath flag", lock(orw(FLAG, mem(flag_at, w.kept_word)))),
    ]
    if backend == "xen":
        body.append(hypervisor.clear_pending(w))
    if code.mutant not in ("publish-after-look", "no-look-after-publish"):
        body.append(look(out))
    if backend == "xen":
        # Interrupts may come while it sleeps; one that comes before leaves the event pending.
        body += [*restored(code), hypervisor.poll(w)]
    elif backend == "hyperv":
        body.append(hypervisor.sleep(code, backend))
    else:
        slept = (code.pv.PVOP_VCALL("pv_irq_ops.halt"), jmp(addr(out)), label(off))
        body += [testl(IF, w.turns), jne(addr(off)), *slept, code.pv.PVOP_VCALL("pv_irq_ops.safe_halt")]
    body += [label(out), steps(name, "w.lock = NULL", w.store(0, w.own(W_LOCK)))]
    body += [label(early), *restored(code), label(leave)]
    return body


def restored(code: Code) -> tuple[Body, ...]:
    """local_irq_restore(): the flags are in `turns`."""
    w = code.w
    return (w.mov(w.turns_word, w.result if w.bits == 32 else w.arguments[0]), code.pv.raw_local_irq_restore())


def _unlock_kick(code: Code, backend: str) -> Body:
    """Looks through the CPUs for the one that waits for this ticket of this lock, and kicks it."""
    w, steps, name = code.w, code.steps, "the_lock"
    again, following, done = Local("again"), Local("following"), Local("done")
    base = addr("per_cpu_areas")
    return (
        *(w.mov(w.arguments[0], w.kept_word), movl(w.words[1], w.also), xorl(edx, edx)),
        *(label(again), cmpl(mem("nr_cpus"), edx), je(addr(done)), cmpl(edx, w.own(NUMBER)), je(addr(following))),
        *(movl(edx, eax), shll(PER_CPU_SHIFT, eax)),
        *(steps(name, "its w.lock == lock?", w.cmp(w.kept_word, mem(base + W_LOCK, w.result))), jne(addr(following))),
        *(steps(name, "its w.want == my + 1?", cmpl(w.also, mem(base + W_WANT, w.result))), jne(addr(following))),
        *(hypervisor.kick(code, backend), jmp(addr(done))),
        *(label(following), incl(edx), jmp(addr(again)), label(done)),
    )
