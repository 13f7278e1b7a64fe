"""Machines by name: CPUs that kernels often meet, for when there are no facts of a real one.

The CPUs themselves are data, in `pvops.machine.cpus`.
"""

from __future__ import annotations

from pvops.machine import cpus as _cpus
from pvops.machine.machine import Machine

NAMES = _cpus.NAMES
#: What is taken in place of a preset for a CPU of which nothing is known; no machine has that name.
BASELINE = "baseline"


def machine(name: str, *, cpus: int = 2, hypervisor: str = "none", cmdline: str = "") -> Machine:
    """The machine of a name.

    Args:
        name: one of `NAMES`.
        cpus: possible and online CPUs; each has a core of its own.
        hypervisor: what it runs under, as `Machine` names it.
        cmdline: the kernel's command line.

    Raises:
        MachineError: there is no such preset, or no CPU.
    """
    return Machine(**_cpus.given(name, cpus=cpus, hypervisor=hypervisor, cmdline=cmdline))
