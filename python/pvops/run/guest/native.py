"""The native functions: what ``pv_*_ops`` of a kernel hold as linked, as guest code.

Arguments are where ``regparm(3)`` has them: eax, edx, ecx, then the stack. Sources: include/asm-x86/paravirt.h,
system.h, desc.h, processor_32.h and arch/x86/kernel of 2.6.24 and 2.6.33. What has no machine behind it here (the PIT,
the 8259) is still spoken to through its ports.
"""

from __future__ import annotations

from collections.abc import Callable

from pvops.asm import Local, Value, addr, data, function, label, mem, u32
from pvops.asm.operands import (
    Register,
    al,
    ax,
    cr0,
    cr2,
    cr3,
    cr4,
    dl,
    dr0,
    dr1,
    dr2,
    dr3,
    dr6,
    dr7,
    dx,
    eax,
    ebx,
    ecx,
    edi,
    edx,
    esi,
    esp,
)
from pvops.asm.statements import Body, Within
from pvops.asm.x86 import (
    andl,
    cli,
    clts,
    cmpl,
    cpuid,
    hlt,
    inb,
    invlpg,
    iret,
    jne,
    leal,
    lgdt,
    lidt,
    lldt,
    ltr,
    movb,
    movl,
    movzbl,
    orl,
    outb,
    popfl,
    popl,
    pushfl,
    pushl,
    rdmsr,
    rdpmc,
    rdtsc,
    ret,
    sgdt,
    shll,
    shrl,
    sidt,
    sti,
    str_,
    subl,
    testl,
    wbinvd,
    wrmsr,
    xchgl,
    xorl,
)
from pvops.run.guest.layout import GDT_LDT, GDT_TLS, GDT_TSS, TLS_ARRAY, TLS_ENTRIES, Build

EFAULT = 14
_DEBUG = {0: dr0, 1: dr1, 2: dr2, 3: dr3, 6: dr6, 7: dr7}


def may_fault(where: str, fixup: Local) -> tuple[Body, ...]:
    """A label for the next instruction, and a row of ``__ex_table``: if it faults, go on at the fixup."""
    return (label(where), Within("__ex_table", u32(addr(where), addr(fixup))))


def functions(build: Build) -> tuple[Body, ...]:
    """All of them, for an era."""
    common = (_irq(), _registers(), _descriptors(build), _debug(), _msr(), _time(), _apic(), _mmu(build))
    return common + (_seed() if build.era == "seed" else _v2_6_33())


def _irq() -> Body:
    return (
        function("_paravirt_nop", ret()),
        function("native_save_fl", pushfl(), popl(eax), ret()),
        function("native_restore_fl", pushl(eax), popfl(), ret()),
        function("native_irq_disable", cli(), ret()),
        function("native_irq_enable", sti(), ret()),
        function("native_safe_halt", sti(), hlt(), ret()),
        function("native_halt", hlt(), ret()),
        function("native_iret", iret()),
        function("native_irq_enable_sysexit", sti(), data(b"\x0f\x35")),
    )


def _registers() -> Body:
    reads = {"cr0": cr0, "cr2": cr2, "cr3": cr3, "cr4": cr4}
    return (
        *(function(f"native_read_{name}", movl(register, eax), ret()) for name, register in reads.items()),
        *(function(f"native_write_{name}", movl(eax, register), ret()) for name, register in reads.items()),
        function("native_read_cr4_safe", movl(cr4, eax), ret()),
        function("native_clts", clts(), ret()),
        function("native_wbinvd", wbinvd(), ret()),
        function("native_io_delay", outb(al, 0x80), ret()),
        function(
            "native_set_iopl_mask",
            *(pushfl(), popl(edx), andl(~0x3000, edx), orl(eax, edx)),
            pushl(edx),
            popfl(),
            ret(),
        ),
        # cpuid(eax, ebx, ecx, edx): four pointers, each read or written
        function(
            "native_cpuid",
            *(pushl(ebx), pushl(esi), pushl(edi), pushl(edx), pushl(ecx), movl(eax, esi), movl(ecx, edi)),
            *(movl(mem(0, esi), eax), movl(mem(0, edi), ecx), cpuid(), movl(eax, mem(0, esi))),
            *(popl(edi), movl(ecx, mem(0, edi)), popl(edi), movl(ebx, mem(0, edi))),
            *(movl(mem(16, esp), edi), movl(edx, mem(0, edi)), popl(edi), popl(esi), popl(ebx), ret()),
        ),
    )


def _descriptors(build: Build) -> Body:
    system = Local("system")
    busy, available = 0x8B00, 0x8900
    tls = [(movl(mem(TLS_ARRAY + 4 * i, eax), ecx), movl(ecx, mem(_gdt(GDT_TLS) + 4 * i))) for i in range(2 * TLS_ENTRIES)]
    return (
        function("native_load_gdt", lgdt(mem(0, eax)), ret()),
        function("native_load_idt", lidt(mem(0, eax)), ret()),
        function("native_store_gdt", sgdt(mem(0, eax)), ret()),
        function("native_store_idt", sidt(mem(0, eax)), ret()),
        function("native_store_tr", xorl(eax, eax), str_(ax), ret()),
        function(
            "native_load_tr_desc",
            *(andl(~(busy ^ available), mem(_gdt(GDT_TSS) + 4)), movl(8 * GDT_TSS, eax), ltr(ax), ret()),
        ),
        # set_ldt(address, entries)
        function(
            "native_set_ldt",
            *(testl(edx, edx), jne(addr(system)), lldt(dx), ret()),
            *(label(system), shll(3, edx), subl(1, edx), movl(eax, ecx), shll(16, ecx), orl(ecx, edx)),
            *(movl(edx, mem(_gdt(GDT_LDT))), movl(eax, edx), shrl(16, edx), andl(0xFF, edx), andl(0xFF000000, eax)),
            *(orl(edx, eax), orl(0x8200, eax), movl(eax, mem(_gdt(GDT_LDT) + 4)), movl(8 * GDT_LDT, eax), lldt(ax)),
            ret(),
        ),
        function("native_load_tls", *tls, ret()),
        function("native_load_esp0", movl(mem(0, edx), ecx), movl(ecx, mem(4, eax)), ret()),
        # write_dt_entry(table, index, low, high)
        function(
            "write_dt_entry",
            *(movl(ecx, mem(0, eax, edx, 8)), movl(mem(4, esp), ecx), movl(ecx, mem(4, eax, edx, 8)), ret()),
        ),
    )


def _gdt(index: int) -> Value:
    return addr("gdt_table") + 8 * index


def _debug() -> Body:
    def each(name: str, access: Callable[[Register], Body]) -> Body:
        body: list[Body] = []
        for number, register in _DEBUG.items():
            other = Local(f"not_{number}")
            body += [cmpl(number, eax), jne(addr(other)), access(register), ret(), label(other)]
        return function(name, *body, ret())

    return (
        each("native_get_debugreg", lambda register: movl(register, eax)),
        each("native_set_debugreg", lambda register: movl(edx, register)),
    )


def _msr() -> Body:
    failed, refused, absent = Local("failed"), Local("refused"), Local("absent")
    return (
        # u64 read_msr(msr, int *err)
        function(
            "native_read_msr_safe",
            *(pushl(edx), movl(eax, ecx), *may_fault("native_read_msr_insn", failed), rdmsr()),
            *(popl(ecx), movl(0, mem(0, ecx)), ret()),
            *(label(failed), xorl(eax, eax), xorl(edx, edx), popl(ecx), movl(-EFAULT, mem(0, ecx)), ret()),
        ),
        # int write_msr(msr, low, high)
        function(
            "native_write_msr_safe",
            *(xchgl(eax, ecx), xchgl(eax, edx), *may_fault("native_write_msr_insn", refused), wrmsr()),
            *(xorl(eax, eax), ret(), label(refused), movl(-EFAULT, eax), ret()),
        ),
        function("native_read_tsc", rdtsc(), ret()),
        function(
            "native_read_pmc",
            *(movl(eax, ecx), *may_fault("native_read_pmc_insn", absent), rdpmc(), ret()),
            *(label(absent), xorl(eax, eax), xorl(edx, edx), ret()),
        ),
    )


def _time() -> Body:
    # Here the CMOS clock holds seconds since 1970, a byte each, and a nanosecond is a tick of the TSC.
    read = [
        (movb(3 - i, al), outb(al, 0x70), inb(0x71, al), shll(8, ecx), movzbl(al, eax), orl(eax, ecx)) for i in range(4)
    ]
    write = [(movb(i, al), outb(al, 0x70), movb(dl, al), outb(al, 0x71), shrl(8, edx)) for i in range(4)]
    return (
        function("native_get_wallclock", xorl(ecx, ecx), *read, movl(ecx, eax), ret()),
        function("native_set_wallclock", movl(eax, edx), *write, xorl(eax, eax), ret()),
        function("native_sched_clock", rdtsc(), ret()),
    )


def _apic() -> Body:
    return (
        function("native_apic_write", movl(edx, mem("apic_page", eax)), ret()),
        function("native_apic_write_atomic", xchgl(edx, mem("apic_page", eax)), ret()),
        function("native_apic_read", movl(mem("apic_page", eax), eax), ret()),
        function("setup_boot_APIC_clock", movl(0x200EF, mem(_apic_register(0x320))), ret()),
        function("setup_secondary_APIC_clock", movl(0x200EF, mem(_apic_register(0x320))), ret()),
    )


def _apic_register(offset: int) -> Value:
    return addr("apic_page") + offset


def _mmu(build: Build) -> Body:
    pge = 0x80
    high = (movl(ecx, mem(4, eax)),) if build.pae else ()
    at_stack = [movl(mem(4, esp), edx), movl(edx, mem(0, ecx))]
    if build.pae:  # the high word first: an entry must not be present before it is whole
        at_stack = [movl(mem(8, esp), edx), movl(edx, mem(4, ecx)), *at_stack]
    return (
        function("native_flush_tlb", movl(cr3, eax), movl(eax, cr3), ret()),
        function(
            "native_flush_tlb_global",
            *(movl(cr4, eax), movl(eax, edx), andl(~pge, edx), movl(edx, cr4), movl(eax, cr4), ret()),
        ),
        function("native_flush_tlb_single", invlpg(mem(0, eax)), ret()),
        # One CPU: the interrupt to the others is asked of the APIC, and nobody gets it.
        function("native_flush_tlb_others", movl(0xFD, mem(_apic_register(0x300))), ret()),
        function("native_set_pte", *high, movl(edx, mem(0, eax)), ret()),
        function("native_set_pte_at", *at_stack, ret()),
        function("native_set_pmd", *high, movl(edx, mem(0, eax)), ret()),
    )


def _seed() -> tuple[Body, ...]:
    again = Local("again")
    return (
        function("native_patch", ret()),
        function("default_banner", leal(mem("linux_banner"), eax), ret()),
        # The boot loader's map, one range: how many KiB.
        function(
            "machine_specific_memory_setup",
            movl(mem("boot_params"), eax),
            movl(eax, mem("e820_map")),
            leal(mem("bios_e820"), eax),
            ret(),
        ),
        function(
            "hpet_time_init", movb(0x34, al), outb(al, 0x43), movb(0x9C, al), outb(al, 0x40), outb(al, 0x40), ret()
        ),
        # The TSC against the PIT: its counter reads as stopped here, so that one turn of the loop is a millisecond.
        function("native_calculate_cpu_khz", rdtsc(), movl(eax, ecx), rdtsc(), subl(ecx, eax), shll(10, eax), ret()),
        # The 8259s: edge triggered, vectors from 0x20.
        function(
            "native_init_IRQ", movb(0x11, al), outb(al, 0x20), outb(al, 0xA0), movb(0x20, al), outb(al, 0x21), ret()
        ),
        # The kernel's part of the page table is there already.
        function("native_pagetable_setup_start", ret()),
        function("native_pagetable_setup_done", ret()),
        *(function(f"native_{name}", ret()) for name in ("pte_val", "pgd_val", "make_pte", "make_pgd")),
    )


def _v2_6_33() -> tuple[Body, ...]:
    return ()
