"""Xen HVM and PVH: a guest with native page tables that uses Xen's clock, event channels and spinlocks.

Sources: arch/x86/xen/enlighten_hvm.c ``xen_hvm_guest_init``, mmu_hvm.c ``xen_hvm_init_mmu_ops``, smp_hvm.c
``xen_hvm_smp_init``, time.c ``xen_hvm_init_time_ops`` and spinlock.c of 3.2.7 to 6.12.117. From 5.13 on
the clocks are static calls and no ops.
"""

from __future__ import annotations

from pvops.backends.backend import Assign, Backend, Step
from pvops.backends.conditions import Condition, Verdict, logged, looks, no_option
from pvops.backends.native import CPU_6_12
from pvops.backends.xen import LOCKS, LOCKS_3_12, LOCKS_4_19, LOCKS_6_12, spinlocks, spinlocks_3_12, time_ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine

_MMU = "arch/x86/xen/mmu_hvm.c: xen_hvm_init_mmu_ops"
_TIME = "arch/x86/xen/time.c: xen_hvm_init_time_ops"

# Without a callback vector there are no event channel interrupts on other CPUs, and smp_hvm.c turns pv spinlocks off.
# XENFEAT_hvm_callback_vector is there since Xen 4.1.
_VECTOR = no_option("xen_no_vector_callback")
_PVCLOCK = logged(no="Xen doesn't support pvclock on HVM", what="Xen has XENFEAT_hvm_safe_pvclock", assume=True)
# Xen offers HVMOP_pagetable_dying to guests with shadow page tables only, and hardware ones are usual. The kernel
# says "not supported" at debug level: its absence tells only where the log has xen_init_spinlocks(), of the same level.
_DYING = logged(
    no="HVMOP_pagetable_dying not supported",
    what="Xen offers HVMOP_pagetable_dying (shadow page tables)",
    assume=False,
    beside="xen: PV spinlocks ",
)


def _no_nopv() -> Condition:
    """``nopv`` and ``xen_nopv`` keep the guest's init code from running, but for PVH guests, which need it."""
    # xen_platform_hvm() of 5.3 and later has the hypervisor named, and its init code do nothing.
    given = looks("nopv", "xen_nopv", named=False)

    def test(machine: Machine | None, hypervisor: str) -> Verdict:
        if machine is not None and (pvh := machine.logged("kernel on Xen PVH")):
            return Verdict(True, f'a PVH guest ignores nopv (log: "{pvh}")')
        return given(machine, hypervisor)

    return Condition(test)


_EXIT: tuple[Step, ...] = (Assign("pv_mmu_ops.exit_mmap", "xen_hvm_exit_mmap", _DYING, _MMU),)

backend = Backend(
    "xen-hvm",
    "Xen HVM guest support",
    "xen-hvm",
    {
        "2.6.34": (time_ops(_VECTOR & _PVCLOCK, _TIME), *_EXIT),
        "3.10-el7": (time_ops(_VECTOR & _PVCLOCK, _TIME), *_EXIT, *spinlocks_3_12(LOCKS_3_12 & _VECTOR)),
        "3.12": (time_ops(_VECTOR & _PVCLOCK, _TIME), *_EXIT, *spinlocks_3_12(LOCKS_3_12 & _VECTOR)),
        "4.10": (time_ops(_VECTOR & _PVCLOCK, _TIME), *_EXIT, *spinlocks(LOCKS_3_12 & _VECTOR)),
        "4.18": (time_ops(_VECTOR & _PVCLOCK, _TIME), *_EXIT, *spinlocks(LOCKS_4_19 & _VECTOR)),
        "5.10.0": (time_ops(_VECTOR & _PVCLOCK, _TIME), *_EXIT, *spinlocks(LOCKS & _VECTOR)),
        "5.13": (*_EXIT, *spinlocks(LOCKS & _VECTOR)),
        "6.12": (*CPU_6_12, *_EXIT, *spinlocks(LOCKS_6_12 & _VECTOR)),
    },
    needs="xen_hvm_guest_init",
    detected=_no_nopv(),
)
