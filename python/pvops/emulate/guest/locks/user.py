"""User space on x86-64: a program that makes a system call for each turn, and the kernel's way in and out.

Source: arch/x86/kernel/entry_64.S (``system_call``, ``ret_from_sys_call``) and arch/x86/xen/xen-asm_64.S
(``xen_syscall_target``, ``xen_sysret64``) of 2.6.33. Out it goes by ``USERGS_SYSRET64``, a ``jmp *`` that patching
makes ``swapgs; sysretq`` on bare hardware and a jump below Xen, where it is the hypercall ``iret``. Where the kernel
wants system calls, its host takes from the symbols; a kernel tells it by MSRs (``syscall_init()``) or by a hypercall.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, function, label, mem
from pvops.assembler.operands import eax, ebx, r11, r11d, rcx, rsp
from pvops.assembler.statements import Body
from pvops.assembler.x86 import call, decl, incl, je, jmp, jne, leaq, movl, movq, popq, pushq, syscall, testl, ud2
from pvops.emulate.guest.locks.code import IF, KERNEL_STACK, OLD_SP, Code, Protocol
from pvops.emulate.guest.locks.steps import DONE, ENTER

#: Selectors of Linux, and what the frame of the hypercall ``iret`` says of a return from a system call.
USER_DS, USER_CS, VGCF_IN_SYSCALL = 0x2B, 0x33, 256
#: Bytes below the top of a CPU's stack that are the kernel's; user space has the rest.
_KERNEL = 0x200
_IRET = 32 * 23


def functions(code: Code, protocol: Protocol, think: Body, hold: Body) -> Body:
    """The program, and the kernel below it.

    Args:
        code: what it is written with.
        protocol: the lock's.
        think, hold: code that lets time pass.
    """
    w, pv = code.w, code.pv
    turn, out, silent = Local("turn"), Local("out"), Local("silent")
    name = "user.the_lock"
    count = mem("counter")
    section = (
        *(w.load("the_lock", w.lock), protocol.acquire(code, name)),
        code.steps(name, (), movl(count, w.also), mark=ENTER),
        *(hold, incl(w.also), movl(w.also, count), protocol.release(code, name)),
        code.steps(name, (), movl(0, eax), mark=DONE),
    )
    return (
        # What start_thread() and the first return do for a process.
        function(
            "cpu_user",
            *(movq(rsp, w.own(KERNEL_STACK)), leaq(mem(-_KERNEL, rsp), rsp)),
            *(w.load("user_program", rcx), movl(IF | 2, r11d), pv.USERGS_SYSRET64()),
        ),
        function(
            "user_program",
            *(movl(mem("turns"), ebx), label(turn), think, movl(0, eax), syscall(), decl(ebx), jne(addr(turn))),
            *(movl(1, eax), syscall(), ud2()),
        ),
        function(
            "system_call",
            *(pv.SWAPGS_UNSAFE_STACK(), label("system_call_after_swapgs")),
            *(movq(rsp, w.own(OLD_SP)), movq(w.own(KERNEL_STACK), rsp), pushq(r11), pushq(rcx)),
            *(testl(eax, eax), jne(addr(out)), testl(1, mem("interrupts")), je(addr(silent))),
            *(pv.raw_local_irq_enable(), label(silent), call("sys_turn"), pv.DISABLE_INTERRUPTS(pv.CLBR_ANY)),
            *(popq(rcx), popq(r11), movq(w.own(OLD_SP), rsp), pv.USERGS_SYSRET64()),
            *(label(out), jmp("exit")),
        ),
        function("sys_turn", w.keeping(section)),
        function(
            "xen_syscall_target",
            *(movq(mem(0, rsp), rcx), movq(mem(8, rsp), r11), movq(mem(40, rsp), rsp), jmp("system_call_after_swapgs")),
        ),
        function(
            "xen_sysret64",
            *(movq(rsp, w.own(OLD_SP)), movq(w.own(KERNEL_STACK), rsp), pushq(USER_DS), pushq(w.own(OLD_SP))),
            *(pushq(r11), pushq(USER_CS), pushq(rcx), pushq(VGCF_IN_SYSCALL), jmp(addr("hypercall_page") + _IRET)),
        ),
    )
