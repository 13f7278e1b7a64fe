"""KVM: what a guest's init code assigns.

Sources: arch/x86/kernel/kvm.c (``paravirt_ops_setup``, ``kvm_guest_init``, ``kvm_init_platform``,
``kvm_spinlock_init``) and kvmclock.c of Debian's 5.10.262, 6.1.192 and 6.12.117. From 6.1 on the clocks are static
calls and no ops.
"""

from __future__ import annotations

from pvops.backends.backend import Assign, Backend, Step, callee_save, lock_ops
from pvops.backends.conditions import cpus_more_than, feature, flag, logged, no_flag, no_option, not_hint
from pvops.backends.native import CPU_6_12

_SETUP = "arch/x86/kernel/kvm.c: paravirt_ops_setup"
_GUEST = "arch/x86/kernel/kvm.c: kvm_guest_init"
_PLATFORM = "arch/x86/kernel/kvm.c: kvm_init_platform"
_SPINLOCK = "arch/x86/kernel/kvm.c: kvm_spinlock_init"
_CLOCK = "arch/x86/kernel/kvmclock.c: kvmclock_init"

_STEAL_TIME = feature("STEAL_TIME")
_REMOTE_FLUSH = feature("PV_TLB_FLUSH") & not_hint("REALTIME") & _STEAL_TIME
# "x86/kvm: Don't use PV TLB/yield when mwait is advertised" (5.18): a vCPU that waits in MWAIT is never preempted.
_REMOTE_FLUSH_6_1 = _REMOTE_FLUSH & no_flag("monitor", "MWAIT") & cpus_more_than(1)
_LOCKS = not_hint("REALTIME") & cpus_more_than(1) & no_option("nopvspin") & feature("PV_UNHALT")
_ENCRYPTED = flag("tdx_guest", "TDX_GUEST") | logged(
    "Memory Encryption Features active: AMD SEV", what="guest memory is encrypted", assume=False
)

_IO_DELAY: tuple[Step, ...] = (Assign("pv_cpu_ops.io_delay", "kvm_io_delay", feature("NOP_IO_DELAY"), _SETUP),)
_LOCK_OPS = lock_ops("kvm_wait", "kvm_kick_cpu", _LOCKS, _SPINLOCK)
_PREEMPTED = callee_save("__kvm_vcpu_is_preempted")

KVM_5_10: tuple[Step, ...] = (
    # The host's stable-TSC bit only decides whether sched_clock counts as stable, not who reads it.
    Assign(
        "pv_time_ops.sched_clock",
        "kvm_sched_clock_read",
        no_option("no-kvmclock") & (feature("CLOCKSOURCE2") | feature("CLOCKSOURCE")),
        _CLOCK,
    ),
    *_IO_DELAY,
    Assign("pv_time_ops.steal_clock", "kvm_steal_clock", _STEAL_TIME, _GUEST),
    Assign("pv_mmu_ops.flush_tlb_others", "kvm_flush_tlb_others", _REMOTE_FLUSH, _GUEST),
    Assign("pv_mmu_ops.tlb_remove_table", "tlb_remove_table", _REMOTE_FLUSH, _GUEST),
    *_LOCK_OPS,
    Assign("pv_lock_ops.vcpu_is_preempted", _PREEMPTED, _LOCKS & _STEAL_TIME, _SPINLOCK, "PARAVIRT_SPINLOCKS"),
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
    Assign("pv_mmu_ops.flush_tlb_multi", "kvm_flush_tlb_multi", _REMOTE_FLUSH_6_1, _GUEST, "SMP"),
    Assign("pv_mmu_ops.tlb_remove_table", "tlb_remove_table", _REMOTE_FLUSH_6_1, _GUEST, "SMP"),
    *_LOCK_OPS,
)

backend = Backend(
    "kvm",
    "KVM guest support",
    "kvm",
    {"5.10": KVM_5_10, "6.1": KVM_6_1, "6.12": (*CPU_6_12, *KVM_6_1)},
    needs="kvm_guest_init",
    detected=no_option("nopv"),
)
