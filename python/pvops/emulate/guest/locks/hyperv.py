"""The guest side of Hyper-V: to sleep by reading an MSR, to kick by an interrupt, and to tell of long spinning.

Linux has the first two below queued locks (since 4.20): ``hv_qlock_wait()``, ``hv_qlock_kick()``,
``hv_init_spinlocks()`` of arch/x86/hyperv/hv_spinlock.c and ``__send_ipi_one()`` of hv_apic.c, and with the same
conditions they serve the ticket locks here, which no kernel below Hyper-V had. Where Hyper-V does not offer both,
Linux's waiters spin; here they tell it so, by ``HvCallNotifyLongSpinWait`` of the TLFS, which Linux does not use.
"""

from __future__ import annotations

from collections.abc import Callable

from pvops.assembler import Local, addr, align, function, label, space
from pvops.assembler import operands as o
from pvops.assembler.operands import eax, ebx, ecx, edi, edx, esi
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    btl,
    btsl,
    call,
    cmpl,
    cpuid,
    je,
    jmp,
    jnc,
    jne,
    movl,
    popl,
    pushl,
    rdmsr,
    ret,
    testl,
    wrmsr,
    xorl,
)
from pvops.emulate.abi import hyperv as abi
from pvops.emulate.guest.locks.code import Code

#: As on the command line: one that offers what Linux wants, and one that only takes hints.
BACKENDS = ("hyperv", "hyperv-spin")
PAGE = "hv_hypercall_pg"


def idle() -> Body:
    """hv_qlock_wait(), with interrupts off: the read ends by an interrupt, which stays pending."""
    return (movl(abi.GUEST_IDLE, ecx), rdmsr())


def kick(code: Code, step: Callable[[Body], Body]) -> Body:
    """hv_send_ipi(cpu, X86_PLATFORM_IPI_VECTOR): a fast hypercall with a mask; the CPU is in edx."""
    vector = abi.PLATFORM_IPI_VECTOR
    if code.w.bits == 64:
        words = (movl(vector, edx), movl(abi.SEND_IPI | abi.FAST, ecx))
        return (xorl(o.r8d, o.r8d), btsl(edx, o.r8d), *words, step(call(PAGE)))
    # The control word is in edx:eax, the vector in ebx:ecx, the mask in edi:esi.
    mask = (xorl(edi, edi), xorl(esi, esi), btsl(edx, esi))
    rest = (xorl(ebx, ebx), movl(vector, ecx), xorl(edx, edx), movl(abi.SEND_IPI | abi.FAST, eax))
    return (pushl(esi), pushl(edi), *mask, *rest, step(call(PAGE)), popl(edi), popl(esi))


def functions(code: Code) -> Body:
    """What tells of long spinning, the handler of the kick, and the page of hypercalls."""
    control = abi.NOTIFY_LONG_SPIN_WAIT | abi.FAST
    if code.w.bits == 64:
        told: Body = (movl(control, ecx), movl(code.threshold, edx), call(PAGE), ret())
        saved: tuple[o.Register, ...] = (o.rax, o.rcx, o.rdx)
    else:
        words = (xorl(edx, edx), movl(control, eax), xorl(ebx, ebx), movl(code.threshold, ecx))
        told = (pushl(ebx), *words, call(PAGE), popl(ebx), ret())
        saved = (eax, ecx, edx)
    w = code.w
    # sysvec_x86_platform_ipi(): it is enough that it came. hv_apic_eoi_write().
    acknowledged = (movl(abi.EOI, ecx), xorl(eax, eax), xorl(edx, edx), wrmsr())
    return (
        function("hyperv_long_spin", told),
        code.pv.PV_CALLEE_SAVE_REGS_THUNK("hyperv_long_spin"),
        function(
            "platform_ipi",
            *(*(w.push(r) for r in saved), *acknowledged, *(w.pop(r) for r in reversed(saved))),
            code.pv.INTERRUPT_RETURN(),
        ),
        *(align(0x1000, 0xCC), label(PAGE), space(0x1000, 0xCC)),
    )


def entry(bits: int, sleeps: Body, tells: Body) -> Body:
    """Where guests start: ms_hyperv_platform(), hyperv_init() and hv_init_spinlocks().

    Args:
        bits: 32 or 64.
        sleeps: fills the ops with those that sleep and kick.
        tells: fills the one that tells of spinning.
    """
    bare, spin = Local("bare"), Local("spin")
    named = [
        (cmpl(word, register), jne(addr(bare))) for word, register in zip(abi.SIGNATURE, (ebx, ecx, edx), strict=True)
    ]
    return function(
        "hyperv_entry",
        *(movl(1, eax), cpuid(), btl(abi.HYPERVISOR_PRESENT, ecx), jnc(addr(bare))),
        *(movl(abi.MAX_LEAF, eax), cpuid(), named),
        *(movl(abi.FEATURES_LEAF, eax), cpuid(), movl(eax, esi)),
        *(movl(abi.HINTS_LEAF, eax), cpuid(), movl(eax, edi)),
        *(movl(abi.GUEST_OS_ID, ecx), movl(0, eax), movl(abi.LINUX_ID << 16, edx), wrmsr()),
        *(movl(abi.HYPERCALL, ecx), movl(addr(PAGE) - abi.BASE[bits] + abi.ENABLE, eax), xorl(edx, edx), wrmsr()),
        *(
            testl(abi.CLUSTER_IPI_RECOMMENDED, edi),
            je(addr(spin)),
            testl(abi.GUEST_IDLE_AVAILABLE, esi),
            je(addr(spin)),
        ),
        *(sleeps, jmp("start_kernel"), label(spin), tells, label(bare), jmp("start_kernel")),
    )
