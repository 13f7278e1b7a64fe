"""The guest side of KVM on x86-64: the buffer of page table writes of 2.6.33, the locks' kicks of 3.12.

Source: arch/x86/kernel/kvm.c of both. The clock (kvmclock) is not here.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.assembler import Local, Value, addr, align, asciz, function, label, mem, space, u32
from pvops.assembler import operands as o
from pvops.assembler import x86 as x
from pvops.assembler.statements import Body
from pvops.emulate.abi.kvm import FLUSH_TLB, KICK_CPU, MMU_OP, RELEASE_PT, SIGNATURE, SIZES, WRITE_PTE
from pvops.emulate.guest.wide import locks
from pvops.emulate.guest.wide.layout import pa
from pvops.emulate.macros.paravirt import Paravirt
from pvops.emulate.paging import START_KERNEL

LAZY_MMU = 1
#: Bytes of the buffer (MMU_QUEUE_SIZE).
QUEUE = 1024

#: What kvm_guest_init() of 3.12 writes over the native ops.
OPS_3_12: Mapping[str, str] = {
    "pv_cpu_ops.io_delay": "kvm_io_delay",
    "pv_time_ops.steal_clock": "kvm_steal_clock",
    "pv_lock_ops.lock_spinning": "__raw_callee_save_kvm_lock_spinning",
    "pv_lock_ops.unlock_kick": "kvm_unlock_kick",
}


def functions(pv: Paravirt) -> Body:
    """KVM's functions for the ops that it fills."""
    return (function("kvm_io_delay", x.ret()), _mmu() if pv.era.name == "2.6.33" else _locks(pv))


def _word(n: int) -> Value:
    return addr("kvm_queue") + 8 * n


def _queued(op: int, *words: Body) -> Body:
    """kvm_deferred_mmu_op(): makes room in the buffer and puts a request there; hands the buffer over unless lazy."""
    room, later = Local("room"), Local("later")
    return (
        *(x.movl(mem("kvm_queue_len"), o.eax), x.cmpl(QUEUE - SIZES[op], o.eax), x.jbe(addr(room))),
        *(x.call("kvm_mmu_queue_flush"), x.xorl(o.eax, o.eax), label(room)),
        *(x.movq(op, mem("kvm_queue", o.rax)), *words, x.addl(SIZES[op], mem("kvm_queue_len"))),
        *(x.cmpl(LAZY_MMU, mem("paravirt_lazy_mode")), x.je(addr(later)), x.call("kvm_mmu_queue_flush")),
        *(label(later), x.ret()),
    )


def _mmu() -> Body:
    again, none = Local("again"), Local("none")
    write = (x.movq(o.rdi, mem(_word(1), o.rax)), x.movq(o.rsi, mem(_word(2), o.rax)))
    saved = (o.rdi, o.rsi)
    return (
        # kvm_mmu_write(entry, value)
        function("kvm_mmu_write", x.subq(START_KERNEL - (1 << 64), o.rdi), _queued(WRITE_PTE, *write)),
        *(function(f"kvm_set_{level}", x.jmp("kvm_mmu_write")) for level in ("pte", "pmd", "pud", "pgd")),
        # set_pte_at(mm, address, entry, value)
        function("kvm_set_pte_at", x.movq(o.rdx, o.rdi), x.movq(o.rcx, o.rsi), x.jmp("kvm_mmu_write")),
        function("kvm_flush_tlb", _queued(FLUSH_TLB)),
        function("kvm_release_pt", x.shlq(12, o.rdi), _queued(RELEASE_PT, x.movq(o.rdi, mem(_word(1), o.rax)))),
        function("kvm_enter_lazy_mmu", x.movl(LAZY_MMU, mem("paravirt_lazy_mode")), x.ret()),
        function("kvm_leave_lazy_mmu", x.call("kvm_mmu_queue_flush"), x.movl(0, mem("paravirt_lazy_mode")), x.ret()),
        # kvm_mmu_op(): the host says how many bytes it has taken.
        function(
            "kvm_mmu_queue_flush",
            *(x.pushq(o.rbx), *(x.pushq(r) for r in saved), x.movl(mem("kvm_queue_len"), o.ebx)),
            *(x.movq(pa("kvm_queue"), o.rcx), x.testl(o.ebx, o.ebx), x.je(addr(none)), label(again)),
            *(x.movl(MMU_OP, o.eax), x.xorl(o.edx, o.edx), x.vmcall(), x.addq(o.rax, o.rcx)),
            *(x.subl(o.eax, o.ebx), x.jne(addr(again)), x.movl(0, mem("kvm_queue_len")), label(none)),
            *(*(x.popq(r) for r in reversed(saved)), x.popq(o.rbx), x.ret()),
        ),
    )


def _locks(pv: Paravirt) -> Body:
    # kvm_kick_cpu(): flags and the APIC's number, which is the CPU's.
    kick = (x.pushq(o.rbx), x.movl(KICK_CPU, o.eax), x.xorl(o.ebx, o.ebx), x.vmcall(), x.popq(o.rbx))
    return (
        pv.PV_CALLEE_SAVE_REGS_THUNK("kvm_lock_spinning"),
        function("kvm_steal_clock", x.xorl(o.eax, o.eax), x.ret()),
        function("kvm_lock_spinning", locks.spinning((x.sti(), x.hlt()))),
        function("kvm_unlock_kick", locks.kicking(kick)),
    )


def start(fill: Body, features: int) -> Body:
    """kvm_guest_init(): only if the CPU says that it is KVM's."""
    compare = [
        (x.cmpl(word, register), x.jne("start_kernel"))
        for word, register in zip(SIGNATURE, (o.ebx, o.ecx, o.edx), strict=True)
    ]
    return (
        function("kvm_entry", x.movl(0x40000000, o.eax), x.cpuid(), *compare, x.movl(0x40000001, o.eax), x.cpuid()),
        (x.testl(features, o.eax), x.je("start_kernel"), fill, x.jmp("start_kernel")),
    )


def variables() -> Body:
    """The queue of MMU operations with its length, and the name for ``pv_info``."""
    return (
        *(align(16), label("kvm_queue"), space(QUEUE), label("kvm_queue_len"), u32(0)),
        *(label("kvm_info"), asciz("KVM")),
    )
