"""5.15: as 5.13; what a KVM guest does changed.

Source: 5.15.85 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/kvm.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import v5_13

ERA = v5_13.ERA.then("5.15", "5.15.85: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/kvm.c")
