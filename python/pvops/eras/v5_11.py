"""5.11: as 5.10 was released.

Source: 5.11 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v5_8, v5_10_0

#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v5_8.NUMBERS.then(
    "5.11",
    ncapints=19,
    nbugints=1,
    words={
        3: "SME_COHERENT:17",
        8: "SEV_ES:20 VM_PAGE_FLUSH:21",
        9: "SGX:2",
        11: "PER_THREAD_MBA:7",
        16: "ENQCMD:29 SGX_LC:30",
        18: "SERIALIZE:14 TSXLDTRK:16 ARCH_LBR:19 AVX512_FP16:23",
    },
)

ERA = v5_10_0.ERA.then("5.11", "5.11: arch/x86/include/asm/paravirt_types.h")._replace(numbers=(NUMBERS,))
