"""What Xen's guest side has besides in 2.6.33: callee-save irq ops, page tables of three levels, CR0 kept in memory.

Sources: arch/x86/xen/{enlighten,irq,mmu,xen-asm_32}.c of 2.6.33. The rest is as in 2007 (`pvops.emulate.guest.xen`).
"""

from __future__ import annotations

from pvops.assembler import addr, function, label, mem, u32
from pvops.assembler.operands import eax, ebx, ecx, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import andl, call, jmp, movl, popl, pushfl, pushl, ret, shrl, xorl
from pvops.emulate.guest.xen_calls import LAZY_CPU, entry, keeping

TS = 8

#: Callee-save ops: each is a thunk around the C function.
_SAVED = (
    *("save_fl", "restore_fl", "irq_disable", "irq_enable"),
    *("pte_val", "pgd_val", "pmd_val", "make_pte", "make_pgd", "make_pmd"),
)


def functions() -> Body:
    """The functions of 2.6.33 that differ from 2.6.24's."""
    high = (movl(ecx, mem(4, eax)), movl(edx, mem(0, eax)), ret())
    ts = (movl(eax, ebx), andl(TS, ebx), shrl(3, ebx))
    return (
        *(_thunk(f"xen_{name}", "irq" not in name and "fl" not in name) for name in _SAVED),
        function("xen_clocksource_read", jmp("xen_sched_clock")),
        keeping("xen_clts", andl(~TS, mem("xen_cr0")), xorl(ebx, ebx), entry("fpu_taskswitch", LAZY_CPU)),
        function("xen_read_cr0", movl(mem("xen_cr0"), eax), ret()),
        keeping("xen_write_cr0", movl(eax, mem("xen_cr0")), *ts, entry("fpu_taskswitch", LAZY_CPU)),
        function("xen_write_msr_safe", jmp("native_write_msr_safe")),
        function("xen_iret", jmp(addr("hypercall_page") + 0x2E0)),
        # The frame that sysexit does without, for iret: user space's ss, esp, eflags, cs, eip.
        function("xen_sysexit", pushl(0x7B), pushl(ecx), pushfl(), pushl(0x73), pushl(edx), jmp("xen_iret")),
        # Pages of an LDT become read-only, which Xen insists on and nothing here depends on.
        function("xen_alloc_ldt", ret()),
        function("xen_free_ldt", ret()),
        function("xen_load_sp0", jmp("xen_load_esp0")),
        function("xen_end_context_switch", call("xen_mc_flush"), jmp("paravirt_end_context_switch")),
        function("xen_leave_lazy_mmu", call("xen_mc_flush"), jmp("paravirt_leave_lazy_mmu")),
        function("xen_pgd_alloc", xorl(eax, eax), ret()),
        function("xen_pgd_free", ret()),
        *(function(f"xen_alloc_{level}_init", jmp("xen_alloc_pt")) for level in ("pte", "pmd")),
        *(function(f"xen_release_{level}_init", jmp("xen_release_pt")) for level in ("pte", "pmd")),
        # Stores into tables that are Xen's, the high word first: they fault, and Xen carries them out.
        function("xen_set_pte_init", *high),
        function("xen_set_pte_atomic", *high),
        function("xen_pte_clear", movl(0, mem(0, ecx)), movl(0, mem(4, ecx)), ret()),
        function("xen_pmd_clear", xorl(edx, edx), xorl(ecx, ecx), jmp("xen_set_pmd_hyper")),
        function("xen_set_pmd_hyper", jmp("xen_set_pmd")),
        function("xen_set_pud_hyper", jmp("xen_set_pmd")),
        function("xen_set_fixmap", ret()),  # nothing is mapped at fixed addresses here
    )


def _thunk(name: str, wide: bool) -> Body:
    """PV_CALLEE_SAVE_REGS_THUNK; a 64-bit result is in edx too."""
    saved = (ecx,) if wide else (ecx, edx)
    return function(
        f"__raw_callee_save_{name}",
        *(*(pushl(r) for r in saved), call(name), *(popl(r) for r in reversed(saved)), ret()),
    )


def variables() -> Body:
    """CR0 as the guest wants it; Xen has it with the FPU ready."""
    return (label("xen_cr0"), u32(0x80050033))
