"""Xen PV: whole tables at first, then single functions as the boot goes on.

``xen_start_kernel`` copies ``xen_cpu_ops``, ``xen_irq_ops`` and ``xen_mmu_ops`` over the native structures (and NULL
with them, for what a PV guest never calls: ``alloc_p4d``, ``release_p4d``, with five page table levels ``set_pgd``).
Before ``alternative_instructions()`` runs, the early functions of those tables have been replaced: the page table ops
when the allocator is up, the irq ops when every vCPU's info lies at a fixed place of its per-CPU area.

The tables are read from the image. Debian's 5.10 has no symbol for two of them: there what the source says is taken.

Sources: arch/x86/xen/enlighten_pv.c, irq.c, mmu_pv.c, time.c and spinlock.c of 3.2.7 to 6.12.117. The tables are gone
in 7.x (Gross, "x86/xen: Drop xen_irq_ops", "… xen_cpu_ops", "… xen_mmu_ops"): the same functions are
assigned one by one, and what is not named stays native.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.backends import xen_2008
from pvops.backends.backend import Assign, Copy, Step, callee_save, lock_ops
from pvops.backends.conditions import Condition, always, cpus_more_than, logged, no_option
from pvops.backends.xen_patch import PatchingBackend

_START = "arch/x86/xen/enlighten_pv.c: xen_start_kernel"
_IRQ = "arch/x86/xen/irq.c: xen_init_irq_ops"
_MMU = "arch/x86/xen/mmu_pv.c: xen_init_mmu_ops"
_TIME = "arch/x86/xen/time.c: xen_init_time_ops"
_ALLOCATOR = "arch/x86/xen/mmu_pv.c: xen_post_allocator_init"
_PLACEMENT = "arch/x86/xen/enlighten_pv.c: xen_setup_vcpu_info_placement"
_SPINLOCK = "arch/x86/xen/spinlock.c: xen_init_spinlocks"


def _functions(text: str) -> dict[str, str]:
    """A list of ``op=function`` as a mapping; ``*function`` is the function's callee-save thunk."""
    pairs = (pair.split("=") for pair in text.split())
    return {op: callee_save(f[1:]) if f.startswith("*") else f for op, f in pairs}


def _each(struct: str, source: str, functions: Mapping[str, str], when: Condition = always) -> tuple[Step, ...]:
    return tuple(Assign(f"{struct}.{op}", function, when, source) for op, function in functions.items())


# What the tables name, without the early functions that _AFTER_ALLOCATOR and _DIRECT replace. ``|``: names in turn.
_CPU_FUNCTIONS = _functions(
    "cpuid=xen_cpuid set_debugreg=xen_set_debugreg get_debugreg=xen_get_debugreg read_cr0=xen_read_cr0"
    " write_cr0=xen_write_cr0 write_cr4=xen_write_cr4 wbinvd=native_wbinvd|pv_native_wbinvd"
    " read_msr=xen_read_msr|xen_read_msr_safe|native_read_msr_safe"
    " write_msr=xen_write_msr|xen_write_msr_safe read_msr_safe=xen_read_msr_safe write_msr_safe=xen_write_msr_safe"
    " read_pmc=xen_read_pmc|native_read_pmc iret=xen_iret load_tr_desc=_paravirt_nop|nop_func set_ldt=xen_set_ldt"
    " load_user_cs_desc=xen_load_user_cs_desc|"
    " usergs_sysret64=xen_sysret64| usergs_sysret32=xen_sysret32| irq_enable_sysexit=xen_sysexit swapgs=_paravirt_nop"
    " clts=xen_clts read_cr4=native_read_cr4 read_cr4_safe=native_read_cr4_safe read_cr8=xen_read_cr8|"
    " write_cr8=xen_write_cr8| read_tsc=native_read_tsc read_tscp=native_read_tscp store_gdt=native_store_gdt"
    " store_idt=native_store_idt set_iopl_mask=xen_set_iopl_mask"
    " load_gdt=xen_load_gdt load_idt=xen_load_idt load_tls=xen_load_tls load_gs_index=xen_load_gs_index"
    " alloc_ldt=xen_alloc_ldt free_ldt=xen_free_ldt store_tr=xen_store_tr write_ldt_entry=xen_write_ldt_entry"
    " write_gdt_entry=xen_write_gdt_entry write_idt_entry=xen_write_idt_entry load_sp0=xen_load_sp0"
    " invalidate_io_bitmap=xen_invalidate_io_bitmap update_io_bitmap=xen_update_io_bitmap io_delay=xen_io_delay"
    " start_context_switch=xen_start_context_switch|paravirt_start_context_switch"
    " end_context_switch=xen_end_context_switch"
)
_IRQ_FUNCTIONS = _functions("safe_halt=xen_safe_halt halt=xen_halt adjust_exception_frame=xen_adjust_exception_frame")
_MMU_FUNCTIONS = _functions(
    "write_cr2=xen_write_cr2 read_cr3=xen_read_cr3 flush_tlb_user=xen_flush_tlb flush_tlb_kernel=xen_flush_tlb"
    " flush_tlb_single=xen_flush_tlb_single pte_update=_paravirt_nop pte_update_defer=_paravirt_nop"
    " set_pte_at=xen_set_pte_at set_pte_atomic=xen_set_pte_atomic pte_clear=xen_pte_clear pmd_clear=xen_pmd_clear"
    " flush_tlb_one_user=xen_flush_tlb_one_user|xen_flush_tlb_single flush_tlb_others=xen_flush_tlb_others"
    " flush_tlb_multi=xen_flush_tlb_multi tlb_remove_table=tlb_remove_table pgd_alloc=xen_pgd_alloc"
    " pgd_free=xen_pgd_free ptep_modify_prot_start=xen_ptep_modify_prot_start"
    " ptep_modify_prot_commit=xen_ptep_modify_prot_commit pte_val=*xen_pte_val pgd_val=*xen_pgd_val"
    " make_pgd=*xen_make_pgd make_pmd=*xen_make_pmd pmd_val=*xen_pmd_val pud_val=*xen_pud_val make_pud=*xen_make_pud"
    " p4d_val=*xen_p4d_val make_p4d=*xen_make_p4d activate_mm=xen_activate_mm dup_mmap=xen_dup_mmap"
    " enter_mmap=xen_enter_mmap exit_mmap=xen_exit_mmap lazy_mode.enter=xen_enter_lazy_mmu|paravirt_enter_lazy_mmu"
    " lazy_mode.leave=xen_leave_lazy_mmu lazy_mode.flush=xen_flush_lazy_mmu|paravirt_flush_lazy_mmu"
    " lazy_mode_flush=xen_flush_lazy_mmu set_fixmap=xen_set_fixmap"
)

_AFTER_ALLOCATOR: tuple[Step, ...] = (
    *_each(
        "pv_mmu_ops",
        _ALLOCATOR,
        _functions(
            "set_pte=xen_set_pte set_pmd=xen_set_pmd set_pud=xen_set_pud set_p4d=xen_set_p4d alloc_pte=xen_alloc_pte"
            " alloc_pmd=xen_alloc_pmd release_pte=xen_release_pte release_pmd=xen_release_pmd make_pte=*xen_make_pte"
            " write_cr3=xen_write_cr3"
        ),
    ),
    # ``#if PAGETABLE_LEVELS == 4``, later ``CONFIG_PGTABLE_LEVELS >= 4``: the ops are there on i386 too.
    Assign("pv_mmu_ops.alloc_pud", "xen_alloc_pud", source=_ALLOCATOR, config="X86_64"),
    Assign("pv_mmu_ops.release_pud", "xen_release_pud", source=_ALLOCATOR, config="X86_64"),
)

# xen_have_vcpu_info_placement: cleared where VCPUOP_register_vcpu_info fails, before Xen 3.2. Demanded from 5.16 on.
_DIRECT: tuple[Step, ...] = (
    *_each(
        "pv_irq_ops",
        _PLACEMENT,
        _functions(
            "save_fl=xen_save_fl_direct restore_fl=xen_restore_fl_direct irq_disable=xen_irq_disable_direct"
            " irq_enable=xen_irq_enable_direct"
        ),
    ),
    Assign("pv_mmu_ops.read_cr2", "xen_read_cr2_direct", source=_PLACEMENT),
)

#: With four levels of page tables, up to 4.11: later it is set_p4d that counts.
_SET_PGD: tuple[Step, ...] = (Assign("pv_mmu_ops.set_pgd", "xen_set_pgd", source=_ALLOCATOR),)

#: Before ``nopvspin`` (05eee619ed0e, 5.9), and before one vCPU needed no help (4.18).
LOCKS_4_19 = cpus_more_than(1) & no_option("xen_nopvspin")
LOCKS_3_12 = no_option("xen_nopvspin")
#: Without xen_nopvspin and nopvspin, and with a second vCPU; Xen HVM has the same.
LOCKS = cpus_more_than(1) & no_option("nopvspin", "xen_nopvspin")
#: ``xen_nopvspin`` is gone.
LOCKS_6_12 = cpus_more_than(1) & no_option("nopvspin")


def spinlocks(when: Condition) -> tuple[Step, ...]:
    """``xen_init_spinlocks`` under its condition."""
    stolen = callee_save("xen_vcpu_stolen")
    return (
        *lock_ops("xen_qlock_wait", "xen_qlock_kick", when, _SPINLOCK),
        Assign("pv_lock_ops.vcpu_is_preempted", stolen, when, _SPINLOCK, "PARAVIRT_SPINLOCKS"),
    )


#: RHEL 7 has the ops of both kinds of locks, and the functions of one.
_TICKET_LOCKS = "PARAVIRT_SPINLOCKS&!QUEUED_SPINLOCKS"


def spinlocks_3_12(when: Condition) -> tuple[Step, ...]:
    """``xen_init_spinlocks`` of 3.12 to 4.9: queued ones, where the kernel has those, or ticket locks."""
    return (
        *lock_ops("xen_qlock_wait", "xen_qlock_kick", when, _SPINLOCK),
        Assign("pv_lock_ops.lock_spinning", callee_save("xen_lock_spinning"), when, _SPINLOCK, _TICKET_LOCKS),
        Assign("pv_lock_ops.unlock_kick", "xen_unlock_kick", when, _SPINLOCK, _TICKET_LOCKS),
    )


def time_ops(when: Condition, source: str) -> Copy:
    """``pv_ops.time = xen_time_ops`` (to 5.12)."""
    functions = _functions("sched_clock=xen_sched_clock|xen_clocksource_read steal_clock=xen_steal_clock|")  # since 4.8
    return Copy("pv_time_ops", "xen_time_ops", source, whole=False, when=when, otherwise=functions)


def _tables(*, whole: bool, mmu: Mapping[str, str]) -> tuple[Step, ...]:
    return (
        Copy("pv_cpu_ops", "xen_cpu_ops", _START, whole, otherwise=_CPU_FUNCTIONS),
        Copy("pv_irq_ops", "xen_irq_ops", _IRQ, whole, otherwise=_IRQ_FUNCTIONS),
        Copy("pv_mmu_ops", "xen_mmu_ops", _MMU, whole, otherwise=mmu),
    )


# XENFEAT_mmu_pt_update_preserve_ad, since Xen 3.3; the banner tells. Demanded later: then it is in the table.
_PRESERVE_AD = logged("(preserve-AD)", what="Xen preserves accessed and dirty bits", assume=True)
_PTEP = ("ptep_modify_prot_start", "ptep_modify_prot_commit")


def _split(patch: str) -> tuple[Step, ...]:
    """``xen_start_kernel`` and what follows, up to 5.12: each structure has a table of its own type."""
    return (
        Assign("pv_init_ops.patch", patch, source=_START),
        *_tables(whole=False, mmu={**_MMU_FUNCTIONS, **{op: f"__{op}" for op in _PTEP}}),
        *_each("pv_mmu_ops", _START, {op: f"xen_{op}" for op in _PTEP}, _PRESERVE_AD),
        time_ops(always, _TIME),
        *_AFTER_ALLOCATOR,
        *_DIRECT,
    )


#: xen_patch inlines the irq ops' direct code where it fits a site, which on x86-64 it does nowhere (gone in 4.14).
XEN_2_6_34: tuple[Step, ...] = (
    *_split("xen_patch"),
    *_SET_PGD,
    # Debian's 3.2 alone has it outside of pv_mmu_ops.
    Assign("pv_lazy_flush_ops.flush", "paravirt_flush_lazy_mmu", source=_MMU),
)
XEN_4_14 = _split("paravirt_patch_default")

_XEN_6_1: tuple[Step, ...] = (*_tables(whole=True, mmu=_MMU_FUNCTIONS), *_AFTER_ALLOCATOR, *_DIRECT)

XEN_7_2: tuple[Step, ...] = (
    *_each("pv_cpu_ops", _START, _CPU_FUNCTIONS),
    *_each("pv_irq_ops", _IRQ, _IRQ_FUNCTIONS),
    *_each("pv_mmu_ops", _MMU, _MMU_FUNCTIONS),
    *_AFTER_ALLOCATOR,
    *_DIRECT,
    *spinlocks(LOCKS_6_12),
)

#: xen_init_spinlocks() before 3.12: locks of Xen's own.
_BYTELOCKS = _each(
    "pv_lock_ops",
    _SPINLOCK,
    {
        op: f"xen_{op}|_paravirt_nop"
        for op in ("spin_is_locked", "spin_is_contended", "spin_lock", "spin_lock_flags", "spin_trylock", "spin_unlock")
    },
)

backend = PatchingBackend(
    "xen",
    "Xen PV",
    "xen-pv",
    {
        "2.6.26": xen_2008.XEN_2_6_26,
        "2.6.27": xen_2008.XEN_2_6_27,
        "2.6.30": xen_2008.XEN_2_6_30,
        "2.6.32-el6": (*XEN_2_6_34, *_BYTELOCKS),
        "2.6.34": (*XEN_2_6_34, *_BYTELOCKS),
        "3.10-el7": (*XEN_2_6_34, *spinlocks_3_12(LOCKS_3_12)),
        "3.12": (*XEN_2_6_34, *spinlocks_3_12(LOCKS_3_12)),
        "4.10": (*XEN_2_6_34, *spinlocks(LOCKS_3_12)),
        "4.12": (*_split("xen_patch"), *spinlocks(LOCKS_3_12)),
        "4.14": (*XEN_4_14, *spinlocks(LOCKS_3_12)),
        "4.18": (*XEN_4_14, *spinlocks(LOCKS_4_19)),
        "5.10.0": (*XEN_4_14, *spinlocks(LOCKS)),
        "5.13": (*_XEN_6_1, *spinlocks(LOCKS)),
        "6.12": (*_XEN_6_1, *spinlocks(LOCKS_6_12)),
        "7.2": XEN_7_2,
    },
    needs="xen_cpu_ops|xen_start_kernel",
)
