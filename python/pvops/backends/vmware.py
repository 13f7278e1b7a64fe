"""VMware: what a guest's init code assigns.

Source: arch/x86/kernel/cpu/vmware.c ``vmware_paravirt_ops_setup`` of 5.10.262, 6.1.192 and 6.12.117. From 6.1 on the
clocks are static calls and no ops.
"""

from __future__ import annotations

from pvops.backends.backend import Assign, Backend, Step
from pvops.backends.conditions import logged, no_option
from pvops.backends.native import CPU_6_12

_SETUP = "arch/x86/kernel/cpu/vmware.c: vmware_paravirt_ops_setup"

_TSC = logged(
    no="Failed to get TSC freq from the hypervisor", what="the host gives the TSC's frequency (GETHZ)", assume=True
)
# Offered where the host has stealclock.enable set: off by default.
_STEAL = logged("vmware-stealtime: cpu", what="the host offers a steal clock", assume=False)

# paravirt_nop is a macro for a function of the first name, from 6.2 of the second.
_IO_DELAY: tuple[Step, ...] = (Assign("pv_cpu_ops.io_delay", "_paravirt_nop|nop_func", source=_SETUP),)

VMWARE_5_10: tuple[Step, ...] = (
    *_IO_DELAY,
    Assign("pv_time_ops.sched_clock", "vmware_sched_clock", _TSC & no_option("no-vmw-sched-clock"), _SETUP),
    Assign("pv_time_ops.steal_clock", "vmware_steal_clock", _TSC & _STEAL, _SETUP),
)

backend = Backend(
    "vmware",
    "VMware guest support",
    "vmware",
    {"5.10": VMWARE_5_10, "6.1": _IO_DELAY, "6.12": (*CPU_6_12, *_IO_DELAY)},
    needs="vmware_platform_setup",
    detected=no_option("nopv"),
)
