"""KVM: what a guest's init code assigns.

Sources: arch/x86/kernel/kvm.c (``paravirt_ops_setup``, ``kvm_guest_init``, ``kvm_init_platform``,
``kvm_spinlock_init``) and kvmclock.c of the releases that the eras name as their sources, and of Debian's 5.10.262,
6.1.192 and 6.12.117. From 5.13 on the clocks are static calls and no ops.
"""

from __future__ import annotations

from pvops.backends.backend import Assign, Backend, Step, callee_save, lock_ops
from pvops.backends.conditions import (
    Condition,
    cpus_more_than,
    feature,
    flag,
    logged,
    looks,
    no_flag,
    no_option,
    not_hint,
)
from pvops.backends.native import CPU_6_12

_SETUP = "arch/x86/kernel/kvm.c: paravirt_ops_setup"
_GUEST = "arch/x86/kernel/kvm.c: kvm_guest_init"
_PLATFORM = "arch/x86/kernel/kvm.c: kvm_init_platform"
_SPINLOCK = "arch/x86/kernel/kvm.c: kvm_spinlock_init"
_CLOCK = "arch/x86/kernel/kvmclock.c: kvmclock_init"

_STEAL_TIME = feature("STEAL_TIME")
_REMOTE_FLUSH_4_16 = feature("PV_TLB_FLUSH") & _STEAL_TIME
_REMOTE_FLUSH = feature("PV_TLB_FLUSH") & not_hint("REALTIME") & _STEAL_TIME
_REMOTE_FLUSH_5_15 = _REMOTE_FLUSH & cpus_more_than(1)
# "x86/kvm: Don't use PV TLB/yield when mwait is advertised" (5.18): a vCPU that waits in MWAIT is never preempted.
_REMOTE_FLUSH_6_1 = _REMOTE_FLUSH & no_flag("monitor", "MWAIT") & cpus_more_than(1)
_LOCKS = not_hint("REALTIME") & cpus_more_than(1) & no_option("nopvspin") & feature("PV_UNHALT")
#: Before ``nopvspin`` (05eee619ed0e, 5.9), and before a hint and the number of CPUs counted (b2798ba0b876, 4.17).
_LOCKS_4_19 = not_hint("REALTIME") & cpus_more_than(1) & feature("PV_UNHALT")
_LOCKS_4_17 = not_hint("REALTIME") & feature("PV_UNHALT")
_LOCKS_3_12 = feature("PV_UNHALT")
_ENCRYPTED = flag("tdx_guest", "TDX_GUEST") | logged(
    "Memory Encryption Features active: AMD SEV", what="guest memory is encrypted", assume=False
)
_KVMCLOCK = no_option("no-kvmclock") & (feature("CLOCKSOURCE2") | feature("CLOCKSOURCE"))

_PREEMPTED = callee_save("__kvm_vcpu_is_preempted")


def _clock(function: str, config: str = "") -> Step:
    # The host's stable-TSC bit only decides whether sched_clock counts as stable, not who reads it (since 5.3, and in
    # stable kernels, which have no kvm_clock_read(); before, from 4.2 on, that is the reader where it is not set).
    return Assign("pv_time_ops.sched_clock", function, _KVMCLOCK, _CLOCK, config)


_STABLE = logged("kvm-clock: using sched offset of", what="the host's clock is stable", assume=True)
_CLOCK_4_2: tuple[Step, ...] = (
    _clock("kvm_clock_read|kvm_sched_clock_read"),
    # 4.2 and 4.3 have kvm_clock_read() alone: kvm_sched_clock_read() came with 4.4 (72c930dcfc2b).
    Assign("pv_time_ops.sched_clock", "kvm_sched_clock_read|kvm_clock_read", _KVMCLOCK & _STABLE, _CLOCK),
)

_IO_DELAY: tuple[Step, ...] = (Assign("pv_cpu_ops.io_delay", "kvm_io_delay", feature("NOP_IO_DELAY"), _SETUP),)
_STEAL: tuple[Step, ...] = (Assign("pv_time_ops.steal_clock", "kvm_steal_clock", _STEAL_TIME, _GUEST),)
_LOCK_OPS = lock_ops("kvm_wait", "kvm_kick_cpu", _LOCKS, _SPINLOCK)
_LOCK_OPS_4_19 = lock_ops("kvm_wait", "kvm_kick_cpu", _LOCKS_4_19, _SPINLOCK)
_LOCK_OPS_4_2 = lock_ops("kvm_wait", "kvm_kick_cpu", _LOCKS_3_12, _SPINLOCK, "PARAVIRT_SPINLOCKS&QUEUED_SPINLOCKS")
_LOCK_OPS_4_9 = lock_ops("kvm_wait", "kvm_kick_cpu", _LOCKS_3_12, _SPINLOCK)
#: RHEL 7 has the ops of both kinds of locks, and the functions of one.
_TICKET_LOCKS = "PARAVIRT_SPINLOCKS&!QUEUED_SPINLOCKS"


def _tickets(when: Condition) -> tuple[Step, ...]:
    return (
        Assign("pv_lock_ops.lock_spinning", callee_save("kvm_lock_spinning"), when, _SPINLOCK, _TICKET_LOCKS),
        Assign("pv_lock_ops.unlock_kick", "kvm_unlock_kick", when, _SPINLOCK, _TICKET_LOCKS),
    )


_TICKETS = _tickets(_LOCKS_3_12)
#: 3.10.0-1160.el7 asks for a second CPU, and for no hint.
_LOCKS_EL7 = cpus_more_than(1) & feature("PV_UNHALT")
_LOCK_OPS_EL7 = lock_ops("kvm_wait", "kvm_kick_cpu", _LOCKS_EL7, _SPINLOCK, "PARAVIRT_SPINLOCKS&QUEUED_SPINLOCKS")


def _flush(op: str, when: Condition) -> tuple[Step, ...]:
    flush = f"kvm_{op}"
    return (
        Assign(f"pv_mmu_ops.{op}", flush, when, _GUEST, "SMP", beside=flush),
        Assign("pv_mmu_ops.tlb_remove_table", "tlb_remove_table", when, _GUEST, "SMP", beside=flush),
    )


def _preempted(when: Condition) -> tuple[Step, ...]:
    return (Assign("pv_lock_ops.vcpu_is_preempted", _PREEMPTED, when, _SPINLOCK, "PARAVIRT_SPINLOCKS"),)


#: Page tables written by hypercalls, which hosts stopped offering long ago (fb92045843a8, 3.3).
_MMU_OP: tuple[Step, ...] = tuple(
    Assign(f"pv_mmu_ops.{op}", function, feature("MMU_OP", assume=False), _SETUP)
    for op, function in {
        "set_pte": "kvm_set_pte",
        "set_pte_at": "kvm_set_pte_at",
        "set_pmd": "kvm_set_pmd",
        "set_pte_atomic": "kvm_set_pte_atomic",
        "set_pte_present": "kvm_set_pte_present",
        "pte_clear": "kvm_pte_clear",
        "pmd_clear": "kvm_pmd_clear",
        "set_pud": "kvm_set_pud",
        "set_pgd": "kvm_set_pgd",
        "flush_tlb_user": "kvm_flush_tlb",
        "release_pte": "kvm_release_pt",
        "release_pmd": "kvm_release_pt",
        "release_pud": "kvm_release_pt",
        "lazy_mode.enter": "kvm_enter_lazy_mmu",
        "lazy_mode.leave": "kvm_leave_lazy_mmu",
    }.items()
)

#: The clock was configured by itself: ``KVM_CLOCK`` beside ``KVM_GUEST`` in arch/x86/Kconfig of 2.6.26 to 2.6.38.
_CLOCK_2_6 = _clock("kvm_clock_read", "KVM_CLOCK")
#: Clocks were all ops (to 2.6.31: 7bd867dfb4e0 and the like moved them to x86_platform).
_CLOCKS_2_6_26: tuple[Step, ...] = (
    _CLOCK_2_6,
    Assign("pv_time_ops.get_wallclock", "kvm_get_wallclock", _KVMCLOCK, _CLOCK, "KVM_CLOCK"),
    Assign("pv_time_ops.set_wallclock", "kvm_set_wallclock", _KVMCLOCK, _CLOCK, "KVM_CLOCK"),
    Assign(
        "pv_apic_ops.setup_secondary_clock",
        "kvm_setup_secondary_clock",
        _KVMCLOCK,
        _CLOCK,
        "KVM_CLOCK&X86_LOCAL_APIC",
    ),
)
_TSC_KHZ = Assign("pv_time_ops.get_tsc_khz", "kvm_get_tsc_khz", _KVMCLOCK, _CLOCK, "KVM_CLOCK")

KVM_3_3: tuple[Step, ...] = (_clock("kvm_clock_read"), *_IO_DELAY, *_STEAL)
KVM_4_2: tuple[Step, ...] = (*_CLOCK_4_2, *_IO_DELAY, *_STEAL)
KVM_4_10: tuple[Step, ...] = (*KVM_4_2, *_LOCK_OPS_4_9, *_preempted(_LOCKS_3_12 & _STEAL_TIME))


def _flush_4_16(when: Condition) -> tuple[Step, ...]:
    """Before tables were freed with it (48a8b97cfd80, 4.19)."""
    return (Assign("pv_mmu_ops.flush_tlb_others", "kvm_flush_tlb_others", when, _GUEST, "SMP"),)


KVM_4_16: tuple[Step, ...] = (*KVM_4_10, *_flush_4_16(_REMOTE_FLUSH_4_16))
KVM_4_17: tuple[Step, ...] = (
    *KVM_4_2,
    *_flush_4_16(_REMOTE_FLUSH),
    *lock_ops("kvm_wait", "kvm_kick_cpu", _LOCKS_4_17, _SPINLOCK),
    *_preempted(_LOCKS_4_17 & _STEAL_TIME),
)
KVM_4_18: tuple[Step, ...] = (
    *KVM_4_2,
    *_flush("flush_tlb_others", _REMOTE_FLUSH),
    *_LOCK_OPS_4_19,
    *_preempted(_LOCKS_4_19 & _STEAL_TIME),
)
KVM_5_10: tuple[Step, ...] = (
    _clock("kvm_sched_clock_read"),
    *_IO_DELAY,
    *_STEAL,
    *_flush("flush_tlb_others", _REMOTE_FLUSH),
    *_LOCK_OPS,
    *_preempted(_LOCKS & _STEAL_TIME),
)
KVM_5_13: tuple[Step, ...] = (
    *_IO_DELAY,
    *_flush("flush_tlb_multi", _REMOTE_FLUSH),
    *_LOCK_OPS,
    *_preempted(_LOCKS & _STEAL_TIME),
)
KVM_5_15: tuple[Step, ...] = (
    *_IO_DELAY,
    *_flush("flush_tlb_multi", _REMOTE_FLUSH_5_15),
    *_LOCK_OPS,
    *_preempted(_LOCKS & _STEAL_TIME),
)
KVM_6_1: tuple[Step, ...] = (
    Assign(
        "pv_mmu_ops.notify_page_enc_status_changed",
        "kvm_sev_hc_page_enc_status",
        _ENCRYPTED & feature("MIGRATION_CONTROL", assume=False),
        _PLATFORM,
        "ARCH_HAS_CC_PLATFORM",
    ),
    *_IO_DELAY,
    # Moved out of kvm_spinlock_init: it no longer depends on pv spinlocks.
    Assign("pv_lock_ops.vcpu_is_preempted", _PREEMPTED, _STEAL_TIME, _GUEST, "PARAVIRT_SPINLOCKS"),
    *_flush("flush_tlb_multi", _REMOTE_FLUSH_6_1),
    *_LOCK_OPS,
)

backend = Backend(
    "kvm",
    "KVM guest support",
    "kvm",
    {
        "2.6.26": (*_CLOCKS_2_6_26, *_IO_DELAY, *_MMU_OP),
        "2.6.30": (*_CLOCKS_2_6_26, _TSC_KHZ, *_IO_DELAY, *_MMU_OP),
        "2.6.33": (_CLOCK_2_6, *_IO_DELAY, *_MMU_OP),
        "2.6.32-el6": (_CLOCK_2_6, *_IO_DELAY, *_STEAL, *_MMU_OP),
        "2.6.34": (_CLOCK_2_6, *_IO_DELAY, *_MMU_OP),
        "3.1": (*KVM_3_3, *_MMU_OP),
        "3.3": KVM_3_3,
        "3.10-el7": (*KVM_4_2, *_LOCK_OPS_EL7, *_tickets(_LOCKS_EL7)),
        "3.12": (*KVM_3_3, *_TICKETS),
        "4.2": (*KVM_4_2, *_LOCK_OPS_4_2, *_TICKETS),
        "4.9": (*KVM_4_2, *_LOCK_OPS_4_9),
        "4.10": KVM_4_10,
        "4.16": KVM_4_16,
        "4.17": KVM_4_17,
        "4.18": KVM_4_18,
        "5.10.0": KVM_5_10,
        "5.13": KVM_5_13,
        "5.15": KVM_5_15,
        "6.1": KVM_6_1,
        "6.12": (*CPU_6_12, *KVM_6_1),
    },
    needs="kvm_guest_init",
    detected=looks("nopv"),
)
