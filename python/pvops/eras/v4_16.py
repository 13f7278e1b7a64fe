"""4.16: ops and rules as in 4.14; KVM's guests have a function that flushes other CPUs' TLBs (858a43aae236).

Source: 4.16 arch/x86/kernel/kvm.c.
"""

from __future__ import annotations

from pvops.eras import v4_14

ERA = v4_14.ERA.then("4.16", "4.16: arch/x86/kernel/kvm.c", began=("kvm_flush_tlb_others",))
