"""2.6.33, the kernels of the 2010 post: i386 and x86-64 share one set of structures, and locks have ops.

Sources: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt-spinlocks.c,
paravirt_patch_32.c, paravirt_patch_64.c and asm-offsets_{32,64}.c of a tree at the level of 2.6.32, which differs from
2.6.33 in the name of the lock type only.
"""

from __future__ import annotations

from pvops.eras import numbers_2_6_29, v2_6_27, v2_6_30
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, refilled
from pvops.eras.template import Array
from pvops.eras.v2_6_24 import pv_lazy_ops
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_init_ops(OpsStruct):
    """What is left of it: the rest moved to x86_init."""

    patch = Op()


class pv_time_ops(OpsStruct):
    """Time."""

    config = "PARAVIRT_TIME"
    export = "EXPORT_SYMBOL_GPL"

    sched_clock = Op()
    get_tsc_khz = Op(doc="measure the time-stamp counter's clock, in kHz; no longer called")


class pv_cpu_ops(OpsStruct):
    """Privileged instructions."""

    config = "PARAVIRT_CPU"
    export = "EXPORT_SYMBOL"

    get_debugreg = Op()
    set_debugreg = Op()

    clts = Op()

    read_cr0 = Op()
    write_cr0 = Op()

    read_cr4_safe = Op()
    read_cr4 = Op()
    write_cr4 = Op()

    with ifdef("X86_64"):
        read_cr8 = Op(doc="read CR8, the task priority")
        write_cr8 = Op(doc="write CR8, the task priority")

    load_tr_desc = Op()
    load_gdt = Op()
    load_idt = Op()
    store_gdt = Op()
    store_idt = Op()
    set_ldt = Op()
    store_tr = Op()
    load_tls = Op()
    load_gs_index = Op(config="X86_64", doc="load the user's GS selector")
    write_ldt_entry = Op()
    write_gdt_entry = Op()
    write_idt_entry = Op()
    alloc_ldt = Op(doc="pages become a local descriptor table")
    free_ldt = Op(doc="pages are a local descriptor table no more")

    load_sp0 = Op(doc="tell the CPU where the kernel's stack is")

    set_iopl_mask = Op()

    wbinvd = Op()
    io_delay = Op()

    cpuid = Op()

    read_msr = Op()
    rdmsr_regs = Op(doc="read a model-specific register with all registers given, for AMD's locked ones")
    write_msr = Op()
    wrmsr_regs = Op(doc="write a model-specific register with all registers given, for AMD's locked ones")

    read_tsc = Op()
    read_pmc = Op()
    read_tscp = Op(doc="read the time-stamp counter and the CPU's number")

    irq_enable_sysexit = Op(jump=True)
    usergs_sysret64 = Op(jump=True, doc="the user's GS, and back to 64-bit user space by sysret; jumped to")
    usergs_sysret32 = Op(jump=True, doc="the user's GS, and back to 32-bit user space by sysret; jumped to")
    iret = Op(jump=True)

    swapgs = Op(doc="exchange the kernel's GS and the user's")

    start_context_switch = Op(doc="a switch to another task begins: collect updates")
    end_context_switch = Op(doc="the switch to another task is done: carry them out")


class pv_irq_ops(OpsStruct):
    """Interrupt state. The hot four preserve every register but the returned one."""

    config = "PARAVIRT_IRQ"
    export = "EXPORT_SYMBOL"

    save_fl = Op(callee_save=True)
    restore_fl = Op(callee_save=True)
    irq_disable = Op(callee_save=True)
    irq_enable = Op(callee_save=True)

    safe_halt = Op()
    halt = Op()

    adjust_exception_frame = Op(config="X86_64", doc="take off what Xen pushes on top of an exception frame")


class pv_apic_ops(OpsStruct):
    """The local APIC: VMI's hook is left."""

    config = "PARAVIRT_APIC"
    export = "EXPORT_SYMBOL_GPL"

    with ifdef("X86_LOCAL_APIC"):
        startup_ipi_hook = Op()


class pv_mmu_ops(OpsStruct):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    config = "PARAVIRT_MMU"
    export = "EXPORT_SYMBOL"

    read_cr2 = Op()
    write_cr2 = Op()

    read_cr3 = Op()
    write_cr3 = Op()

    activate_mm = Op()
    dup_mmap = Op()
    exit_mmap = Op()

    flush_tlb_user = Op()
    flush_tlb_kernel = Op()
    flush_tlb_single = Op()
    flush_tlb_others = Op()

    pgd_alloc = Op(doc="a page table's top level is being made")
    pgd_free = Op(doc="a page table's top level is being freed")

    alloc_pte = Op(doc="a page becomes a page table")
    alloc_pmd = Op(doc="a page becomes a page middle directory")
    alloc_pmd_clone = Op(doc="a page becomes a page middle directory that starts as a copy")
    alloc_pud = Op(doc="a page becomes a page upper directory")
    release_pte = Op(doc="a page is a page table no more")
    release_pmd = Op(doc="a page is a page middle directory no more")
    release_pud = Op(doc="a page is a page upper directory no more")

    set_pte = Op()
    set_pte_at = Op()
    set_pmd = Op()
    pte_update = Op()
    pte_update_defer = Op()

    ptep_modify_prot_start = Op(doc="read an entry in order to change its protection; the hardware must not")
    ptep_modify_prot_commit = Op(doc="write back the entry whose protection changed")

    pte_val = Op(callee_save=True)
    make_pte = Op(callee_save=True)

    pgd_val = Op(callee_save=True)
    make_pgd = Op(callee_save=True)

    with ifdef("X86_PAE|X86_64"):  # PAGETABLE_LEVELS >= 3
        with ifdef("X86_PAE"):
            set_pte_atomic = Op()
            pte_clear = Op()
            pmd_clear = Op()

        set_pud = Op()

        pmd_val = Op(callee_save=True)
        make_pmd = Op(callee_save=True)

        with ifdef("X86_64"):  # PAGETABLE_LEVELS == 4
            pud_val = Op(callee_save=True, doc="the number in a page upper directory entry")
            make_pud = Op(callee_save=True, doc="a page upper directory entry from a number")

            set_pgd = Op(doc="write a page global directory entry")

    with ifdef("HIGHPTE"):
        kmap_atomic_pte = Op()

    lazy_mode = pv_lazy_ops

    set_fixmap = Op(doc="map a page at a fixed address")


#: The order of struct paravirt_patch_template.
STRUCTS = (pv_init_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_apic_ops, pv_mmu_ops, v2_6_27.pv_lock_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked. What the kernel's ``#ifdef`` leaves without a function is NULL."""
    return refilled(
        STRUCTS,
        v2_6_30.native(config),
        {
            "pv_time_ops.get_tsc_khz": None,
            "pv_cpu_ops.rdmsr_regs": "native_rdmsr_safe_regs",
            "pv_cpu_ops.wrmsr_regs": "native_wrmsr_safe_regs",
            "pv_cpu_ops.start_context_switch": paravirt_nop,
            "pv_cpu_ops.end_context_switch": paravirt_nop,
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = numbers_2_6_29.declared.then(
    "2.6.32",
    ncapints=9,
    nbugints=0,
    words={
        3: "EXTD_APICID:26 AMD_DCM:27 APERFMPERF:28",
        4: "MOVBE:22 POPCNT:23",
        7: "ARAT:1",
    },
)

ERA = v2_6_30.ERA.then(
    "2.6.33",
    "2.6.33: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c",
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    passes=(Passes("2.6.33"),),
    numbers=(NUMBERS,),
)
