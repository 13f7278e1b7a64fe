"""5.3: code that is too long for its site is a BUG (fb2af0712fe8), and read_cr2 is callee-save.

Sources: 5.3.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c (46938cc8ab91).
"""

from __future__ import annotations

from pvops.eras import numbers_4_20, v4_20
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, refilled, renewed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_mmu_ops(v4_20.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        read_cr2 = Op(callee_save=True)


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_20.STRUCTS, pv_mmu_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v4_20.native(config), {})


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type; too little room is a BUG."""
    return v4_20.inlined("5.3 arch/x86/kernel/paravirt_patch.c", config)


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = numbers_4_20.declared.then(
    "5.3.1",
    ncapints=19,
    nbugints=1,
    words={
        9: "FDP_EXCPTN_ONLY:6 ZERO_FCS_FDS:13",
        11: ("CQM_LLC:0 CQM_OCCUP_LLC:1 CQM_MBM_TOTAL:2 CQM_MBM_LOCAL:3 FENCE_SWAPGS_USER:4 FENCE_SWAPGS_KERNEL:5"),
        12: "-CQM_OCCUP_LLC -CQM_MBM_TOTAL -CQM_MBM_LOCAL AVX512_BF16:5",
        13: "WBNOINVD:9 AMD_STIBP_ALWAYS_ON:17",
        16: "WAITPKG:5",
        18: "MD_CLEAR:10 TSX_FORCE_ABORT:13",
    },
    bugs="MDS:19 MSBDS_ONLY:20 SWAPGS:21",
)

ERA = v4_20.ERA.then(
    "5.3", "5.3.1: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c"
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    native_patch=native_patch,
    paravirt=v4_20.ERA.paravirt and v4_20.ERA.paravirt._replace(era="5.3", no_room="bug"),
    numbers=(NUMBERS,),
)
