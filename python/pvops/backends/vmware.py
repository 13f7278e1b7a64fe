"""VMware: what a guest's init code assigns.

Source: arch/x86/kernel/cpu/vmware.c ``vmware_paravirt_ops_setup`` of 4.10.17 to 6.12.117; before
4.10 (RHEL 7 apart) no op is touched. From 5.13 on the clocks are static calls and no ops.
"""

from __future__ import annotations

from pvops.backends.backend import Assign, Backend, Step
from pvops.backends.conditions import logged, looks, no_option
from pvops.backends.native import CPU_6_12

_SETUP = "arch/x86/kernel/cpu/vmware.c: vmware_paravirt_ops_setup"

_TSC = logged(
    no="Failed to get TSC freq from the hypervisor", what="the host gives the TSC's frequency (GETHZ)", assume=True
)
# Offered where the host has stealclock.enable set: off by default.
_STEAL = logged("vmware-stealtime: cpu", what="the host offers a steal clock", assume=False)

# paravirt_nop is a macro for a function of the first name, from 6.2 of the second.
_IO_DELAY: tuple[Step, ...] = (Assign("pv_cpu_ops.io_delay", "_paravirt_nop|nop_func", source=_SETUP),)

_SCHED_CLOCK: tuple[Step, ...] = (
    Assign("pv_time_ops.sched_clock", "vmware_sched_clock", _TSC & no_option("no-vmw-sched-clock"), _SETUP),
)
VMWARE_4_10: tuple[Step, ...] = (*_IO_DELAY, *_SCHED_CLOCK)
VMWARE_5_8: tuple[Step, ...] = (
    *VMWARE_4_10,
    Assign("pv_time_ops.steal_clock", "vmware_steal_clock", _TSC & _STEAL, _SETUP),
)

backend = Backend(
    "vmware",
    "VMware guest support",
    "vmware",
    {
        "2.6.34": (),
        "3.10-el7": VMWARE_4_10,
        "3.12": (),
        "4.10": VMWARE_4_10,
        "5.8": VMWARE_5_8,
        "5.13": _IO_DELAY,
        "6.12": (*CPU_6_12, *_IO_DELAY),
    },
    needs="vmware_platform_setup",
    detected=looks("nopv"),
)
