"""5.10: one structure pv_ops, most of it only with CONFIG_PARAVIRT_XXL, and the last native_patch.

Sources: Debian 5.10 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c, asm-offsets.c.
The separate variables of the seed are members of one again (4.20): ``pv_ops.irq.save_fl`` is what was
``pv_irq_ops.save_fl``. Ops keep the seed's names here.
"""

from __future__ import annotations

from pvops.eras import numbers_5_10, v2_6_33
from pvops.eras.nops import ideal_nops
from pvops.eras.records import ALT_INSTR_12, OFFSET, PATCH_SITE_5_10, POINTER, InfoStruct, Member, Option
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import Shape
from pvops.eras.structs import Config, Op, OpsStruct, ifdef
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

paravirt_nop = "_paravirt_nop"
pte_ident = "_paravirt_ident_64"


class pv_info(InfoStruct):
    """General info: data, not ops."""

    export = "EXPORT_SYMBOL_GPL"

    extra_user_64bit_cs = Member("u16", 2, config="PARAVIRT_XXL", doc="a hypervisor's own 64-bit user code segment")
    name = Member("const char *", POINTER, doc='who is below: "bare hardware", "KVM", "Xen"')


class pv_init_ops(OpsStruct):
    """The patch function."""

    member = "init"

    patch = Op()


class pv_lazy_ops(OpsStruct):
    """Deferred updates."""

    config = "PARAVIRT_XXL"

    enter = Op()
    leave = Op()
    flush = Op(doc="carry out what was collected, and go on collecting")


class pv_time_ops(OpsStruct):
    """Time."""

    member = "time"

    sched_clock = Op()
    steal_clock = Op(doc="nanoseconds stolen from this CPU by the hypervisor")


class pv_cpu_ops(OpsStruct):
    """Privileged instructions."""

    member = "cpu"

    io_delay = Op()

    with ifdef("PARAVIRT_XXL"):
        get_debugreg = Op()
        set_debugreg = Op()

        read_cr0 = Op()
        write_cr0 = Op()

        write_cr4 = Op()

        load_tr_desc = Op()
        load_gdt = Op()
        load_idt = Op()
        set_ldt = Op()
        store_tr = Op()
        load_tls = Op()
        load_gs_index = Op()
        write_ldt_entry = Op()
        write_gdt_entry = Op()
        write_idt_entry = Op()
        alloc_ldt = Op()
        free_ldt = Op()

        load_sp0 = Op()

        with ifdef("X86_IOPL_IOPERM"):
            invalidate_io_bitmap = Op(doc="this CPU's I/O permissions no longer hold")
            update_io_bitmap = Op(doc="load the current task's I/O permissions")

        wbinvd = Op()

        cpuid = Op()

        read_msr = Op(doc="read a model-specific register; trouble if there is none")
        write_msr = Op(doc="write a model-specific register; trouble if there is none")

        read_msr_safe = Op(doc="read a model-specific register; says so if there is none")
        write_msr_safe = Op(doc="write a model-specific register; says so if there is none")

        read_pmc = Op()

        iret = Op(jump=True)

        start_context_switch = Op()
        end_context_switch = Op()


class pv_irq_ops(OpsStruct):
    """Interrupt state."""

    member = "irq"

    with ifdef("PARAVIRT_XXL"):
        save_fl = Op(callee_save=True)
        restore_fl = Op(callee_save=True)
        irq_disable = Op(callee_save=True)
        irq_enable = Op(callee_save=True)

        safe_halt = Op()
        halt = Op()


class pv_mmu_ops(OpsStruct):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    member = "mmu"

    flush_tlb_user = Op()
    flush_tlb_kernel = Op()
    flush_tlb_one_user = Op(doc="forget this CPU's translation of one user address")
    flush_tlb_others = Op()

    tlb_remove_table = Op(doc="free a page table once no CPU walks it any more")

    exit_mmap = Op()

    with ifdef("PARAVIRT_XXL"):
        read_cr2 = Op(callee_save=True)
        write_cr2 = Op()

        read_cr3 = Op()
        write_cr3 = Op()

        activate_mm = Op()
        dup_mmap = Op()

        pgd_alloc = Op()
        pgd_free = Op()

        alloc_pte = Op()
        alloc_pmd = Op()
        alloc_pud = Op()
        alloc_p4d = Op(doc="a page becomes a fourth-level directory")
        release_pte = Op()
        release_pmd = Op()
        release_pud = Op()
        release_p4d = Op(doc="a page is a fourth-level directory no more")

        set_pte = Op()
        set_pmd = Op()

        ptep_modify_prot_start = Op()
        ptep_modify_prot_commit = Op()

        pte_val = Op(callee_save=True)
        make_pte = Op(callee_save=True)

        pgd_val = Op(callee_save=True)
        make_pgd = Op(callee_save=True)

        set_pud = Op()

        pmd_val = Op(callee_save=True)
        make_pmd = Op(callee_save=True)

        pud_val = Op(callee_save=True)
        make_pud = Op(callee_save=True)

        set_p4d = Op(doc="write a fourth-level directory entry")

        with ifdef("X86_5LEVEL"):  # CONFIG_PGTABLE_LEVELS >= 5
            p4d_val = Op(callee_save=True, doc="the number in a fourth-level directory entry")
            make_p4d = Op(callee_save=True, doc="a fourth-level directory entry from a number")

            set_pgd = Op()

        lazy_mode = pv_lazy_ops

        set_fixmap = Op()


class pv_lock_ops(OpsStruct):
    """Queued spinlocks. In the template always; filled and called only with CONFIG_PARAVIRT_SPINLOCKS."""

    member = "lock"
    called = "PARAVIRT_SPINLOCKS"

    queued_spin_lock_slowpath = Op(doc="take a lock that somebody holds")
    queued_spin_unlock = Op(callee_save=True, doc="let the lock go, and wake who waits for it")

    wait = Op(doc="let the hypervisor run somebody else until kicked, if the byte still has this value")
    kick = Op(doc="wake a CPU that waits")

    vcpu_is_preempted = Op(callee_save=True, doc="is the hypervisor running something else on that CPU?")


#: The order of struct paravirt_patch_template.
STRUCTS = (pv_init_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_mmu_ops, pv_lock_ops)

bare_hardware = pv_info(name="bare hardware", extra_user_64bit_cs=0x33)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return (
        pv_init_ops(
            patch="native_patch",
        ),
        pv_time_ops(
            sched_clock="native_sched_clock",
            steal_clock="native_steal_clock",
        ),
        pv_cpu_ops(
            io_delay="native_io_delay",
            cpuid="native_cpuid",
            get_debugreg="native_get_debugreg",
            set_debugreg="native_set_debugreg",
            read_cr0="native_read_cr0",
            write_cr0="native_write_cr0",
            write_cr4="native_write_cr4",
            wbinvd="native_wbinvd",
            read_msr="native_read_msr",
            write_msr="native_write_msr",
            read_msr_safe="native_read_msr_safe",
            write_msr_safe="native_write_msr_safe",
            read_pmc="native_read_pmc",
            load_tr_desc="native_load_tr_desc",
            set_ldt="native_set_ldt",
            load_gdt="native_load_gdt",
            load_idt="native_load_idt",
            store_tr="native_store_tr",
            load_tls="native_load_tls",
            load_gs_index="native_load_gs_index",
            write_ldt_entry="native_write_ldt_entry",
            write_gdt_entry="native_write_gdt_entry",
            write_idt_entry="native_write_idt_entry",
            alloc_ldt=paravirt_nop,
            free_ldt=paravirt_nop,
            load_sp0="native_load_sp0",
            iret="native_iret",
            invalidate_io_bitmap="native_tss_invalidate_io_bitmap",
            update_io_bitmap="native_tss_update_io_bitmap",
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
        ),
        pv_mmu_ops(
            flush_tlb_user="native_flush_tlb_local",
            flush_tlb_kernel="native_flush_tlb_global",
            flush_tlb_one_user="native_flush_tlb_one_user",
            flush_tlb_others="native_flush_tlb_others",
            tlb_remove_table="tlb_remove_page",
            exit_mmap=paravirt_nop,
            read_cr2="native_read_cr2",
            write_cr2="native_write_cr2",
            read_cr3="__native_read_cr3",
            write_cr3="native_write_cr3",
            pgd_alloc="__paravirt_pgd_alloc",
            pgd_free=paravirt_nop,
            alloc_pte=paravirt_nop,
            alloc_pmd=paravirt_nop,
            alloc_pud=paravirt_nop,
            alloc_p4d=paravirt_nop,
            release_pte=paravirt_nop,
            release_pmd=paravirt_nop,
            release_pud=paravirt_nop,
            release_p4d=paravirt_nop,
            set_pte="native_set_pte",
            set_pmd="native_set_pmd",
            ptep_modify_prot_start="__ptep_modify_prot_start",
            ptep_modify_prot_commit="__ptep_modify_prot_commit",
            set_pud="native_set_pud",
            pmd_val=pte_ident,
            make_pmd=pte_ident,
            pud_val=pte_ident,
            make_pud=pte_ident,
            set_p4d="native_set_p4d",
            p4d_val=pte_ident,
            make_p4d=pte_ident,
            set_pgd="native_set_pgd",
            pte_val=pte_ident,
            pgd_val=pte_ident,
            make_pte=pte_ident,
            make_pgd=pte_ident,
            dup_mmap=paravirt_nop,
            activate_mm=paravirt_nop,
            lazy_mode={"enter": paravirt_nop, "leave": paravirt_nop, "flush": paravirt_nop},
            set_fixmap="native_set_fixmap",
        ),
        native_locks(),
    )


def native_locks() -> pv_lock_ops:
    """The lock ops as linked, with CONFIG_PARAVIRT_SPINLOCKS."""
    return pv_lock_ops(
        queued_spin_lock_slowpath="native_queued_spin_lock_slowpath",
        queued_spin_unlock="__raw_callee_save___native_queued_spin_unlock",
        wait=paravirt_nop,
        kick=paravirt_nop,
        vcpu_is_preempted="__raw_callee_save___native_vcpu_is_preempted",
    )


#: patch_data_xxl of paravirt_patch.c.
PATCH_DATA_XXL = {
    "pv_irq_ops.irq_disable": "fa",  # cli
    "pv_irq_ops.irq_enable": "fb",  # sti
    "pv_irq_ops.save_fl": "9c 58",  # pushf; pop %rax
    "pv_mmu_ops.read_cr2": "0f 20 d0",  # mov %cr2, %rax
    "pv_mmu_ops.read_cr3": "0f 20 d8",  # mov %cr3, %rax
    "pv_mmu_ops.write_cr3": "0f 22 df",  # mov %rdi, %cr3
    "pv_irq_ops.restore_fl": "57 9d",  # push %rdi; popfq
    "pv_cpu_ops.wbinvd": "0f 09",  # wbinvd
}
#: patch_data_lock of paravirt_patch.c, by pointer size.
PATCH_DATA_LOCK = {
    64: {
        "pv_lock_ops.queued_spin_unlock": "c6 07 00",  # movb $0, (%rdi)
        "pv_lock_ops.vcpu_is_preempted": "31 c0",  # xor %eax, %eax
    },
    32: {
        "pv_lock_ops.queued_spin_unlock": "c6 00 00",  # movb $0, (%eax)
        "pv_lock_ops.vcpu_is_preempted": "31 c0",  # xor %eax, %eax
    },
}


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, but the locks only while their op is the native one; too little room is a BUG."""
    from pvops.eras.patching import inline_all

    code: dict[str, str] = {}
    if config.holds("PARAVIRT_XXL"):
        code |= PATCH_DATA_XXL
    if config.holds("PARAVIRT_SPINLOCKS"):
        code |= PATCH_DATA_LOCK[config.bits]
    guard = {f"pv_lock_ops.{op}": f"{function}" for op, function in native_locks().values.items()}
    return inline_all("native_patch", "5.10 arch/x86/kernel/paravirt_patch.c", code, no_room="bug", guard=guard)


#: The symbols that matter from 5.10 on; defaults are Debian's.
OPTIONS = (
    Option("PARAVIRT_XXL", "privileged instructions and page tables are ops (Xen PV)", (False, True), depends="X86_64"),
    Option("X86_IOPL_IOPERM", "I/O permission bitmaps: two ops"),
    Option("X86_5LEVEL", "page tables of five levels: three more ops", (False, False), depends="X86_64"),
    Option("SMP", "more than one CPU"),
    Option(
        "PARAVIRT_SPINLOCKS",
        "locks go through the lock ops; without it their numbers stay, read NULL and have no sites",
        depends="SMP",
    ),
    Option("DEBUG_ENTRY", "entry code checks the interrupt flag: one more asm-offset", (False, False)),
)

ERA = v2_6_33.ERA.then(
    "5.10",
    "Debian 5.10.262: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c",
    began=("pv_ops",),
    ended=("pv_init_ops", "pv_lock_ops"),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS, symbol="pv_ops", export="EXPORT_SYMBOL"),),
    configs=OPTIONS,
    native=native,
    native_patch=native_patch,
    info=bare_hardware,
    offsets=(
        OFFSET("PV_IRQ_save_fl", "paravirt_patch_template", "irq.save_fl", config="PARAVIRT_XXL&DEBUG_ENTRY"),
        OFFSET("PV_IRQ_irq_disable", "paravirt_patch_template", "irq.irq_disable", config="PARAVIRT_XXL"),
        OFFSET("PV_IRQ_irq_enable", "paravirt_patch_template", "irq.irq_enable", config="PARAVIRT_XXL"),
        OFFSET("PV_CPU_iret", "paravirt_patch_template", "cpu.iret", config="PARAVIRT_XXL"),
        OFFSET("PV_MMU_read_cr2", "paravirt_patch_template", "mmu.read_cr2", config="PARAVIRT_XXL"),
    ),
    records=(PATCH_SITE_5_10, ALT_INSTR_12),
    paravirt=ParavirtRules(
        "5.10",
        "ud2",
        "_paravirt_nop",
        {"_paravirt_ident_64": 64},
        True,
        False,
        "bug",
        "arch/x86/kernel/paravirt.c: paravirt_patch_default()",
    ),
    passes=(Passes("5.10.0", layout="padlen"), Passes("5.10")),
    nops=ideal_nops(),
    numbers=(numbers_5_10.declared,),
    backends=("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv"),
    sites=Shape(assembler_clobbers=False),
    unknown_symbol=" (err -2)",  # printed since 2.6.35
)
