"""6.5: alternatives are moved instruction by instruction, nops are merged, on x86-64 up to 11 bytes long.

Sources: 6.5 arch/x86/kernel/alternative.c (6c480f222128, 270a69c4485d), arch/x86/include/asm/nops.h (df25edbac31e).
"""

from __future__ import annotations

from pvops.eras import v6_4
from pvops.eras.nops import fixed
from pvops.eras.rules import Passes

#: arch/x86/include/asm/cpufeatures.h.
NUMBERS = v6_4.NUMBERS.then(
    "6.5",
    ncapints=21,
    nbugints=2,
    words={
        11: "SRSO:24 SRSO_ALIAS:25 IBPB_ON_VMEXIT:26",
        20: "SBPB:27 IBPB_BRTYPE:28 SRSO_NO:29",
    },
    bugs="GDS:30 SRSO:32 DIV0:33",
)

#: The same of 6.6, a long-term series.
NUMBERS_6_6 = NUMBERS.then(
    "6.6.47",
    ncapints=22,
    nbugints=2,
    words={
        3: "CLEAR_CPU_BUF:18",
        7: "-INVPCID_SINGLE",
        11: "USER_SHSTK:23 APIC_MSRS_FENCE:27 ZEN2:28 ZEN3:29 ZEN4:30 ZEN1:31",
        16: "SHSTK:7",
        19: "DEBUG_SWAP:14",
        21: "AMD_LBR_PMC_FREEZE:0 CLEAR_BHB_LOOP:1 BHI_CTRL:2 CLEAR_BHB_HW:3 CLEAR_BHB_LOOP_ON_VMEXIT:4",
    },
    bugs="RFDS:34 BHI:35",
)

ERA = v6_4.ERA.then("6.5", "6.5: arch/x86/include/asm/nops.h, arch/x86/kernel/alternative.c")._replace(
    # Rows have flags since 6.3: an image without them is not told by its release to be of 6.5.
    passes=(Passes("6.5", layout="flags"), Passes("6.1")),
    nops=fixed("x86-11"),
    numbers=(NUMBERS, NUMBERS_6_6),
)
