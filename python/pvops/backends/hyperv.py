"""Hyper-V: what a guest's init code assigns.

Sources: arch/x86/kernel/cpu/mshyperv.c ``ms_hyperv_init_platform``, arch/x86/hyperv/mmu.c ``hyperv_setup_mmu_ops``,
arch/x86/hyperv/hv_spinlock.c ``hv_init_spinlocks``, drivers/clocksource/hyperv_timer.c ``hv_init_clocksource`` of
4.14.177 to 6.12.117. ``nopvspin`` and the number of CPUs do not count here. From 5.13 on the clocks are static
calls and no ops.
"""

from __future__ import annotations

from pvops.backends.backend import Assign, Backend, Step, callee_save, lock_ops
from pvops.backends.conditions import feature, looks, no_flag, no_option
from pvops.backends.native import CPU_6_12

_MMU = "arch/x86/hyperv/mmu.c: hyperv_setup_mmu_ops"
_SPINLOCK = "arch/x86/hyperv/hv_spinlock.c: hv_init_spinlocks"
_CLOCK = "drivers/clocksource/hyperv_timer.c: hv_init_clocksource"

_REMOTE_FLUSH = feature("REMOTE_TLB_FLUSH_RECOMMENDED", word="hyperv-hints")
_LOCKS = (
    no_option("hv_nopvspin")
    & feature("CLUSTER_IPI_RECOMMENDED", word="hyperv-hints")
    & feature("GUEST_IDLE_AVAILABLE", word="hyperv")
)
_TSC_PAGE = feature("REFERENCE_TSC_AVAILABLE", word="hyperv")


def _spinlocks(config: str = "X86_64&SMP&PARAVIRT_SPINLOCKS") -> tuple[Step, ...]:
    stolen = callee_save("hv_vcpu_is_preempted")
    return (
        *lock_ops("hv_qlock_wait", "hv_qlock_kick", _LOCKS, _SPINLOCK, config),
        Assign("pv_lock_ops.vcpu_is_preempted", stolen, _LOCKS, _SPINLOCK, config),
    )


_LOCK_OPS = _spinlocks()

_EX = feature("EX_PROCESSOR_MASKS_RECOMMENDED", word="hyperv-hints")
HYPERV_4_14: tuple[Step, ...] = (
    Assign("pv_mmu_ops.flush_tlb_others", "hyperv_flush_tlb_others", _REMOTE_FLUSH & ~_EX, _MMU),
    Assign("pv_mmu_ops.flush_tlb_others", "hyperv_flush_tlb_others_ex", _REMOTE_FLUSH & _EX, _MMU),
)
#: One function for both kinds of masks, and locks, in RHEL 8 (4.18.0-147.el8): they came with 4.19 and 4.20.
HYPERV_4_18: tuple[Step, ...] = (
    Assign("pv_mmu_ops.flush_tlb_others", "hyperv_flush_tlb_others", _REMOTE_FLUSH, _MMU),
    Assign(
        "pv_mmu_ops.flush_tlb_others",
        "hyperv_flush_tlb_others_ex|hyperv_flush_tlb_others",
        _REMOTE_FLUSH & _EX,
        _MMU,
    ),
    Assign("pv_mmu_ops.tlb_remove_table", "tlb_remove_table", _REMOTE_FLUSH, _MMU),
    *_spinlocks("X86_64&SMP&PARAVIRT_SPINLOCKS&HYPERV_SPINLOCKS"),
)
HYPERV_4_19: tuple[Step, ...] = (
    Assign("pv_mmu_ops.flush_tlb_others", "hyperv_flush_tlb_others", _REMOTE_FLUSH, _MMU),
    Assign("pv_mmu_ops.tlb_remove_table", "tlb_remove_table", _REMOTE_FLUSH, _MMU),
)
HYPERV_5_4: tuple[Step, ...] = (
    *HYPERV_4_19,
    Assign("pv_time_ops.sched_clock", "read_hv_sched_clock_tsc", _TSC_PAGE, _CLOCK, "HYPERV_TIMER"),
    Assign(
        "pv_time_ops.sched_clock",
        "read_hv_sched_clock_msr",
        ~_TSC_PAGE & feature("TIME_REF_COUNT_AVAILABLE", word="hyperv"),
        _CLOCK,
        "HYPERV_TIMER",
    ),
    *_LOCK_OPS,
)

HYPERV_5_13: tuple[Step, ...] = (
    Assign("pv_mmu_ops.flush_tlb_multi", "hyperv_flush_tlb_multi", _REMOTE_FLUSH, _MMU),
    Assign("pv_mmu_ops.tlb_remove_table", "tlb_remove_table", _REMOTE_FLUSH, _MMU),
    *_LOCK_OPS,
)

# In a TDX guest without paravisor the kernel clears the recommendation: it does not trust the host's flush.
_REMOTE_FLUSH_6_12 = _REMOTE_FLUSH & no_flag("tdx_guest", "TDX_GUEST")

HYPERV_6_12: tuple[Step, ...] = (
    *CPU_6_12,
    Assign("pv_mmu_ops.flush_tlb_multi", "hyperv_flush_tlb_multi", _REMOTE_FLUSH_6_12, _MMU),
    Assign("pv_mmu_ops.tlb_remove_table", "tlb_remove_table", _REMOTE_FLUSH_6_12, _MMU),
    *_LOCK_OPS,
)

backend = Backend(
    "hyperv",
    "Hyper-V guest support",
    "hyperv",
    {
        "2.6.34": (),
        "3.10-el7": HYPERV_4_14,
        "3.12": (),
        "4.14": HYPERV_4_14,
        "4.18": HYPERV_4_18,
        "4.19": HYPERV_4_19,
        "4.20": (*HYPERV_4_19, *_LOCK_OPS),
        "5.4": HYPERV_5_4,
        "5.13": HYPERV_5_13,
        "6.12": HYPERV_6_12,
    },
    needs="hyperv_setup_mmu_ops",
    detected=looks("nopv"),
)
