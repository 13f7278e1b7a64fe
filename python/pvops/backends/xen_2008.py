"""Xen PV of 2.6.26 to 2.6.31: a table for every structure but the locks'; see `pvops.backends.xen` for later ones.

The tables are read from the image; where it has no symbol for one, what the source says is taken.

Sources: arch/x86/xen/enlighten.c, irq.c, mmu.c, smp.c and spinlock.c of 2.6.26, 2.6.27 and 2.6.30.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.backends.backend import Assign, Copy, Step, callee_save
from pvops.backends.conditions import Condition, always, logged

_START = "arch/x86/xen/enlighten.c: xen_start_kernel"
_ALLOCATOR = "arch/x86/xen/enlighten.c: xen_post_allocator_init"
_SETUP = "arch/x86/xen/enlighten.c: xen_pagetable_setup_done"
_PLACEMENT = "arch/x86/xen/enlighten.c: xen_setup_vcpu_info_placement"
_SPINLOCK = "arch/x86/xen/spinlock.c: xen_init_spinlocks"


def _functions(text: str) -> dict[str, str]:
    """A list of ``op=function`` as a mapping; ``op`` alone is ``op=xen_op``, and ``-`` is ``_paravirt_nop``."""
    found = {}
    for pair in text.split():
        op, _, function = pair.partition("=")
        found[op] = "_paravirt_nop" if function == "-" else function or f"xen_{op}"
    return found


def _each(struct: str, source: str, functions: Mapping[str, str], when: Condition = always) -> tuple[Step, ...]:
    return tuple(Assign(f"{struct}.{op}", function, when, source) for op, function in functions.items())


def _tables(tables: Mapping[str, Mapping[str, str]]) -> tuple[Step, ...]:
    return tuple(
        Copy(f"pv_{name}_ops", f"xen_{name}_ops", _START, whole=False, otherwise=functions)
        for name, functions in tables.items()
    )


_TABLES_2_6_26: Mapping[str, Mapping[str, str]] = {
    "init": _functions(
        "patch banner memory_setup arch_setup post_allocator_init=xen_post_allocator_init|xen_mark_init_mm_pinned"
    ),
    "time": _functions("time_init set_wallclock get_wallclock get_cpu_khz=xen_cpu_khz sched_clock"),
    "cpu": _functions(
        "cpuid set_debugreg get_debugreg clts=native_clts read_cr0=native_read_cr0 write_cr0=native_write_cr0"
        " read_cr4=native_read_cr4 read_cr4_safe=native_read_cr4_safe write_cr4 wbinvd=native_wbinvd"
        " read_msr=native_read_msr_safe write_msr=native_write_msr_safe read_tsc=native_read_tsc"
        " read_pmc=native_read_pmc iret irq_enable_syscall_ret=xen_sysexit load_tr_desc=- set_ldt load_gdt load_idt"
        " load_user_cs_desc=xen_load_user_cs_desc|"
        " load_tls store_gdt=native_store_gdt store_idt=native_store_idt store_tr write_ldt_entry write_gdt_entry"
        " write_idt_entry load_sp0 set_iopl_mask io_delay lazy_mode.enter=paravirt_enter_lazy_cpu"
        " lazy_mode.leave=xen_leave_lazy"
    ),
    "irq": _functions("init_IRQ save_fl restore_fl irq_disable irq_enable safe_halt halt"),
    "apic": _functions(
        "apic_write apic_write_atomic=xen_apic_write apic_read setup_boot_clock=- setup_secondary_clock=-"
        " startup_ipi_hook=-"
    ),
    "mmu": _functions(
        "pagetable_setup_start pagetable_setup_done read_cr2 write_cr2 read_cr3 write_cr3 flush_tlb_user=xen_flush_tlb"
        " flush_tlb_kernel=xen_flush_tlb flush_tlb_single flush_tlb_others pte_update=- pte_update_defer=-"
        " alloc_pte=xen_alloc_pte_init release_pte=xen_release_pte_init alloc_pmd=xen_alloc_pte_init"
        " alloc_pmd_clone=- release_pmd=xen_release_pte_init kmap_atomic_pte set_pte_at set_pmd pte_val pgd_val"
        " make_pte make_pgd set_pte_atomic set_pte_present=xen_set_pte_at set_pud pte_clear pmd_clear make_pmd pmd_val"
        " activate_mm dup_mmap exit_mmap lazy_mode.enter=paravirt_enter_lazy_mmu lazy_mode.leave=xen_leave_lazy"
    ),
}


def _changed(older: Mapping[str, Mapping[str, str]], **changes: str) -> dict[str, dict[str, str]]:
    return {name: {**functions, **_functions(changes.get(name, ""))} for name, functions in older.items()}


_TABLES_2_6_27 = _changed(
    _TABLES_2_6_26,
    time="get_tsc_khz=xen_tsc_khz sched_clock=xen_clocksource_read",
    cpu=(
        "clts write_cr0 write_msr=xen_write_msr_safe irq_enable_sysexit=xen_sysexit usergs_sysret32=xen_sysret32"
        " usergs_sysret64=xen_sysret64 load_gs_index swapgs=- alloc_ldt free_ldt"
    ),
    irq="adjust_exception_frame",
    mmu=(
        "pgd_alloc pgd_free set_pte=xen_set_pte|xen_set_pte_init set_pmd=xen_set_pmd_hyper"
        " ptep_modify_prot_start=__ptep_modify_prot_start ptep_modify_prot_commit=__ptep_modify_prot_commit"
        " pte_flags=native_pte_flags set_pud=xen_set_pud_hyper pud_val make_pud set_pgd=xen_set_pgd_hyper"
        " alloc_pud=xen_alloc_pte_init release_pud=xen_release_pte_init set_fixmap"
    ),
)
_NUMBERS = ("pte_val", "pgd_val", "make_pte", "make_pgd", "make_pmd", "pmd_val", "pud_val", "make_pud")
_TABLES_2_6_30 = _changed(
    _TABLES_2_6_27,
    time="sched_clock",
    irq=" ".join(f"{op}={callee_save(f'xen_{op}')}" for op in ("save_fl", "restore_fl", "irq_disable", "irq_enable")),
    mmu=(
        " ".join(f"{op}={callee_save(f'xen_{op}')}" for op in _NUMBERS)
        + " alloc_pmd=xen_alloc_pmd_init|xen_alloc_pte_init release_pmd=xen_release_pmd_init|xen_release_pte_init"
        " alloc_pud=xen_alloc_pmd_init|xen_alloc_pte_init release_pud=xen_release_pmd_init|xen_release_pte_init"
    ),
)

_HOT = ("save_fl", "restore_fl", "irq_disable", "irq_enable")
#: xen_vcpu_setup() places every vCPU's info in its per-CPU area; hosts before Xen 3.2 refuse. On x86-64 since 2.6.28.
_DIRECT: tuple[Step, ...] = (
    *_each("pv_irq_ops", _PLACEMENT, {op: f"xen_{op}_direct|xen_{op}" for op in _HOT}),
    Assign("pv_mmu_ops.read_cr2", "xen_read_cr2_direct|xen_read_cr2", source=_PLACEMENT),
)
_ENTRIES = _functions("alloc_pte alloc_pmd release_pte release_pmd set_pte")
_ENTRIES_2_6_27 = _ENTRIES | _functions("set_pmd set_pud set_pgd alloc_pud release_pud")
_PRESERVE_AD = logged("(preserve-AD)", what="Xen preserves accessed and dirty bits", assume=True)
_PTEP = _functions("ptep_modify_prot_start ptep_modify_prot_commit")
_LOCKS = _each(
    "pv_lock_ops",
    _SPINLOCK,
    _functions("spin_is_locked spin_is_contended spin_lock spin_lock_flags spin_trylock spin_unlock"),
)


def _later(tables: Mapping[str, Mapping[str, str]]) -> tuple[Step, ...]:
    return (
        *_tables(tables),
        *_each("pv_mmu_ops", _START, _PTEP, _PRESERVE_AD),
        *_each("pv_mmu_ops", _ALLOCATOR, _ENTRIES_2_6_27),
        *_DIRECT,
        *_LOCKS,
    )


XEN_2_6_26: tuple[Step, ...] = (*_tables(_TABLES_2_6_26), *_each("pv_mmu_ops", _SETUP, _ENTRIES), *_DIRECT)
XEN_2_6_27 = _later(_TABLES_2_6_27)
XEN_2_6_30 = _later(_TABLES_2_6_30)
