"""The native functions that are more than a few instructions; `pvops.assembler` has the others.

Arguments are where ``regparm(3)`` has them: eax, edx, ecx, then the stack. Sources: include/asm-x86/paravirt.h,
system.h, desc.h, processor_32.h and arch/x86/kernel of 2.6.24 and 2.6.33. Devices that are not emulated
(the PIT, the 8259) are still written to and read through their ports.
"""

from __future__ import annotations

from collections.abc import Callable

from pvops.assembler import Local, Value, Within, addr, data, label, mem, u32
from pvops.assembler.operands import (
    Register,
    ah,
    al,
    ax,
    dh,
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
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    andl,
    cmpb,
    cmpl,
    cmpxchgw,
    cpuid,
    inb,
    incb,
    je,
    jmp,
    jne,
    leal,
    lldt,
    lock,
    ltr,
    movb,
    movl,
    movzbl,
    movzwl,
    orl,
    outb,
    pause,
    popfl,
    popl,
    pushfl,
    pushl,
    rdmsr,
    rdpmc,
    rdtsc,
    ret,
    sete,
    setne,
    shll,
    shrl,
    sti,
    subb,
    subl,
    testl,
    wrmsr,
    xaddw,
    xchgl,
    xorl,
)
from pvops.emulate.guest.layout import GDT_LDT, GDT_TLS, GDT_TSS, TLS_ARRAY, TLS_ENTRIES, Build

EFAULT = 14
_DEBUG = {0: dr0, 1: dr1, 2: dr2, 3: dr3, 6: dr6, 7: dr7}


def may_fault(fixup: Local, instruction: Body) -> tuple[Body, ...]:
    """An instruction and its row of ``__ex_table``: if it faults, go on at the fixup."""
    at = Local("may_fault")
    return (label(at), Within("__ex_table", u32(addr(at), addr(fixup))), instruction)


def functions(build: Build) -> dict[str, tuple[Body, ...]]:
    """The native functions of an era: name → instructions."""
    era = _seed() if build.era == "seed" else _v2_6_33(build)
    return {**_cpu(), **_descriptors(), **_msr(), **_time(), **_apic(), **_mmu(build), **era}


def _cpu() -> dict[str, tuple[Body, ...]]:
    return {
        "native_irq_enable_sysexit": (sti(), data(b"\x0f\x35")),
        "native_set_iopl_mask": (
            *(pushfl(), popl(edx), andl(~0x3000, edx), orl(eax, edx), pushl(edx), popfl(), ret()),
        ),
        # cpuid(eax, ebx, ecx, edx): four pointers, each read or written
        "native_cpuid": (
            *(pushl(ebx), pushl(esi), pushl(edi), pushl(edx), pushl(ecx), movl(eax, esi), movl(ecx, edi)),
            *(movl(mem(0, esi), eax), movl(mem(0, edi), ecx), cpuid(), movl(eax, mem(0, esi))),
            *(popl(edi), movl(ecx, mem(0, edi)), popl(edi), movl(ebx, mem(0, edi))),
            *(movl(mem(16, esp), edi), movl(edx, mem(0, edi)), popl(edi), popl(esi), popl(ebx), ret()),
        ),
        "native_get_debugreg": _each_debug(lambda register: movl(register, eax)),
        "native_set_debugreg": _each_debug(lambda register: movl(edx, register)),
    }


def _each_debug(access: Callable[[Register], Body]) -> tuple[Body, ...]:
    body: list[Body] = []
    for number, register in _DEBUG.items():
        other = Local(f"not_{number}")
        body += [cmpl(number, eax), jne(addr(other)), access(register), ret(), label(other)]
    return (*body, ret())


def _descriptors() -> dict[str, tuple[Body, ...]]:
    some = Local("some")
    busy = 0x200
    tls = [
        (movl(mem(TLS_ARRAY + 4 * i, eax), ecx), movl(ecx, mem(_gdt(GDT_TLS) + 4 * i))) for i in range(2 * TLS_ENTRIES)
    ]
    return {
        "native_load_tr_desc": (andl(~busy, mem(_gdt(GDT_TSS) + 4)), movl(8 * GDT_TSS, eax), ltr(ax), ret()),
        # set_ldt(address, entries)
        "native_set_ldt": (
            *(testl(edx, edx), jne(addr(some)), lldt(dx), ret()),
            *(label(some), shll(3, edx), subl(1, edx), movl(eax, ecx), shll(16, ecx), orl(ecx, edx)),
            *(movl(edx, mem(_gdt(GDT_LDT))), movl(eax, edx), shrl(16, edx), andl(0xFF, edx), andl(0xFF000000, eax)),
            *(orl(edx, eax), orl(0x8200, eax), movl(eax, mem(_gdt(GDT_LDT) + 4)), movl(8 * GDT_LDT, eax), lldt(ax)),
            ret(),
        ),
        "native_load_tls": (*tls, ret()),
        # write_dt_entry(table, index, low, high); 2.6.33 has (table, index, descriptor)
        "write_dt_entry": (
            *(movl(ecx, mem(0, eax, edx, 8)), movl(mem(4, esp), ecx), movl(ecx, mem(4, eax, edx, 8)), ret()),
        ),
        "native_load_esp0": (movl(mem(0, edx), ecx), movl(ecx, mem(4, eax)), ret()),
    }


def _gdt(index: int) -> Value:
    return addr("gdt_table") + 8 * index


def _msr() -> dict[str, tuple[Body, ...]]:
    failed, refused, absent = Local("failed"), Local("refused"), Local("absent")
    return {
        # u64 read_msr(msr, int *err)
        "native_read_msr_safe": (
            *(pushl(edx), movl(eax, ecx), *may_fault(failed, rdmsr()), popl(ecx), movl(0, mem(0, ecx)), ret()),
            *(label(failed), xorl(eax, eax), xorl(edx, edx), popl(ecx), movl(-EFAULT, mem(0, ecx)), ret()),
        ),
        # int write_msr(msr, low, high)
        "native_write_msr_safe": (
            *(xchgl(eax, ecx), xchgl(eax, edx), *may_fault(refused, wrmsr()), xorl(eax, eax), ret()),
            *(label(refused), movl(-EFAULT, eax), ret()),
        ),
        # The kernel's has no fixup; without one a guest could not ask at all where the counters are not its own.
        "native_read_pmc": (
            *(movl(eax, ecx), *may_fault(absent, rdpmc()), ret()),
            *(label(absent), xorl(eax, eax), xorl(edx, edx), ret()),
        ),
    }


def _time() -> dict[str, tuple[Body, ...]]:
    # Here the CMOS clock holds seconds since 1970, a byte each, and a nanosecond is a tick of the TSC.
    select = [(movb(i, al), outb(al, 0x70)) for i in range(4)]
    read = [(select[i], inb(0x71, al), shll(8, ecx), movzbl(al, eax), orl(eax, ecx)) for i in (3, 2, 1, 0)]
    write = [(select[i], movb(dl, al), outb(al, 0x71), shrl(8, edx)) for i in range(4)]
    return {
        "native_get_wallclock": (xorl(ecx, ecx), *read, movl(ecx, eax), ret()),
        "native_set_wallclock": (movl(eax, edx), *write, xorl(eax, eax), ret()),
        "native_sched_clock": (rdtsc(), ret()),
    }


def _apic() -> dict[str, tuple[Body, ...]]:
    timer = addr("apic_page") + 0x320
    return {
        "native_apic_write": (movl(edx, mem("apic_page", eax)), ret()),
        "native_apic_write_atomic": (xchgl(edx, mem("apic_page", eax)), ret()),
        "native_apic_read": (movl(mem("apic_page", eax), eax), ret()),
        "setup_boot_APIC_clock": (movl(0x200EF, mem(timer)), ret()),
        "setup_secondary_APIC_clock": (movl(0x200EF, mem(timer)), ret()),
    }


def _mmu(build: Build) -> dict[str, tuple[Body, ...]]:
    at = [movl(mem(4, esp), edx), movl(edx, mem(0, ecx))]
    if build.pae:  # the high word first: an entry must not be present before it is whole
        at = [movl(mem(8, esp), edx), movl(edx, mem(4, ecx)), *at]
    return {
        # One CPU: the interrupt to the others is asked of the APIC, and nobody gets it.
        "native_flush_tlb_others": (movl(0xFD, mem(addr("apic_page") + 0x300)), ret()),
        # set_pte_at(mm, address, entry, value)
        "native_set_pte_at": (*at, ret()),
    }


def _seed() -> dict[str, tuple[Body, ...]]:
    return {
        "native_patch": (ret(),),
        "default_banner": (movl(mem(addr("pv_info") + 12), eax), ret()),
        # The boot loader's map, one range: how many KiB.
        "machine_specific_memory_setup": (
            *(movl(mem("boot_params"), eax), movl(eax, mem("e820_map")), leal(mem("bios_e820"), eax), ret()),
        ),
        "hpet_time_init": (movb(0x34, al), outb(al, 0x43), movb(0x9C, al), outb(al, 0x40), outb(al, 0x40), ret()),
        # The TSC against the PIT, whose counter is not waited for here: a read of the TSC is a millisecond.
        "native_calculate_cpu_khz": (rdtsc(), movl(eax, ecx), rdtsc(), subl(ecx, eax), ret()),
        # The 8259s: edge triggered, vectors from 0x20.
        "native_init_IRQ": (movb(0x11, al), outb(al, 0x20), outb(al, 0xA0), movb(0x20, al), outb(al, 0x21), ret()),
        # The kernel's part of the page table is there already.
        "native_pagetable_setup_start": (ret(),),
        "native_pagetable_setup_done": (ret(),),
    }


def _v2_6_33(build: Build) -> dict[str, tuple[Body, ...]]:
    entry = (movl(ecx, mem(4, eax)), movl(edx, mem(0, eax)), ret())
    clear = (movl(0, mem(0, ecx)), movl(0, mem(4, ecx)), ret())
    descriptor = (
        *(pushl(ebx), movl(mem(0, ecx), ebx), movl(ebx, mem(0, eax, edx, 8)), movl(mem(4, ecx), ebx)),
        *(movl(ebx, mem(4, eax, edx, 8)), popl(ebx), ret()),
    )
    return {
        # A member on i386 too, where there is no such instruction: nobody calls it.
        "native_swapgs": (data(b"\x0f\x01\xf8"), ret()),
        # write_..._entry(table, index, descriptor)
        **{f"native_write_{table}_entry": descriptor for table in ("ldt", "gdt", "idt")},
        "native_load_sp0": (movl(mem(0, edx), ecx), movl(ecx, mem(4, eax)), ret()),
        **{f"native_{op}": entry for op in ("set_pte", "set_pmd", "set_pte_atomic", "set_pud")},
        "native_pte_clear": clear,
        "native_pmd_clear": (movl(0, mem(0, eax)), movl(0, mem(4, eax)), ret()),
        "__paravirt_pgd_alloc": (xorl(eax, eax), ret()),
        # ptep_modify_prot_start(mm, address, entry): what it was, and it is taken out meanwhile.
        "__ptep_modify_prot_start": (
            *(pushl(ebx), movl(ecx, ebx), xorl(eax, eax), xchgl(eax, mem(0, ebx)), movl(mem(4, ebx), edx)),
            *(movl(0, mem(4, ebx)), popl(ebx), ret()),
        ),
        "__ptep_modify_prot_commit": (jmp("native_set_pte_at"),),
        # Nothing is mapped at fixed addresses here.
        "native_set_fixmap": (ret(),),
        # What both do without an MSR: the error.
        "native_rdmsr_safe_regs": (movl(-EFAULT, eax), ret()),
        "native_wrmsr_safe_regs": (movl(-EFAULT, eax), ret()),
        "native_read_tscp": (movl(0, mem(0, eax)), rdtsc(), ret()),
        **_lazy(),
        **_locks(),
    }


def _lazy() -> dict[str, tuple[Body, ...]]:
    """arch/x86/kernel/paravirt.c: what every backend of 2.6.33 with a lazy mode builds on."""
    mode = mem("paravirt_lazy_mode")
    return {
        "paravirt_enter_lazy_mmu": (movl(1, mode), ret()),
        "paravirt_leave_lazy_mmu": (movl(0, mode), ret()),
        "paravirt_start_context_switch": (movl(2, mode), ret()),
        "paravirt_end_context_switch": (movl(0, mode), ret()),
    }


def _locks() -> dict[str, tuple[Body, ...]]:
    """arch/x86/include/asm/spinlock.h: tickets of a byte, the next in the high one."""
    spin, taken, busy = Local("spin"), Local("taken"), Local("busy")
    return {
        "__ticket_spin_lock": (
            *(movl(0x100, edx), lock(xaddw(dx, mem(0, eax)))),
            *(label(spin), cmpb(dl, dh), je(addr(taken)), pause(), movb(mem(0, eax), dl), jmp(addr(spin))),
            *(label(taken), ret()),
        ),
        "default_spin_lock_flags": (jmp("__ticket_spin_lock"),),
        "__ticket_spin_trylock": (
            *(movl(eax, ecx), movzwl(mem(0, ecx), eax), cmpb(al, ah), jne(addr(busy)), leal(mem(0x100, eax), edx)),
            *(lock(cmpxchgw(dx, mem(0, ecx))), sete(al), movzbl(al, eax), ret(), label(busy), xorl(eax, eax), ret()),
        ),
        "__ticket_spin_unlock": (incb(mem(0, eax)), ret()),
        "__ticket_spin_is_locked": (movzwl(mem(0, eax), eax), cmpb(al, ah), setne(al), movzbl(al, eax), ret()),
        "__ticket_spin_is_contended": (
            movzwl(mem(0, eax), eax),
            subb(al, ah),
            cmpb(1, ah),
            setne(al),
            movzbl(al, eax),
            ret(),
        ),
    }
