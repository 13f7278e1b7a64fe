"""What can be below virtual CPUs, by name."""

from __future__ import annotations

from pvops.emulate.smp.hyperv import Hyperv, HypervSpin
from pvops.emulate.smp.hypervisors import Hypervisor, Kvm, Native, Xen

HYPERVISORS: dict[str, type[Hypervisor]] = {each.name: each for each in (Native, Kvm, Xen, Hyperv, HypervSpin)}
