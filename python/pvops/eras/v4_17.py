"""4.17: as 4.16; with a hint of dedicated CPUs KVM's guests keep native flushes and locks (6beacf74c257, b2798ba0b876).

Source: 4.17 arch/x86/kernel/kvm.c.
"""

from __future__ import annotations

from pvops.eras import v4_16

ERA = v4_16.ERA.then("4.17", "4.17: arch/x86/kernel/kvm.c")
