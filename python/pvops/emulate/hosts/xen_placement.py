"""Xen below a guest whose vcpu_info lies where the guest wants it: fewer calls, and none for the interrupt flag."""

from __future__ import annotations

from pvops.emulate.hosts.xen import Xen


class XenPlacement(Xen):
    """As `Xen`; the guest starts where it asks for this."""

    name = "xen-placement"
    entry = "xen_start_placed"
