"""6.5: alternatives are moved instruction by instruction, nops merged; an address space is entered by one op.

Sources: 6.5 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c
(6c480f222128, 270a69c4485d); enter_mmap is 6.4's.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_18, v6_3
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, refilled, renewed


class pv_mmu_ops(v5_18.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        enter_mmap = Op(instead_of="activate_mm", doc="an address space is about to be used, new or copied")
    dup_mmap = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_18.STRUCTS, pv_mmu_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v6_3.native(config),
        {"pv_irq_ops.save_fl": "pv_native_save_fl", "pv_mmu_ops.enter_mmap": v5_18.paravirt_nop},
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v6_3.NUMBERS.then(
    "6.5",
    ncapints=21,
    nbugints=2,
    words={
        8: "-VNMI FLEXPRIORITY:1 EPT:2 VPID:3",
        11: "SRSO:24 SRSO_ALIAS:25 IBPB_ON_VMEXIT:26",
        12: "LAM:26",
        13: "AMD_PSFD:28",
        15: "VNMI:25",
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

ERA = v6_3.ERA.then(
    "6.5",
    "6.5: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c",
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    # Rows have flags since 6.3: an image without them is not told by its release to be of 6.5.
    passes=(Passes("6.5", layout="flags"), Passes("6.1")),
    numbers=(NUMBERS, NUMBERS_6_6),
)
