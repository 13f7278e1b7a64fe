"""The timer's interrupt in a lock's guest: its handler takes a lock of its own, whatever the CPU was doing.

It comes through a gate on bare hardware and below KVM, and through Xen's callback (``xen_hypervisor_callback``), which
on x86-64 finds rcx and r11 on its stack. Back it goes by ``INTERRUPT_RETURN``, which below Xen is a hypercall. Sources:
arch/x86/kernel/entry_{32,64}.S and arch/x86/xen/xen-asm_{32,64}.S of 2.6.33.
"""

from __future__ import annotations

from pvops.assembler import addr, function, mem
from pvops.assembler import operands as o
from pvops.assembler.statements import Body
from pvops.assembler.x86 import incl, jmp, movl, popal, popq, pushal, pushq
from pvops.emulate.guest.locks.code import Code, Protocol
from pvops.emulate.guest.locks.steps import DONE, ENTER

LOCK = "irq_lock"
_ALL = (o.rax, o.rcx, o.rdx, o.rbx, o.rbp, o.rsi, o.rdi, o.r8, o.r9, o.r10, o.r11, o.r12, o.r13, o.r14, o.r15)
#: The slot of the hypercall ``iret`` in Xen's page.
_IRET = 32 * 23


def functions(code: Code, protocol: Protocol) -> Body:
    """The handler, and Xen's ways in and out."""
    wide = code.w.bits == 64
    save: Body = tuple(pushq(r) for r in _ALL) if wide else pushal()
    restore: Body = tuple(popq(r) for r in reversed(_ALL)) if wide else popal()
    count = mem("irq_counter")
    back = addr("hypercall_page") + _IRET
    callback: Body = (popq(o.rcx), popq(o.r11)) if wide else ()
    return (
        function(
            "timer_interrupt",
            *(save, code.pv.DISABLE_INTERRUPTS(code.pv.CLBR_ANY), code.w.load(LOCK, code.w.lock)),
            protocol.acquire(code, LOCK),
            code.steps(LOCK, (), movl(count, code.w.also), mark=ENTER),
            *(incl(code.w.also), movl(code.w.also, count)),
            protocol.release(code, LOCK),
            *(code.steps(LOCK, (), restore, mark=DONE), code.pv.INTERRUPT_RETURN()),
        ),
        function("xen_timer_callback", callback, jmp("timer_interrupt")),
        function("xen_iret", (pushq(0),) if wide else (), jmp(back)),
    )
