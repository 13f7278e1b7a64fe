"""``ticket-callout-2010``: the counter-proposal of 2010: ticket locks whose slow paths alternatives call out of.

Jan Beulich's "x86: enlightenment for ticket spin locks" has "(alternative instructions based) callout hooks" in the
contended path of the lock and in its release: where the kernel finds itself in a virtual machine, a feature bit has a
call put there. The text of that series is not at hand: this is what the thread says of it, on 2.6.34, the first kernel
whose ``apply_alternatives()`` moves a call (1b1d9258181b). So the hooks are calls on every contended turn and on every
release, and natively a nop beside the plain instruction.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, data, function, label, mem
from pvops.assembler.operands import al, ch, cl, cx, eax, ecx, edx, r8, r9, r10, r11, rax, rcx, rdi, rdx, rsi
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    addl,
    call,
    cmpb,
    cmpl,
    incb,
    incl,
    jb,
    je,
    jmp,
    jne,
    lock,
    movb,
    movl,
    movzbl,
    pause,
    ret,
    shll,
    xaddb,
    xaddw,
    xorl,
)
from pvops.emulate.guest.locks import hypervisor
from pvops.emulate.guest.locks.code import COUNT, NUMBER, PER_CPU_SHIFT, W_LOCK, W_WANT, Code, Protocol, Variable
from pvops.emulate.guest.locks.slow import restored
from pvops.emulate.guest.locks.steps import ARRIVE, LEAVE
from pvops.emulate.macros.alternatives import Alternatives

#: A bit of the kernel's own word of features (3) that 2.6.34 has no name for.
ENLIGHTENED = 3 * 32 + 31
#: Bytes of a call.
_CALL = 5
_SAVED = {32: (eax, ecx, edx), 64: (rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11)}
NAME = "the_lock"


def _hook(code: Code, old: Body, length: int, target: str) -> Body:
    """An alternative: an instruction and nops, or a call."""
    filled = (old, data(b"\x90" * (_CALL - length)))
    return Alternatives(code.pv.era, code.w.bits).ALTERNATIVE(filled, call(target), ENLIGHTENED)


def _acquire(code: Code, name: str) -> Body:
    """The ticket is in ch, and who is served in cl."""
    spin, taken = Local("1"), Local("2")
    at = mem(0, code.w.lock)
    return (
        *(movl(0x100, ecx), code.steps(name, "my = xadd(tail, 1)", lock(xaddw(cx, at)), mark=ARRIVE)),
        *(label(spin), cmpb(cl, ch), je(addr(taken)), _hook(code, pause(), 2, "virt_spin_wait")),
        *(movb(at, cl), jmp(addr(spin)), label(taken)),
    )


def _release(code: Code, name: str) -> Body:
    return _hook(code, code.steps(name, "head = my + 1", incb(mem(0, code.w.lock)), mark=LEAVE), 2, "virt_spin_unlock")


def _functions(code: Code, backend: str) -> Body:
    if backend == "native":
        return (function("virt_spin_wait", _wait(code)), function("virt_spin_unlock", _unlock(code)))
    return (
        function(f"{backend}_spin_wait", code.w.keeping(_block(code, backend))),
        function(f"{backend}_spin_kick", code.w.keeping(_kick(code, backend))),
    )


def _saving(code: Code, body: Body) -> Body:
    """Registers are the interrupted code's: a hook changes none."""
    w, saved = code.w, _SAVED[code.w.bits]
    return (*(w.push(r) for r in saved), body, *(w.pop(r) for r in reversed(saved)), ret())


def _wait(code: Code) -> Body:
    """The hook of a contended turn: after enough of them, to the hypervisor's function."""
    w = code.w
    soon = Local("soon")
    body = (
        *(incl(w.own(COUNT)), cmpl(code.threshold, w.own(COUNT)), jb(addr(soon)), movl(0, w.own(COUNT))),
        *(movzbl(ch, eax), movl(eax, w.words[1]), w.mov(w.lock, w.arguments[0]), call(mem("virt_spin_wait_fn"))),
        *(label(soon), pause()),
    )
    return _saving(code, body)


def _unlock(code: Code) -> Body:
    """The hook of a release: it releases, and looks for a CPU to kick."""
    w = code.w
    body = (
        *(movl(1, eax), code.steps(NAME, "head = my + 1", lock(xaddb(al, mem(0, w.lock))), mark=LEAVE)),
        *(incb(al), movzbl(al, edx), movl(edx, w.words[1]), w.mov(w.lock, w.arguments[0])),
        call(mem("virt_spin_kick_fn")),
    )
    return _saving(code, body)


def _block(code: Code, backend: str) -> Body:
    """Says what it waits for, looks once more, and sleeps."""
    w = code.w
    out = Local("out")
    body: list[Body] = [w.mov(w.arguments[0], w.kept_word), movl(w.words[1], w.also)]
    body += [code.pv.raw_local_save_flags(), w.mov(w.result, w.turns_word), code.pv.raw_local_irq_disable()]
    body += [w.store(0, w.own(W_LOCK)), movl(w.also, w.own(W_WANT)), w.mov(w.kept_word, w.own(W_LOCK))]
    if backend == "xen":
        body.append(hypervisor.clear_pending(w))
    look = (lock(addl(0, mem(0, w.stack))), movzbl(mem(0, w.kept_word), eax), cmpl(w.also, eax), je(addr(out)))
    if not code.planted("no-look-after-publish"):
        body.append(look)
    # With interrupts off: no handler overwrites what this CPU says that it waits for.
    body.append(hypervisor.sleep(code, backend))
    body += [label(out), w.store(0, w.own(W_LOCK)), *restored(code)]
    return body


def _kick(code: Code, backend: str) -> Body:
    """Looks through the CPUs on every release: no flag in the lock says that somebody sleeps."""
    w = code.w
    again, following, done = Local("again"), Local("following"), Local("done")
    base = addr("per_cpu_areas")
    return (
        *(w.mov(w.arguments[0], w.kept_word), movl(w.words[1], w.also), xorl(edx, edx)),
        *(label(again), cmpl(mem("nr_cpus"), edx), je(addr(done)), cmpl(edx, w.own(NUMBER)), je(addr(following))),
        *(movl(edx, eax), shll(PER_CPU_SHIFT, eax)),
        *(w.cmp(w.kept_word, mem(base + W_LOCK, w.result)), jne(addr(following))),
        *(cmpl(w.also, mem(base + W_WANT, w.result)), jne(addr(following))),
        *(hypervisor.kick(code, backend, text=""), jmp(addr(done))),
        *(label(following), incl(edx), jmp(addr(again)), label(done)),
    )


PROTOCOL = Protocol(
    "ticket-callout-2010",
    {32: "2.6.34", 64: "2.6.34"},
    "tickets of a byte; alternatives call out of the contended path and of the release",
    _acquire,
    _release,
    _functions,
    {"native": {}, "kvm": {}, "xen": {}},
    {"head": Variable(0, 1, bits=8), "tail": Variable(1, 1, bits=8)},
    ("no-look-after-publish",),
    slow=("kvm_spin_wait", "xen_spin_wait"),
    slept="",
    features={"kvm": (ENLIGHTENED,), "xen": (ENLIGHTENED,)},
    pointers={
        backend: {"virt_spin_wait_fn": f"{backend}_spin_wait", "virt_spin_kick_fn": f"{backend}_spin_kick"}
        for backend in ("kvm", "xen")
    },
    ticket=lambda ticket: (ticket & 0xFF) * 0x101,
)
