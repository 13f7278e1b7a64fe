"""Xen's irq ops where the hypervisor's ``vcpu_info`` lies in the kernel's own data: what ``xen_patch`` inlines.

An event channel's mask is a byte in memory, so no hypercall is needed unless an event is pending. Each body is the code
between ``xen_…_direct`` and ``ENDPATCH``, without its ``ret``. Sources: 2.6.24 arch/x86/xen/xen-asm.S, 2.6.33
xen-asm.S, xen-asm_32.S and xen-asm_64.S.
"""

from __future__ import annotations

from pvops.assembler.operands import Memory, Register, ah, di, fs, gs, mem
from pvops.assembler.statements import Body, Label
from pvops.assembler.values import Local, Name, addr
from pvops.assembler.x86 import Jcc, addb, call, cmpw, jnz, jz, movb, sete, testb, testw

#: Offsets in ``struct vcpu_info``: evtchn_upcall_pending, evtchn_upcall_mask.
PENDING, MASK = 0, 1
#: X86_EFLAGS_IF.
IF = 0x200


def direct(
    bits: int,
    *,
    smp: bool,
    vcpu_info: Name = "per_cpu__xen_vcpu_info",
    check_events: str = "check_events",
    since_3_4: bool = False,
) -> dict[str, tuple[Body, ...]]:
    """The four ops, by name.

    Args:
        bits: 32 or 64.
        smp: ``vcpu_info`` is per CPU, reached through ``%fs`` (``%gs`` on x86-64).
        vcpu_info: where it is.
        check_events: what handles pending events; it saves all registers.
        since_3_4: restore_fl asks for events where some are pending, not where none are ("xen: correctly check for
            pending events when restoring irq flags").
    """
    segment: Register | None = None
    if smp:
        segment = gs if bits == 64 else fs

    def byte(offset: int) -> Memory:
        return mem(addr(vcpu_info) + offset, segment=segment)

    def then_check(skips: Jcc = jz) -> tuple[Body, ...]:
        done = Local("1")
        return (skips(addr(done)), call(check_events), Label(done))

    restored = then_check(jnz if since_3_4 else jz)
    wanted = testw(IF, di) if bits == 64 else testb(IF >> 8, ah)
    return {
        "pv_irq_ops.irq_enable": (movb(0, byte(MASK)), testb(0xFF, byte(PENDING)), *then_check()),
        "pv_irq_ops.irq_disable": (movb(1, byte(MASK)),),
        "pv_irq_ops.save_fl": (testb(0xFF, byte(MASK)), sete(ah), addb(ah, ah)),
        # Both bytes at once: pending, and not masked.
        "pv_irq_ops.restore_fl": (wanted, sete(byte(MASK)), cmpw(1, byte(PENDING)), *restored),
    }
