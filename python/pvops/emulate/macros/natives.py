"""What an op is on bare hardware, as instructions: what a guest gets whose class of ops is configured out.

Arguments and results are where the kernel's C has them: eax, edx, ecx and eax on i386 (``regparm(3)``), rdi, rsi, rdx,
rcx and rax on x86-64. Sources: the ``native_*`` functions of include/asm-x86/{system,processor,desc,irqflags}.h and
pgtable_32.h of 2.6.24, of arch/x86/include/asm in 2.6.33; where ``native_patch`` inlines an op, its very instructions.
Ops that are more than a few instructions, or that need the kernel's data, are not here.
"""

from __future__ import annotations

from pvops.assembler.operands import al, ax, cr0, cr2, cr3, cr4, cr8, eax, ecx, edi, edx, mem, rax, rcx, rdi, rdx, rsi
from pvops.assembler.statements import Statement
from pvops.assembler.x86 import (
    andl,
    andq,
    cli,
    clts,
    hlt,
    invlpg,
    iret,
    iretq,
    lgdt,
    lidt,
    ltr,
    movl,
    movq,
    orq,
    outb,
    popfl,
    popfq,
    popl,
    popq,
    pushfl,
    pushfq,
    pushl,
    pushq,
    rdpmc,
    rdtsc,
    sgdt,
    shlq,
    sidt,
    sti,
    str_,
    swapgs,
    sysexit,
    sysretl,
    sysretq,
    wbinvd,
)
from pvops.eras.structs import Config

Instructions = tuple[Statement, ...]

#: CR4.PGE, which a flush of global translations turns off and on.
_PGE = 0x80
#: The selector of the task register: GDT_ENTRY_TSS * 8.
_TSS = {32: 16 * 8, 64: 8 * 8}

_BOTH: dict[str, Instructions] = {
    "pv_irq_ops.irq_disable": (cli(),),
    "pv_irq_ops.irq_enable": (sti(),),
    "pv_irq_ops.safe_halt": (sti(), hlt()),
    "pv_irq_ops.halt": (hlt(),),
    "pv_cpu_ops.clts": (clts(),),
    "pv_cpu_ops.wbinvd": (wbinvd(),),
    "pv_cpu_ops.io_delay": (outb(al, 0x80),),
}

_I386: dict[str, Instructions] = {
    **_BOTH,
    "pv_irq_ops.save_fl": (pushfl(), popl(eax)),
    "pv_irq_ops.restore_fl": (pushl(eax), popfl()),
    "pv_cpu_ops.iret": (iret(),),
    "pv_cpu_ops.irq_enable_sysexit": (sti(), sysexit()),
    "pv_cpu_ops.read_cr0": (movl(cr0, eax),),
    "pv_cpu_ops.write_cr0": (movl(eax, cr0),),
    "pv_cpu_ops.read_cr4": (movl(cr4, eax),),
    "pv_cpu_ops.read_cr4_safe": (movl(cr4, eax),),
    "pv_cpu_ops.write_cr4": (movl(eax, cr4),),
    "pv_cpu_ops.load_gdt": (lgdt(mem(0, eax)),),
    "pv_cpu_ops.load_idt": (lidt(mem(0, eax)),),
    "pv_cpu_ops.store_gdt": (sgdt(mem(0, eax)),),
    "pv_cpu_ops.store_idt": (sidt(mem(0, eax)),),
    "pv_cpu_ops.load_tr_desc": (movl(_TSS[32], eax), ltr(ax)),
    "pv_cpu_ops.store_tr": (str_(eax),),
    "pv_cpu_ops.read_tsc": (rdtsc(),),
    "pv_cpu_ops.read_pmc": (movl(eax, ecx), rdpmc()),
    "pv_mmu_ops.read_cr2": (movl(cr2, eax),),
    "pv_mmu_ops.write_cr2": (movl(eax, cr2),),
    "pv_mmu_ops.read_cr3": (movl(cr3, eax),),
    "pv_mmu_ops.write_cr3": (movl(eax, cr3),),
    "pv_mmu_ops.flush_tlb_user": (movl(cr3, eax), movl(eax, cr3)),
    "pv_mmu_ops.flush_tlb_kernel": (movl(cr4, ecx), movl(ecx, eax), andl(~_PGE, eax), movl(eax, cr4), movl(ecx, cr4)),
    "pv_mmu_ops.flush_tlb_single": (invlpg(mem(0, eax)),),
    **{f"pv_mmu_ops.{op}": () for op in ("pte_val", "pmd_val", "pgd_val", "make_pte", "make_pmd", "make_pgd")},
}

#: Page table entries of one word (without X86_PAE).
_I386_WORDS: dict[str, Instructions] = {
    "pv_mmu_ops.set_pte": (movl(edx, mem(0, eax)),),
    "pv_mmu_ops.set_pmd": (movl(edx, mem(0, eax)),),
}

_IDENTITY = (movq(rdi, rax),)

_X86_64: dict[str, Instructions] = {
    **_BOTH,
    "pv_irq_ops.save_fl": (pushfq(), popq(rax)),
    "pv_irq_ops.restore_fl": (pushq(rdi), popfq()),
    "pv_cpu_ops.iret": (iretq(),),
    "pv_cpu_ops.irq_enable_sysexit": (swapgs(), sti(), sysexit()),
    "pv_cpu_ops.swapgs": (swapgs(),),
    "pv_cpu_ops.usergs_sysret64": (swapgs(), sysretq()),
    "pv_cpu_ops.usergs_sysret32": (swapgs(), sysretl()),
    "pv_cpu_ops.read_cr0": (movq(cr0, rax),),
    "pv_cpu_ops.write_cr0": (movq(rdi, cr0),),
    "pv_cpu_ops.read_cr4": (movq(cr4, rax),),
    "pv_cpu_ops.read_cr4_safe": (movq(cr4, rax),),
    "pv_cpu_ops.write_cr4": (movq(rdi, cr4),),
    "pv_cpu_ops.read_cr8": (movq(cr8, rax),),
    "pv_cpu_ops.write_cr8": (movq(rdi, cr8),),
    "pv_cpu_ops.load_gdt": (lgdt(mem(0, rdi)),),
    "pv_cpu_ops.load_idt": (lidt(mem(0, rdi)),),
    "pv_cpu_ops.store_gdt": (sgdt(mem(0, rdi)),),
    "pv_cpu_ops.store_idt": (sidt(mem(0, rdi)),),
    "pv_cpu_ops.load_tr_desc": (movl(_TSS[64], eax), ltr(ax)),
    "pv_cpu_ops.store_tr": (str_(eax),),
    "pv_cpu_ops.read_tsc": (rdtsc(), shlq(32, rdx), orq(rdx, rax)),
    "pv_cpu_ops.read_pmc": (movl(edi, ecx), rdpmc(), shlq(32, rdx), orq(rdx, rax)),
    "pv_mmu_ops.read_cr2": (movq(cr2, rax),),
    "pv_mmu_ops.write_cr2": (movq(rdi, cr2),),
    "pv_mmu_ops.read_cr3": (movq(cr3, rax),),
    "pv_mmu_ops.write_cr3": (movq(rdi, cr3),),
    "pv_mmu_ops.flush_tlb_user": (movq(cr3, rax), movq(rax, cr3)),
    "pv_mmu_ops.flush_tlb_kernel": (movq(cr4, rcx), movq(rcx, rax), andq(~_PGE, rax), movq(rax, cr4), movq(rcx, cr4)),
    "pv_mmu_ops.flush_tlb_single": (invlpg(mem(0, rdi)),),
    **{f"pv_mmu_ops.set_{level}": (movq(rsi, mem(0, rdi)),) for level in ("pte", "pmd", "pud", "pgd")},
    **{f"pv_mmu_ops.{level}_val": _IDENTITY for level in ("pte", "pmd", "pud", "pgd")},
    **{f"pv_mmu_ops.make_{level}": _IDENTITY for level in ("pte", "pmd", "pud", "pgd")},
}


def native(op: str, config: Config) -> Instructions | None:
    """The instructions of an op on bare hardware; None where they are not a few.

    Args:
        op: its full name, ``pv_irq_ops.irq_enable``.
        config: the guest's: with ``X86_PAE`` page table entries are two words.
    """
    if config.bits == 64:
        return _X86_64.get(op)
    found = _I386.get(op)
    return _I386_WORDS.get(op) if found is None and not config.holds("X86_PAE") else found
