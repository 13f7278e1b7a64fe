"""What a lock asks its hypervisor for: to sleep until it is kicked, and to kick; and the irq ops of a PV guest.

Sources: include/uapi/linux/kvm_para.h and arch/x86/kernel/kvm.c (``kvm_kick_cpu()``); drivers/xen/events (
``xen_poll_irq()``, ``xen_clear_irq_pending()``, ``xen_send_IPI_one()``) and arch/x86/xen/xen-asm.S of 3.12.
"""

from __future__ import annotations

from collections.abc import Callable

from pvops.assembler import addr, function, label, mem
from pvops.assembler.operands import eax, ebx, ecx, edx, r8, r9, r10, r11, rax, rcx, rdi, rdx, rsi
from pvops.assembler.statements import Body
from pvops.assembler.x86 import btrl, call, lock, movl, popl, popq, pushl, pushq, ret, shll, vmcall, xorl
from pvops.backends.xen_direct import direct
from pvops.emulate.abi.kvm import KICK_CPU
from pvops.emulate.abi.xen import EVENT_CHANNEL_OP, EVTCHN_PENDING, EVTCHN_SEND, SCHED_OP, SCHEDOP_POLL, XEN_VERSION
from pvops.emulate.guest.locks import hyperv
from pvops.emulate.guest.locks.code import KICKER, PER_CPU_SHIFT, Code
from pvops.emulate.guest.locks.width import Width

_SAVED = {32: (eax, ecx, edx), 64: (rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11)}


def kick(code: Code, backend: str, text: str = "kick it") -> Body:
    """Kicks the CPU whose number is in edx; it changes all that calls may, and `lock`. `text`: the model's line."""
    w = code.w
    texts = (text,) if text else ()
    if backend == "hyperv":
        return hyperv.kick(code, lambda instruction: code.steps("the_lock", texts, instruction, kicks=True))
    if backend == "kvm":
        # kvm_hypercall2(KVM_HC_KICK_CPU, flags, apicid)
        return (
            movl(KICK_CPU, eax),
            xorl(ebx, ebx),
            movl(edx, ecx),
            code.steps("the_lock", texts, vmcall(), kicks=True),
        )
    # struct evtchn_send { port }
    port = mem(addr("per_cpu_areas") + KICKER, w.result)
    return (
        *(movl(edx, eax), shll(PER_CPU_SHIFT, eax), movl(port, eax), w.push(w.result)),
        *(movl(EVTCHN_SEND, w.hypercall[0]), w.mov(w.stack, w.hypercall_words[1])),
        *(code.steps("the_lock", texts, hypercall(EVENT_CHANNEL_OP), kicks=True), w.pop(w.result)),
    )


def hypercall(number: int) -> Body:
    """A call into Xen's page of them."""
    return call(addr("hypercall_page") + 32 * number)


def clear_pending(w: Width, step: Callable[[Body], Body] = lambda instruction: instruction) -> Body:
    """xen_clear_irq_pending(): of this CPU's kicker."""
    return (movl(w.own(KICKER), eax), step(lock(btrl(eax, mem(addr("xen_shared_info") + EVTCHN_PENDING)))))


def poll(w: Width) -> Body:
    """xen_poll_irq(): SCHEDOP_poll of this CPU's kicker, without a timeout."""
    room = 32
    ports, count, timeout = (0, 4, 8) if w.bits == 32 else (0, 8, 16)
    at = w.mov(w.stack, w.hypercall_words[1])
    return (
        *(w.add(-room, w.stack), movl(w.own(KICKER), eax), movl(eax, mem(24, w.stack))),
        *(w.lea(mem(24, w.stack), w.result), w.mov(w.result, mem(ports, w.stack)), movl(1, mem(count, w.stack))),
        *(movl(0, mem(timeout, w.stack)), movl(0, mem(timeout + 4, w.stack))),
        *(movl(SCHEDOP_POLL, w.hypercall[0]), at, hypercall(SCHED_OP), w.add(room, w.stack)),
    )


def sleep(code: Code, backend: str) -> Body:
    """Sleeps with interrupts off, until it is kicked; or, as ever, for no reason."""
    if backend == "xen":
        return poll(code.w)
    return hyperv.idle() if backend == "hyperv" else code.pv.PVOP_VCALL("pv_irq_ops.halt")


def xen_irq(code: Code) -> Body:
    """The irq ops on a ``vcpu_info`` in per-CPU data, and ``check_events``, which asks Xen to deliver what waits."""
    w = code.w
    bodies = direct(w.bits, smp=True, since_3_4=not code.pv.era.name.startswith("2.6."))
    push, pop = (pushq, popq) if w.bits == 64 else (pushl, popl)
    saved = _SAVED[w.bits] if w.bits == 64 else (*_SAVED[32], ebx)
    clear = [xorl(register, register) for register in w.hypercall]
    return (
        *(_direct(op.partition(".")[2], body) for op, body in bodies.items()),
        function(
            "check_events",
            [push(r) for r in saved],
            clear,
            hypercall(XEN_VERSION),
            [pop(r) for r in reversed(saved)],
            ret(),
        ),
    )


def _direct(op: str, body: Body) -> Body:
    return function(f"xen_{op}_direct", body, label(f"xen_{op}_direct_end"), ret())


#: What a Xen guest's init code puts into its ops, once every vCPU's info lies in per-CPU data.
XEN_OPS = {
    **{f"pv_irq_ops.{op}": f"xen_{op}_direct" for op in ("save_fl", "restore_fl", "irq_disable", "irq_enable")},
    "pv_cpu_ops.iret": "xen_iret",
}


def xen_ops(bits: int) -> dict[str, str]:
    """The same, with what x86-64 alone has: ``swapgs`` is Xen's to do."""
    wide = {"pv_cpu_ops.usergs_sysret64": "xen_sysret64", "pv_cpu_ops.swapgs": "_paravirt_nop"}
    return {**XEN_OPS, **(wide if bits == 64 else {})}
