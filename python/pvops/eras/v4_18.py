"""4.18: ops and rules as in 4.17; what guests put into the ops differs, most of all in RHEL 8, whose table is 4.19's.

Source: 4.18.0-147.el8 arch/x86/kernel/kvm.c, arch/x86/hyperv/mmu.c, hv_spinlock.c, arch/x86/xen/spinlock.c.
"""

from __future__ import annotations

from pvops.eras import v4_17

ERA = v4_17.ERA.then("4.18", "4.18.0-147.el8: arch/x86/kernel/kvm.c, arch/x86/hyperv/hv_spinlock.c")
