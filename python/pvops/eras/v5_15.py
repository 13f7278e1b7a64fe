"""5.15: ops as in 5.13; a KVM guest fills them otherwise.

Source: 5.15.85 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/kvm.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import v5_13

#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v5_13.NUMBERS.then(
    "5.15.85",
    ncapints=20,
    nbugints=1,
    words={
        7: "-RETPOLINE -RETPOLINE_AMD KERNEL_IBRS:12 RSB_VMEXIT:13",
        11: (
            "ENTRY_IBPB:10 RRSBA_CTRL:11 RETPOLINE:12 RETPOLINE_LFENCE:13 RETHUNK:14 UNRET:15 USE_IBPB_FW:16 "
            "RSB_VMEXIT_LITE:17 MSR_TSX_CTRL:20"
        ),
        13: "BTC_NO:29",
    },
    bugs="MMIO_STALE_DATA:25 MMIO_UNKNOWN:26 RETBLEED:27 EIBRS_PBRSB:28",
)

ERA = v5_13.ERA.then("5.15", "5.15.85: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/kvm.c")._replace(
    numbers=(NUMBERS,),
)
