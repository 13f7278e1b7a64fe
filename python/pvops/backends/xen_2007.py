"""Xen PV as it was in 2007 and 2010: whole tables, and with vcpu_info placement interrupt flags without a call.

Sources: 2.6.24 and 2.6.33 arch/x86/xen/enlighten.c, irq.c, mmu.c (static tables, xen_patch) and xen-asm*.S (the code
that xen_patch copies). Ops that Xen fills in later while booting (set_pte after pagetable_setup_start, the locks) are
here as linked.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.definition import Era
from pvops.eras.records import InfoStruct
from pvops.eras.structs import Config, OpsStruct, Pointer
from pvops.eras.v2_6_22 import flattened
from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

NAME = "xen"
ERAS = ("2.6.23-flat", "2.6.24-rc1", "2.6.24", "2.6.33")

paravirt_nop = seed.paravirt_nop

#: The ops that xen_setup_vcpu_info_placement() replaces, in every era; iret only up to 2.6.24.
PLACEMENT: dict[str, dict[str, Pointer]] = {
    "pv_irq_ops": {
        "save_fl": "xen_save_fl_direct",
        "restore_fl": "xen_restore_fl_direct",
        "irq_disable": "xen_irq_disable_direct",
        "irq_enable": "xen_irq_enable_direct",
    },
    "pv_mmu_ops": {
        "read_cr2": "xen_read_cr2_direct",
    },
}

#: What Xen puts over its static tables before ``alternative_instructions()`` runs, by era: xen_pagetable_setup_done()
#: of 2.6.24, xen_post_allocator_init() of 2.6.33.
LATER: dict[str, dict[str, str]] = {
    "2.6.24": {"pv_mmu_ops.alloc_pt": "xen_alloc_pt", "pv_mmu_ops.set_pte": "xen_set_pte"},
    "2.6.33": {
        "pv_mmu_ops.set_pte": "xen_set_pte",
        "pv_mmu_ops.set_pmd": "xen_set_pmd",
        "pv_mmu_ops.set_pud": "xen_set_pud",
        "pv_mmu_ops.set_pgd": "xen_set_pgd",
        "pv_mmu_ops.alloc_pte": "xen_alloc_pte",
        "pv_mmu_ops.alloc_pmd": "xen_alloc_pmd",
        "pv_mmu_ops.alloc_pud": "xen_alloc_pud",
        "pv_mmu_ops.release_pte": "xen_release_pte",
        "pv_mmu_ops.release_pmd": "xen_release_pmd",
        "pv_mmu_ops.release_pud": "xen_release_pud",
    },
}


def structs(era: Era, config: Config, *, placement: bool = False) -> tuple[OpsStruct, ...]:
    """Xen's ops.

    Args:
        era: one of `ERAS`.
        config: of the kernel.
        placement: the hypervisor lets the kernel say where vcpu_info is, so that the ``*_direct`` ops work.

    Raises:
        OpsError: for an era or a configuration that Xen PV does not run in.
    """
    if era.name not in ERAS:
        raise OpsError(f"xen_2007 has no ops for {era.name}; it has for {', '.join(ERAS)}")
    if era.name == "2.6.23-flat":
        of_seed = structs(seed.ERA, config, placement=placement)
        return (flattened(type(era.native(config)[0]), of_seed),)
    if era.name == "2.6.33" and not config.holds("X86_PAE|X86_64"):
        raise OpsError("Xen guests of 2.6.33 on i386 need CONFIG_X86_PAE")
    if era.name == "2.6.33":
        from pvops.backends.xen_2010 import structs_2010

        out = structs_2010(era, config)
    else:
        out = _structs_2007(era, config)
    if not placement:
        return out
    changes = dict(PLACEMENT)
    if era.name != "2.6.33":
        changes["pv_cpu_ops"] = {"iret": "xen_iret_direct"}
    return tuple(struct.replace(**changes.get(type(struct).__name__, {})) for struct in out)


def _structs_2007(era: Era, config: Config) -> tuple[OpsStruct, ...]:
    """The static tables of enlighten.c. The seed has one op for lazy mode, 2.6.24 two pairs."""
    init, *middle, time, cpu, irq, apic, mmu = (type(struct) for struct in era.native(config))
    lazy_cpu: dict[str, Mapping[str, Pointer]] = {}
    lazy_mmu: dict[str, Mapping[str, Pointer]] = {}
    if not middle:
        lazy_cpu["lazy_mode"] = {"enter": "paravirt_enter_lazy_cpu", "leave": "xen_leave_lazy"}
        lazy_mmu["lazy_mode"] = {"enter": "paravirt_enter_lazy_mmu", "leave": "xen_leave_lazy"}
    return (
        init(
            patch="xen_patch",
            banner="xen_banner",
            memory_setup="xen_memory_setup",
            arch_setup="xen_arch_setup",
            post_allocator_init="xen_mark_init_mm_pinned",
        ),
        *(misc(set_lazy_mode="xen_set_lazy_mode") for misc in middle),
        time(
            time_init="xen_time_init",
            set_wallclock="xen_set_wallclock",
            get_wallclock="xen_get_wallclock",
            get_cpu_khz="xen_cpu_khz",
            sched_clock="xen_sched_clock",
        ),
        cpu(
            cpuid="xen_cpuid",
            set_debugreg="xen_set_debugreg",
            get_debugreg="xen_get_debugreg",
            clts="native_clts",
            read_cr0="native_read_cr0",
            write_cr0="native_write_cr0",
            read_cr4="native_read_cr4",
            read_cr4_safe="native_read_cr4_safe",
            write_cr4="xen_write_cr4",
            wbinvd="native_wbinvd",
            read_msr="native_read_msr_safe",
            write_msr="native_write_msr_safe",
            read_tsc="native_read_tsc",
            read_pmc="native_read_pmc",
            iret="hypercall_page+0x2e0",
            irq_enable_sysexit=None,
            load_tr_desc=paravirt_nop,
            set_ldt="xen_set_ldt",
            load_gdt="xen_load_gdt",
            load_idt="xen_load_idt",
            load_tls="xen_load_tls",
            store_gdt="native_store_gdt",
            store_idt="native_store_idt",
            store_tr="xen_store_tr",
            write_ldt_entry="xen_write_ldt_entry",
            write_gdt_entry="xen_write_gdt_entry",
            write_idt_entry="xen_write_idt_entry",
            load_esp0="xen_load_esp0",
            set_iopl_mask="xen_set_iopl_mask",
            io_delay="xen_io_delay",
            **lazy_cpu,
        ),
        irq(
            init_IRQ="xen_init_IRQ",
            save_fl="xen_save_fl",
            restore_fl="xen_restore_fl",
            irq_disable="xen_irq_disable",
            irq_enable="xen_irq_enable",
            safe_halt="xen_safe_halt",
            halt="xen_halt",
        ),
        apic(
            apic_write="xen_apic_write",
            apic_write_atomic="xen_apic_write",
            apic_read="xen_apic_read",
            setup_boot_clock=paravirt_nop,
            setup_secondary_clock=paravirt_nop,
            startup_ipi_hook=paravirt_nop,
        ),
        mmu(
            pagetable_setup_start="xen_pagetable_setup_start",
            pagetable_setup_done="xen_pagetable_setup_done",
            flush_tlb_user="xen_flush_tlb",
            flush_tlb_kernel="xen_flush_tlb",
            flush_tlb_single="xen_flush_tlb_single",
            flush_tlb_others="xen_flush_tlb_others",
            pte_update=paravirt_nop,
            pte_update_defer=paravirt_nop,
            alloc_pt="xen_alloc_pt_init",
            release_pt="xen_release_pt",
            alloc_pd=paravirt_nop,
            alloc_pd_clone=paravirt_nop,
            release_pd=paravirt_nop,
            kmap_atomic_pte="xen_kmap_atomic_pte",
            set_pte=None,
            set_pte_at="xen_set_pte_at",
            set_pmd="xen_set_pmd",
            pte_val="xen_pte_val",
            pgd_val="xen_pgd_val",
            make_pte="xen_make_pte",
            make_pgd="xen_make_pgd",
            set_pte_atomic="xen_set_pte_atomic",
            set_pte_present="xen_set_pte_at",
            set_pud="xen_set_pud",
            pte_clear="xen_pte_clear",
            pmd_clear="xen_pmd_clear",
            make_pmd="xen_make_pmd",
            pmd_val="xen_pmd_val",
            read_cr2="xen_read_cr2",
            write_cr2="xen_write_cr2",
            read_cr3="xen_read_cr3",
            write_cr3="xen_write_cr3",
            activate_mm="xen_activate_mm",
            dup_mmap="xen_dup_mmap",
            exit_mmap="xen_exit_mmap",
            **lazy_mmu,
        ),
    )


def info(era: Era, config: Config) -> InfoStruct:
    """pv_info of a PV guest. Its kernel runs in ring 1 on i386; on x86-64 it runs in ring 3 and says 0."""
    kernel_rpl = 0 if config.bits == 64 else 1
    return era.info.replace(name="Xen", paravirt_enabled=1, shared_kernel_pmd=0, kernel_rpl=kernel_rpl)


def patch_function(
    era: Era,
    code: Mapping[str, bytes] | None = None,
    check_events: Mapping[str, int] | None = None,
) -> PatchFunction:
    """xen_patch: with vcpu_info placement, inline the direct irq ops by type where they fit; default rules otherwise.

    Args:
        era: one of `ERAS`.
        code: op → its direct code as linked, from the function's start to its end mark; None without placement.
        check_events: op → offset in that code of the rel32 of its ``call check_events``, where it has one.

    Raises:
        OpsError: for code of an op that xen_patch does not inline.
    """
    from pvops.eras.patching import Inline, PatchFunction

    switch = {}
    for op, text in (code or {}).items():
        if op.partition(".")[2] not in PLACEMENT["pv_irq_ops"]:
            raise OpsError(f"xen_patch inlines no {op}")
        reloc = (check_events or {}).get(op, -1)
        target = "check_events" if reloc >= 0 else ""
        switch[op] = Inline(text, no_room="default", reloc=reloc, reloc_target=target)
    return PatchFunction("xen_patch", f"{era.name} arch/x86/xen/enlighten.c", switch)
