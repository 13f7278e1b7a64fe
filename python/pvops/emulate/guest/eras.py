"""What an op of the seed is called in 2.6.33, what went to x86_init and x86_platform, where no op is, and what came."""

from __future__ import annotations

#: The seed's name → 2.6.33's.
RENAMED = {
    "pv_cpu_ops.load_esp0": "pv_cpu_ops.load_sp0",
    "pv_mmu_ops.alloc_pt": "pv_mmu_ops.alloc_pte",
    "pv_mmu_ops.alloc_pd": "pv_mmu_ops.alloc_pmd",
    "pv_mmu_ops.alloc_pd_clone": "pv_mmu_ops.alloc_pmd_clone",
    "pv_mmu_ops.release_pt": "pv_mmu_ops.release_pte",
    "pv_mmu_ops.release_pd": "pv_mmu_ops.release_pmd",
}

#: Ops of the seed that 2.6.33 does not have; a program's calls of them are left out there.
GONE = frozenset(
    f"{struct}.{op}"
    for struct, ops in {
        "pv_init_ops": "arch_setup memory_setup post_allocator_init banner",
        "pv_misc_ops": "set_lazy_mode",
        "pv_time_ops": "time_init get_wallclock set_wallclock get_cpu_khz",
        "pv_irq_ops": "init_IRQ",
        "pv_apic_ops": "apic_write apic_write_atomic apic_read setup_boot_clock setup_secondary_clock",
        "pv_mmu_ops": "pagetable_setup_start pagetable_setup_done set_pte_present",
    }.items()
    for op in ops.split()
)

#: Ops of 2.6.33, as it is built here, that the seed does not have; a program's calls of them are left out there.
NEW = frozenset(
    f"{struct}.{op}"
    for struct, ops in {
        "pv_cpu_ops": "alloc_ldt free_ldt rdmsr_regs wrmsr_regs read_tscp start_context_switch end_context_switch",
        "pv_mmu_ops": "pgd_alloc pgd_free alloc_pud release_pud ptep_modify_prot_start ptep_modify_prot_commit "
        "set_pte_atomic pte_clear pmd_clear set_pud pmd_val make_pmd lazy_mode.enter lazy_mode.leave set_fixmap",
        "pv_lock_ops": "spin_is_locked spin_is_contended spin_lock spin_lock_flags spin_trylock spin_unlock",
    }.items()
    for op in ops.split()
)
