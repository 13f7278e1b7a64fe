"""The guest side of KVM, 2010: page table writes go into a buffer of 1024 bytes, which ``vmcall`` hands over.

Source: arch/x86/kernel/kvm.c of 2.6.33.
"""

from __future__ import annotations

from pvops.assembler import Local, Value, addr, align, asciz, function, label, mem, space, u32
from pvops.assembler.operands import eax, ebx, ecx, edi, edx, esp
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    addl,
    call,
    cmpl,
    cpuid,
    jbe,
    je,
    jmp,
    jne,
    movl,
    popal,
    popl,
    pushal,
    pushl,
    ret,
    shll,
    subl,
    testl,
    vmcall,
    xorl,
)
from pvops.emulate.abi.kvm import FEATURES, FLUSH_TLB, MMU_OP, RELEASE_PT, SIGNATURE, SIZES, WRITE_PTE
from pvops.emulate.guest.layout import Build, pa
from pvops.emulate.paging import PAGE_OFFSET

LAZY_MMU = 1
#: Bytes of the buffer (MMU_QUEUE_SIZE).
QUEUE = 1024


def _queued(op: int, *words: Body) -> Body:
    """kvm_deferred_mmu_op(): makes room in the buffer and puts a request there; hands the buffer over unless lazy.

    The words are stored by statements that find its place in edi.
    """
    room, later = Local("room"), Local("later")
    return (
        *(pushl(edi), movl(mem("kvm_queue_len"), edi), cmpl(QUEUE - SIZES[op], edi), jbe(addr(room))),
        *(call("kvm_mmu_queue_flush"), xorl(edi, edi), label(room)),
        *(movl(op, mem("kvm_queue", edi)), movl(0, mem(_word(1), edi)), *words, addl(SIZES[op], mem("kvm_queue_len"))),
        *(popl(edi), cmpl(LAZY_MMU, mem("paravirt_lazy_mode")), je(addr(later)), call("kvm_mmu_queue_flush")),
        *(label(later), ret()),
    )


def _word(n: int) -> Value:
    return addr("kvm_queue") + 4 * n


def functions(build: Build) -> Body:
    """KVM's functions for the ops that it fills."""
    again, none = Local("again"), Local("none")
    write = (
        movl(eax, mem(_word(2), edi)),
        movl(0, mem(_word(3), edi)),
        movl(edx, mem(_word(4), edi)),
        movl(ecx, mem(_word(5), edi)),
    )
    release = (shll(12, eax), movl(eax, mem(_word(2), edi)), movl(0, mem(_word(3), edi)))
    entry = ("kvm_set_pte", "kvm_set_pmd", "kvm_set_pte_atomic", "kvm_set_pud")
    clear = (xorl(edx, edx), xorl(ecx, ecx), jmp("kvm_mmu_write"))
    return (
        function("kvm_io_delay", ret()),
        # kvm_mmu_write(entry, low, high)
        function("kvm_mmu_write", subl(PAGE_OFFSET, eax), _queued(WRITE_PTE, *write)),
        *(function(name, jmp("kvm_mmu_write")) for name in entry),
        # set_pte_at(mm, address, entry, low, high)
        function(
            "kvm_set_pte_at", movl(ecx, eax), movl(mem(4, esp), edx), movl(mem(8, esp), ecx), jmp("kvm_mmu_write")
        ),
        function("kvm_pte_clear", movl(ecx, eax), *clear),
        function("kvm_pmd_clear", *clear),
        function("kvm_flush_tlb", _queued(FLUSH_TLB)),
        function("kvm_release_pt", _queued(RELEASE_PT, *release)),
        function("kvm_enter_lazy_mmu", movl(LAZY_MMU, mem("paravirt_lazy_mode")), ret()),
        function("kvm_leave_lazy_mmu", call("kvm_mmu_queue_flush"), movl(0, mem("paravirt_lazy_mode")), ret()),
        # kvm_mmu_op(): the host says how many bytes it has taken.
        function(
            "kvm_mmu_queue_flush",
            *(pushal(), movl(mem("kvm_queue_len"), ebx), movl(pa("kvm_queue"), ecx), testl(ebx, ebx), je(addr(none))),
            *(
                label(again),
                movl(MMU_OP, eax),
                xorl(edx, edx),
                vmcall(),
                addl(eax, ecx),
                subl(eax, ebx),
                jne(addr(again)),
            ),
            *(movl(0, mem("kvm_queue_len")), label(none), popal(), ret()),
        ),
    )


def start(build: Build, fill: Body) -> Body:
    """kvm_guest_init(): only if the CPU says that it is KVM's."""
    compare = [
        (cmpl(word, register), jne("start_kernel")) for word, register in zip(SIGNATURE, (ebx, ecx, edx), strict=True)
    ]
    return (
        label("kvm_guest_init"),
        function("kvm_entry", movl(0x40000000, eax), cpuid(), *compare, movl(0x40000001, eax), cpuid()),
        (testl(FEATURES, eax), je("start_kernel"), fill, jmp("start_kernel")),
    )


def variables(build: Build) -> Body:
    """The queue of MMU operations with its length, and the name for ``pv_info``."""
    return (
        *(align(16), label("kvm_queue"), space(QUEUE), label("kvm_queue_len"), u32(0)),
        *(label("kvm_info"), asciz("KVM")),
    )
