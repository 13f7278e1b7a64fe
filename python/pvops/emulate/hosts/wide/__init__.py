"""What is below the guest of x86-64, by name."""

from __future__ import annotations

from pvops.emulate.hosts.wide.host import WideHost
from pvops.emulate.hosts.wide.kvm import WideKvm
from pvops.emulate.hosts.wide.xen import WideXen

HOSTS: dict[str, type[WideHost]] = {"native": WideHost, "xen": WideXen, "kvm": WideKvm}
