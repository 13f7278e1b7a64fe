"""The seed: the split structures of October 2007, as the post leaves them (between 2.6.23 and 2.6.24, i386 only).

Sources: Russell 2007 ("Wean off struct paravirt_ops entirely"); the order of declaration, which decides an op's number,
from include/asm-x86/paravirt.h, and values from arch/x86/kernel/paravirt_32.c at commit 93b1eab3, the patch as merged.
"""

from __future__ import annotations

from pvops.eras.definition import Era
from pvops.eras.nops import always_k8, by_features
from pvops.eras.records import (
    ALT_INSTR_POINTERS,
    OFFSET,
    PATCH_SITE,
    POINTER,
    InfoStruct,
    Member,
    Option,
    class_options,
    clobbers_2007,
)
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import SHAPE_2007
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

paravirt_nop = "_paravirt_nop"


class pv_info(InfoStruct):
    """General info: data, not ops. Exported so that lg.ko can tell that it would run lguest inside lguest."""

    export = "EXPORT_SYMBOL_GPL"

    kernel_rpl = Member("unsigned int", doc="ring the kernel runs in: 0 on bare hardware, 1 as a guest")
    shared_kernel_pmd = Member("int", doc="page tables share the kernel's page middle directory; PAE only")
    paravirt_enabled = Member("int", doc="0 on bare hardware, 1 under a hypervisor")
    name = Member("const char *", POINTER, doc='who is below: "bare hardware", "lguest", "Xen"')


class pv_init_ops(OpsStruct):
    """Ops used while booting (patch also when a module is loaded)."""

    patch = Op(doc="write the code for one site into a buffer, return its length; the rest is filled with nops")
    arch_setup = Op(doc="the platform's own part of setup_arch()")
    memory_setup = Op(doc="find the map of physical memory, return who said so")
    post_allocator_init = Op(doc="called when the page allocator works")
    banner = Op(doc='print "Booting paravirtualized kernel on …"')


class pv_misc_ops(OpsStruct):
    """Lazy mode, which fitted nowhere else; 2.6.24 moves it into cpu and mmu."""

    config = "PARAVIRT_MISC"

    set_lazy_mode = Op(doc="start, flush or end a batch of updates that a hypervisor may carry out at once")


class pv_time_ops(OpsStruct):
    """Time."""

    config = "PARAVIRT_TIME"
    export = "EXPORT_SYMBOL_GPL"

    time_init = Op(doc="set up the timer interrupt")
    get_wallclock = Op(doc="read the time of day, in seconds")
    set_wallclock = Op(doc="set the time of day, in seconds")
    sched_clock = Op(doc="nanoseconds for the scheduler; under a hypervisor without the time stolen from this CPU")
    get_cpu_khz = Op(doc="measure the CPU's clock, in kHz")


class pv_cpu_ops(OpsStruct):
    """Privileged instructions."""

    config = "PARAVIRT_CPU"
    export = "EXPORT_SYMBOL_GPL"

    get_debugreg = Op(doc="read a debug register")
    set_debugreg = Op(doc="write a debug register")

    clts = Op(doc="clear CR0.TS: the FPU may be used")

    read_cr0 = Op(doc="read CR0")
    write_cr0 = Op(doc="write CR0")

    read_cr4_safe = Op(doc="read CR4, or 0 on a CPU that has none")
    read_cr4 = Op(doc="read CR4")
    write_cr4 = Op(doc="write CR4")

    load_tr_desc = Op(doc="load the task register")
    load_gdt = Op(doc="load the global descriptor table register")
    load_idt = Op(doc="load the interrupt descriptor table register")
    store_gdt = Op(doc="read the global descriptor table register")
    store_idt = Op(doc="read the interrupt descriptor table register")
    set_ldt = Op(doc="load the local descriptor table")
    store_tr = Op(doc="read the task register")
    load_tls = Op(doc="put a thread's TLS segments into the GDT")
    write_ldt_entry = Op(doc="write one local descriptor")
    write_gdt_entry = Op(doc="write one global descriptor")
    write_idt_entry = Op(doc="write one interrupt gate")
    load_esp0 = Op(doc="tell the CPU where the kernel's stack is")

    set_iopl_mask = Op(doc="set the privilege that port I/O needs")

    wbinvd = Op(doc="write back and invalidate the caches")
    io_delay = Op(doc="wait a moment for a slow device")

    cpuid = Op(doc="CPUID; a hypervisor can hide features here")

    read_msr = Op(doc="read a model-specific register; says so if there is none")
    write_msr = Op(doc="write a model-specific register; says so if there is none")

    read_tsc = Op(doc="read the time-stamp counter")
    read_pmc = Op(doc="read a performance counter")

    irq_enable_sysexit = Op(jump=True, doc="interrupts on and back to user space by sysexit; jumped to")
    iret = Op(jump=True, doc="return from an interrupt; jumped to")


class pv_irq_ops(OpsStruct):
    """Interrupt state: small, and the hottest ops of all."""

    config = "PARAVIRT_IRQ"
    export = "EXPORT_SYMBOL"

    init_IRQ = Op(doc="set up interrupt vectors")

    save_fl = Op(doc="return the flags; only the interrupt flag counts")
    restore_fl = Op(doc="set the interrupt flag as it was saved")
    irq_disable = Op(doc="no interrupts from here")
    irq_enable = Op(doc="interrupts from here")
    safe_halt = Op(doc="interrupts on and halt, with no gap between")
    halt = Op(doc="halt; interrupts stay as they are")


class pv_apic_ops(OpsStruct):
    """The local APIC, for VMI above all."""

    config = "PARAVIRT_APIC"
    export = "EXPORT_SYMBOL_GPL"

    with ifdef("X86_LOCAL_APIC"):
        apic_write = Op(doc="write an APIC register")
        apic_write_atomic = Op(doc="write an APIC register with a bus lock, against an old erratum")
        apic_read = Op(doc="read an APIC register")
        setup_boot_clock = Op(doc="start the boot CPU's APIC timer")
        setup_secondary_clock = Op(doc="start another CPU's APIC timer")
        startup_ipi_hook = Op(doc="told of a CPU about to be started, and where it will run")


class pv_mmu_ops(OpsStruct):
    """Page tables."""

    config = "PARAVIRT_MMU"
    export = "EXPORT_SYMBOL_GPL"

    pagetable_setup_start = Op(doc="before the kernel's own page table is built")
    pagetable_setup_done = Op(doc="after the kernel's own page table is built")

    read_cr2 = Op(doc="read CR2, the address of the last page fault")
    write_cr2 = Op(doc="write CR2")

    read_cr3 = Op(doc="read CR3, the address of the page table")
    write_cr3 = Op(doc="write CR3: another page table, and a TLB flush")

    activate_mm = Op(doc="an address space is about to be used for the first time")
    dup_mmap = Op(doc="an address space was copied by fork()")
    exit_mmap = Op(doc="an address space is about to be torn down")

    flush_tlb_user = Op(doc="forget this CPU's translations of user addresses")
    flush_tlb_kernel = Op(doc="forget all this CPU's translations, global ones too")
    flush_tlb_single = Op(doc="forget this CPU's translation of one address")
    flush_tlb_others = Op(doc="have other CPUs forget translations")

    alloc_pt = Op(doc="a page becomes a page table")
    alloc_pd = Op(doc="a page becomes a page directory")
    alloc_pd_clone = Op(doc="a page becomes a page directory that starts as a copy")
    release_pt = Op(doc="a page is a page table no more")
    release_pd = Op(doc="a page is a page directory no more")

    set_pte = Op(doc="write a page table entry")
    set_pte_at = Op(doc="write a page table entry, knowing whose it is and for which address")
    set_pmd = Op(doc="write a page middle directory entry")
    pte_update = Op(doc="an entry was changed in place; whoever keeps a copy must look again")
    pte_update_defer = Op(doc="as pte_update, but the next TLB flush is soon enough")

    with ifdef("X86_PAE"):
        set_pte_atomic = Op(doc="write a 64-bit entry in one piece")
        set_pte_present = Op(doc="write an entry that is already present")
        set_pud = Op(doc="write a page upper directory entry")
        pte_clear = Op(doc="clear a page table entry")
        pmd_clear = Op(doc="clear a page middle directory entry")

    pte_val = Op(doc="the number in a page table entry")
    pmd_val = Op(config="X86_PAE", doc="the number in a page middle directory entry")
    pgd_val = Op(doc="the number in a page global directory entry")

    make_pte = Op(doc="a page table entry from a number")
    make_pmd = Op(config="X86_PAE", doc="a page middle directory entry from a number")
    make_pgd = Op(doc="a page global directory entry from a number")

    with ifdef("HIGHPTE"):
        kmap_atomic_pte = Op(doc="map a page table that lies in high memory")


#: The order of struct paravirt_patch_template.
STRUCTS = (pv_init_ops, pv_misc_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_apic_ops, pv_mmu_ops)

bare_hardware = pv_info(name="bare hardware", paravirt_enabled=0, kernel_rpl=0, shared_kernel_pmd=1)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked; the post's own initialisers, and NULL where it has none (post_allocator_init)."""
    return (
        pv_init_ops(
            patch="native_patch",
            banner="default_banner",
            arch_setup=paravirt_nop,
            memory_setup="machine_specific_memory_setup",
            post_allocator_init=None,
        ),
        pv_misc_ops(
            set_lazy_mode=paravirt_nop,
        ),
        pv_time_ops(
            time_init="hpet_time_init",
            get_wallclock="native_get_wallclock",
            set_wallclock="native_set_wallclock",
            sched_clock="native_sched_clock",
            get_cpu_khz="native_calculate_cpu_khz",
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
            wbinvd="native_wbinvd",
            read_msr="native_read_msr_safe",
            write_msr="native_write_msr_safe",
            read_tsc="native_read_tsc",
            read_pmc="native_read_pmc",
            load_tr_desc="native_load_tr_desc",
            set_ldt="native_set_ldt",
            load_gdt="native_load_gdt",
            load_idt="native_load_idt",
            store_gdt="native_store_gdt",
            store_idt="native_store_idt",
            store_tr="native_store_tr",
            load_tls="native_load_tls",
            write_ldt_entry="write_dt_entry",
            write_gdt_entry="write_dt_entry",
            write_idt_entry="write_dt_entry",
            load_esp0="native_load_esp0",
            irq_enable_sysexit="native_irq_enable_sysexit",
            iret="native_iret",
            set_iopl_mask="native_set_iopl_mask",
            io_delay="native_io_delay",
        ),
        pv_irq_ops(
            init_IRQ="native_init_IRQ",
            save_fl="native_save_fl",
            restore_fl="native_restore_fl",
            irq_disable="native_irq_disable",
            irq_enable="native_irq_enable",
            safe_halt="native_safe_halt",
            halt="native_halt",
        ),
        pv_apic_ops(
            apic_write="native_apic_write",
            apic_write_atomic="native_apic_write_atomic",
            apic_read="native_apic_read",
            setup_boot_clock="setup_boot_APIC_clock",
            setup_secondary_clock="setup_secondary_APIC_clock",
            startup_ipi_hook=paravirt_nop,
        ),
        pv_mmu_ops(
            pagetable_setup_start="native_pagetable_setup_start",
            pagetable_setup_done="native_pagetable_setup_done",
            read_cr2="native_read_cr2",
            write_cr2="native_write_cr2",
            read_cr3="native_read_cr3",
            write_cr3="native_write_cr3",
            flush_tlb_user="native_flush_tlb",
            flush_tlb_kernel="native_flush_tlb_global",
            flush_tlb_single="native_flush_tlb_single",
            flush_tlb_others="native_flush_tlb_others",
            alloc_pt=paravirt_nop,
            alloc_pd=paravirt_nop,
            alloc_pd_clone=paravirt_nop,
            release_pt=paravirt_nop,
            release_pd=paravirt_nop,
            set_pte="native_set_pte",
            set_pte_at="native_set_pte_at",
            set_pmd="native_set_pmd",
            pte_update=paravirt_nop,
            pte_update_defer=paravirt_nop,
            kmap_atomic_pte="kmap_atomic",
            set_pte_atomic="native_set_pte_atomic",
            set_pte_present="native_set_pte_present",
            set_pud="native_set_pud",
            pte_clear="native_pte_clear",
            pmd_clear="native_pmd_clear",
            pmd_val="native_pmd_val",
            make_pmd="native_make_pmd",
            pte_val="native_pte_val",
            pgd_val="native_pgd_val",
            make_pte="native_make_pte",
            make_pgd="native_make_pgd",
            dup_mmap=paravirt_nop,
            exit_mmap=paravirt_nop,
            activate_mm=paravirt_nop,
        ),
    )


#: DEF_NATIVE of arch/x86/kernel/paravirt_32.c: the instructions that replace a call on bare hardware.
DEF_NATIVE = {
    "pv_irq_ops.irq_disable": "fa",  # cli
    "pv_irq_ops.irq_enable": "fb",  # sti
    "pv_irq_ops.restore_fl": "50 9d",  # push %eax; popf
    "pv_irq_ops.save_fl": "9c 58",  # pushf; pop %eax
    "pv_cpu_ops.iret": "cf",  # iret
    "pv_cpu_ops.irq_enable_sysexit": "fb 0f 35",  # sti; sysexit
    "pv_mmu_ops.read_cr2": "0f 20 d0",  # mov %cr2, %eax
    "pv_mmu_ops.write_cr3": "0f 22 d8",  # mov %eax, %cr3
    "pv_mmu_ops.read_cr3": "0f 20 d8",  # mov %cr3, %eax
    "pv_cpu_ops.clts": "0f 06",  # clts
    "pv_cpu_ops.read_tsc": "0f 31",  # rdtsc
}


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, whatever the op holds; too little room keeps the indirect call."""
    from pvops.eras.patching import inline_all

    return inline_all("native_patch", "2.6.24 arch/x86/kernel/paravirt_32.c", DEF_NATIVE)


ASM_OFFSETS = (
    OFFSET("PARAVIRT_enabled", "pv_info", "paravirt_enabled"),
    OFFSET("PARAVIRT_PATCH_pv_cpu_ops", "paravirt_patch_template", "pv_cpu_ops", config="PARAVIRT_CPU"),
    OFFSET("PARAVIRT_PATCH_pv_irq_ops", "paravirt_patch_template", "pv_irq_ops", config="PARAVIRT_IRQ"),
    OFFSET("PV_IRQ_irq_disable", "pv_irq_ops", "irq_disable"),
    OFFSET("PV_IRQ_irq_enable", "pv_irq_ops", "irq_enable"),
    OFFSET("PV_CPU_iret", "pv_cpu_ops", "iret"),
    OFFSET("PV_CPU_irq_enable_sysexit", "pv_cpu_ops", "irq_enable_sysexit"),
    OFFSET("PV_CPU_read_cr0", "pv_cpu_ops", "read_cr0"),
)

OPTIONS = (
    Option("X86_LOCAL_APIC", "the ops of pv_apic_ops exist"),
    Option("HIGHPTE", "page tables may lie in high memory: kmap_atomic_pte", (False, False)),
    Option("X86_PAE", "three-level page tables: seven more ops, in the middle of pv_mmu_ops", (False, False)),
    Option("SMP", "no op depends on it; Xen's direct code does"),
)

#: Marks of every image with CONFIG_PARAVIRT of this time.
SINCE_2007 = {
    "native_patch": True,
    ".parainstructions": True,
    "native_queued_spin_lock_slowpath": False,
    "native_steal_clock": False,
    "arch_init_ideal_nops": False,
}

ERA = Era(
    name="2.6.24-rc1",
    source="torvalds/linux 93b1eab3 (October 2007): include/asm-x86/paravirt.h, arch/x86/kernel/paravirt_32.c",
    bits=(32,),
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=OPTIONS + class_options("misc", "time", "cpu", "irq", "apic", "mmu"),
    native=native,
    native_patch=native_patch,
    info=bare_hardware,
    offsets=ASM_OFFSETS,
    records=(PATCH_SITE, ALT_INSTR_POINTERS),
    clobbers=clobbers_2007,
    paravirt=ParavirtRules("2.6.24-rc1", "ud2", "_paravirt_nop", {}, True, True, "keep", "arch/i386/kernel/paravirt.c"),
    passes=(Passes("seed"),),
    # 32c464f5d970 (P6 nops for P3 and P4) came on another branch of the same merge window.
    nops=always_k8(by_features("K8", "K7")),
    numbers=(),
    marks={"pv_init_ops": True, "pv_misc_ops": True, "paravirt_ops": False, "pv_lock_ops": False, **SINCE_2007},
    backends=("native", "lguest", "vmi", "xen"),
    sites=SHAPE_2007,
    aliases=("seed",),
    release="2.6.23",  # what the tree of the post calls itself
)
