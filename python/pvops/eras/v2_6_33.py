"""2.6.33, the kernels of the 2010 post: i386 and x86-64 share one set of structures, and locks have ops.

Sources: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt-spinlocks.c,
paravirt_patch_32.c, paravirt_patch_64.c and asm-offsets_{32,64}.c of a tree at the level of 2.6.32, which differs from
2.6.33 in the name of the lock type only.
"""

from __future__ import annotations

from pvops.eras import v2_6_24
from pvops.eras.nops import by_features, by_vendor
from pvops.eras.records import OFFSET, Option, class_options, clobbers_2010
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import Shape
from pvops.eras.structs import Config, Op, OpsStruct, ifdef
from pvops.eras.template import Array
from pvops.eras.v2_6_24 import pv_lazy_ops
from pvops.eras.v2_6_24_rc1 import bare_hardware, paravirt_nop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


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


class pv_lock_ops(OpsStruct):
    """Ticket locks. In the template always; seen by the patcher and called only with CONFIG_PARAVIRT_SPINLOCKS."""

    called = "PARAVIRT_SPINLOCKS"
    export = "EXPORT_SYMBOL"

    spin_is_locked = Op(doc="is the lock held?")
    spin_is_contended = Op(doc="is somebody waiting for the lock?")
    spin_lock = Op(doc="take the lock")
    spin_lock_flags = Op(doc="take the lock, with interrupts as they were while waiting")
    spin_trylock = Op(doc="take the lock if nobody holds it")
    spin_unlock = Op(doc="let the lock go")


#: The order of struct paravirt_patch_template.
STRUCTS = (pv_init_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_apic_ops, pv_mmu_ops, pv_lock_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked. What the kernel's ``#ifdef`` leaves without a function is NULL."""
    wide = config.holds("X86_64")
    smp = config.holds("SMP")
    ia32 = not wide or config.holds("IA32_EMULATION")
    pte_ident = "_paravirt_ident_64" if config.holds("X86_PAE|X86_64") else "_paravirt_ident_32"
    return (
        pv_init_ops(
            patch="native_patch",
        ),
        pv_time_ops(
            sched_clock="native_sched_clock",
            get_tsc_khz=None,
        ),
        pv_cpu_ops(
            cpuid="native_cpuid",
            get_debugreg="native_get_debugreg",
            set_debugreg="native_set_debugreg",
            clts="native_clts",
            read_cr0="native_read_cr0",
            write_cr0="native_write_cr0",
            read_cr4="native_read_cr4",
            read_cr4_safe="native_read_cr4_safe",
            write_cr4="native_write_cr4",
            read_cr8="native_read_cr8",
            write_cr8="native_write_cr8",
            wbinvd="native_wbinvd",
            read_msr="native_read_msr_safe",
            rdmsr_regs="native_rdmsr_safe_regs",
            write_msr="native_write_msr_safe",
            wrmsr_regs="native_wrmsr_safe_regs",
            read_tsc="native_read_tsc",
            read_pmc="native_read_pmc",
            read_tscp="native_read_tscp",
            load_tr_desc="native_load_tr_desc",
            set_ldt="native_set_ldt",
            load_gdt="native_load_gdt",
            load_idt="native_load_idt",
            store_gdt="native_store_gdt",
            store_idt="native_store_idt",
            store_tr="native_store_tr",
            load_tls="native_load_tls",
            load_gs_index="native_load_gs_index",
            write_ldt_entry="native_write_ldt_entry",
            write_gdt_entry="native_write_gdt_entry",
            write_idt_entry="native_write_idt_entry",
            alloc_ldt=paravirt_nop,
            free_ldt=paravirt_nop,
            load_sp0="native_load_sp0",
            irq_enable_sysexit="native_irq_enable_sysexit" if ia32 else None,
            usergs_sysret32="native_usergs_sysret32" if wide and ia32 else None,
            usergs_sysret64="native_usergs_sysret64" if wide else None,
            iret="native_iret",
            swapgs="native_swapgs",
            set_iopl_mask="native_set_iopl_mask",
            io_delay="native_io_delay",
            start_context_switch=paravirt_nop,
            end_context_switch=paravirt_nop,
        ),
        pv_irq_ops(
            save_fl="native_save_fl",
            restore_fl="native_restore_fl",
            irq_disable="native_irq_disable",
            irq_enable="native_irq_enable",
            safe_halt="native_safe_halt",
            halt="native_halt",
            adjust_exception_frame=paravirt_nop,
        ),
        pv_apic_ops(
            startup_ipi_hook=paravirt_nop,
        ),
        pv_mmu_ops(
            read_cr2="native_read_cr2",
            write_cr2="native_write_cr2",
            read_cr3="native_read_cr3",
            write_cr3="native_write_cr3",
            flush_tlb_user="native_flush_tlb",
            flush_tlb_kernel="native_flush_tlb_global",
            flush_tlb_single="native_flush_tlb_single",
            flush_tlb_others="native_flush_tlb_others",
            pgd_alloc="__paravirt_pgd_alloc",
            pgd_free=paravirt_nop,
            alloc_pte=paravirt_nop,
            alloc_pmd=paravirt_nop,
            alloc_pmd_clone=paravirt_nop,
            alloc_pud=paravirt_nop,
            release_pte=paravirt_nop,
            release_pmd=paravirt_nop,
            release_pud=paravirt_nop,
            set_pte="native_set_pte",
            set_pte_at="native_set_pte_at",
            set_pmd="native_set_pmd",
            pte_update=paravirt_nop,
            pte_update_defer=paravirt_nop,
            ptep_modify_prot_start="__ptep_modify_prot_start",
            ptep_modify_prot_commit="__ptep_modify_prot_commit",
            kmap_atomic_pte="kmap_atomic",
            set_pte_atomic="native_set_pte_atomic",
            pte_clear="native_pte_clear",
            pmd_clear="native_pmd_clear",
            set_pud="native_set_pud",
            pmd_val=pte_ident,
            make_pmd=pte_ident,
            pud_val=pte_ident,
            make_pud=pte_ident,
            set_pgd="native_set_pgd",
            pte_val=pte_ident,
            pgd_val=pte_ident,
            make_pte=pte_ident,
            make_pgd=pte_ident,
            dup_mmap=paravirt_nop,
            exit_mmap=paravirt_nop,
            activate_mm=paravirt_nop,
            lazy_mode={"enter": paravirt_nop, "leave": paravirt_nop},
            set_fixmap="native_set_fixmap",
        ),
        pv_lock_ops(
            spin_is_locked="__ticket_spin_is_locked" if smp else None,
            spin_is_contended="__ticket_spin_is_contended" if smp else None,
            spin_lock="__ticket_spin_lock" if smp else None,
            spin_lock_flags="default_spin_lock_flags" if smp else None,
            spin_trylock="__ticket_spin_trylock" if smp else None,
            spin_unlock="__ticket_spin_unlock" if smp else None,
        ),
    )


#: DEF_NATIVE of paravirt_patch_64.c; paravirt_patch_32.c still has the seed's.
DEF_NATIVE_64 = {
    "pv_irq_ops.irq_disable": "fa",  # cli
    "pv_irq_ops.irq_enable": "fb",  # sti
    "pv_irq_ops.restore_fl": "57 9d",  # pushq %rdi; popfq
    "pv_irq_ops.save_fl": "9c 58",  # pushfq; popq %rax
    "pv_cpu_ops.iret": "48 cf",  # iretq
    "pv_mmu_ops.read_cr2": "0f 20 d0",  # movq %cr2, %rax
    "pv_mmu_ops.read_cr3": "0f 20 d8",  # movq %cr3, %rax
    "pv_mmu_ops.write_cr3": "0f 22 df",  # movq %rdi, %cr3
    "pv_mmu_ops.flush_tlb_single": "0f 01 3f",  # invlpg (%rdi)
    "pv_cpu_ops.clts": "0f 06",  # clts
    "pv_cpu_ops.wbinvd": "0f 09",  # wbinvd
    "pv_cpu_ops.irq_enable_sysexit": "0f 01 f8 fb 0f 35",  # swapgs; sti; sysexit
    "pv_cpu_ops.usergs_sysret64": "0f 01 f8 48 0f 07",  # swapgs; sysretq
    "pv_cpu_ops.usergs_sysret32": "0f 01 f8 0f 07",  # swapgs; sysretl
    "pv_cpu_ops.swapgs": "0f 01 f8",  # swapgs
}


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, whatever the op holds; too little room keeps the indirect call."""
    from pvops.eras import v2_6_24_rc1 as seed
    from pvops.eras.patching import inline_all

    code = DEF_NATIVE_64 if config.bits == 64 else seed.DEF_NATIVE
    return inline_all("native_patch", f"2.6.33 arch/x86/kernel/paravirt_patch_{config.bits}.c", code)


ASM_OFFSETS = (
    OFFSET("PARAVIRT_enabled", "pv_info", "paravirt_enabled"),
    OFFSET("PARAVIRT_PATCH_pv_cpu_ops", "paravirt_patch_template", "pv_cpu_ops", config="PARAVIRT_CPU"),
    OFFSET("PARAVIRT_PATCH_pv_irq_ops", "paravirt_patch_template", "pv_irq_ops", config="PARAVIRT_IRQ"),
    OFFSET("PV_IRQ_irq_disable", "pv_irq_ops", "irq_disable"),
    OFFSET("PV_IRQ_irq_enable", "pv_irq_ops", "irq_enable"),
    OFFSET("PV_IRQ_adjust_exception_frame", "pv_irq_ops", "adjust_exception_frame", config="X86_64"),
    OFFSET("PV_CPU_iret", "pv_cpu_ops", "iret"),
    OFFSET("PV_CPU_usergs_sysret32", "pv_cpu_ops", "usergs_sysret32", config="X86_64"),
    OFFSET("PV_CPU_usergs_sysret64", "pv_cpu_ops", "usergs_sysret64", config="X86_64"),
    OFFSET("PV_CPU_irq_enable_sysexit", "pv_cpu_ops", "irq_enable_sysexit"),
    OFFSET("PV_CPU_swapgs", "pv_cpu_ops", "swapgs", config="X86_64"),
    OFFSET("PV_MMU_read_cr2", "pv_mmu_ops", "read_cr2", config="X86_64"),
    OFFSET("PV_CPU_read_cr0", "pv_cpu_ops", "read_cr0", config="!X86_64"),
)

ERA = v2_6_24.ERA.then(
    "2.6.33",
    "2.6.33: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c",
    began=("pv_lock_ops",),
)._replace(
    bits=(32, 64),
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=(
        Option("X86_LOCAL_APIC", "the op of pv_apic_ops exists"),
        Option("HIGHPTE", "page tables may lie in high memory: kmap_atomic_pte", (False, False), depends="!X86_64"),
        Option("X86_PAE", "three-level page tables on i386: six more ops", (False, False), depends="!X86_64"),
        Option("SMP", "ticket locks exist: the functions that pv_lock_ops holds"),
        Option(
            "PARAVIRT_SPINLOCKS",
            "locks go through pv_lock_ops; without it the six numbers stay, read NULL and have no sites",
            (False, False),
            depends="SMP",
        ),
        Option("IA32_EMULATION", "32-bit programs on x86-64: sysexit and sysret32", (False, True), depends="X86_64"),
        *class_options("time", "cpu", "irq", "apic", "mmu"),
    ),
    native=native,
    native_patch=native_patch,
    info=bare_hardware,
    offsets=ASM_OFFSETS,
    clobbers=clobbers_2010,
    paravirt=ParavirtRules(
        "2.6.33",
        "ud2",
        "_paravirt_nop",
        {"_paravirt_ident_32": 32, "_paravirt_ident_64": 64},
        True,
        True,
        "keep",
        "arch/x86/kernel/paravirt.c",
    ),
    passes=(Passes("2.6.33"),),
    nops=by_vendor(by_features("K8", "K7", "NOPL")),
    backends=("native", "kvm", "lguest", "vmi", "xen"),
    sites=Shape(),
)
