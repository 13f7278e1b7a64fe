"""6.1: init and time are gone (static calls took the clocks), and so is native_patch: alternatives inline.

Sources: Debian 6.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, asm-offsets_64.c.
"""

from __future__ import annotations

from pvops.eras.definition import Array, Era
from pvops.eras.records import ALT_INSTR_12, OFFSET, PATCH_SITE_5_10, Option, clobbers_6_1
from pvops.eras.structs import Config, Op, OpsStruct, ifdef
from pvops.eras.v5_10 import OPTIONS, bare_hardware, native_locks, pte_ident, pv_lazy_ops, pv_lock_ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

paravirt_nop = "_paravirt_nop"


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

        start_context_switch = Op()
        end_context_switch = Op()


class pv_irq_ops(OpsStruct):
    """Interrupt state."""

    member = "irq"

    with ifdef("PARAVIRT_XXL"):
        save_fl = Op(callee_save=True)
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
    flush_tlb_multi = Op(doc="have a set of CPUs, maybe this one too, forget translations")

    tlb_remove_table = Op(doc="free a page table once no CPU walks it any more")

    exit_mmap = Op()
    notify_page_enc_status_changed = Op(doc="pages are encrypted from now on, or no longer")

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


#: The order of struct paravirt_patch_template.
STRUCTS = (pv_cpu_ops, pv_irq_ops, pv_mmu_ops, pv_lock_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return (
        pv_cpu_ops(
            io_delay="native_io_delay",
            cpuid="native_cpuid",
            get_debugreg="pv_native_get_debugreg",
            set_debugreg="pv_native_set_debugreg",
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
            invalidate_io_bitmap="native_tss_invalidate_io_bitmap",
            update_io_bitmap="native_tss_update_io_bitmap",
            start_context_switch=paravirt_nop,
            end_context_switch=paravirt_nop,
        ),
        pv_irq_ops(
            save_fl="native_save_fl",
            irq_disable="pv_native_irq_disable",
            irq_enable="pv_native_irq_enable",
            safe_halt="native_safe_halt",
            halt="native_halt",
        ),
        pv_mmu_ops(
            flush_tlb_user="native_flush_tlb_local",
            flush_tlb_kernel="native_flush_tlb_global",
            flush_tlb_one_user="native_flush_tlb_one_user",
            flush_tlb_multi="native_flush_tlb_multi",
            tlb_remove_table="tlb_remove_page",
            exit_mmap=paravirt_nop,
            notify_page_enc_status_changed=paravirt_nop,
            read_cr2="pv_native_read_cr2",
            write_cr2="pv_native_write_cr2",
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


def paravirt_patch(config: Config) -> PatchFunction:
    """Nothing is inlined here any more: call, nops, or a call to paravirt_BUG for NULL."""
    from pvops.eras.patching import PatchFunction

    return PatchFunction("paravirt_patch", "6.1 arch/x86/kernel/paravirt.c", {})


#: As 5.10's, but Debian's page tables have five levels now.
OPTIONS_5LEVEL = tuple(
    Option(o.symbol, o.meaning, (False, True), depends=o.depends) if o.symbol == "X86_5LEVEL" else o for o in OPTIONS
)

ERA = Era(
    "6.1",
    source="Debian 6.1.192: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c",
    arrays=(Array("paravirt_patch_template", STRUCTS, symbol="pv_ops", export="EXPORT_SYMBOL"),),
    configs=OPTIONS_5LEVEL,
    native=native,
    native_patch=paravirt_patch,
    info=bare_hardware,
    asm_offsets=(
        OFFSET("PV_IRQ_save_fl", "paravirt_patch_template", "irq.save_fl", config="PARAVIRT_XXL&DEBUG_ENTRY"),
    ),
    records=(PATCH_SITE_5_10, ALT_INSTR_12),
    clobbers=clobbers_6_1,
)
