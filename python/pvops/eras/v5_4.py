"""5.4: read_cr8 and write_cr8 are gone (83b584d9c6a1).

Source: 5.4.286 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import numbers_5_3, v4_20, v5_3
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed


class pv_cpu_ops(v4_20.pv_cpu_ops):
    """Privileged instructions."""

    read_cr8 = gone
    write_cr8 = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_3.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_3.native(config), {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = numbers_5_3.declared.then(
    "5.4.286",
    ncapints=22,
    nbugints=2,
    words={
        3: "-MFENCE_RDTSC",
        7: "-SME -RETPOLINE -RETPOLINE_AMD -SEV KERNEL_IBRS:12 RSB_VMEXIT:13",
        8: "VMCALL:18 VMW_VMMCALL:19",
        11: "RRSBA_CTRL:11 RETPOLINE:12 RETPOLINE_LFENCE:13 RSB_VMEXIT_LITE:17 MSR_TSX_CTRL:18",
        13: "BTC_NO:29 AMD_IBPB_RET:30",
        18: "AVX512_VP2INTERSECT:8 SRBDS_CTRL:9",
        19: "SME:0 SEV:1 VM_PAGE_FLUSH:2 SEV_ES:3 SME_COHERENT:10",
        20: "AUTOIBRS:8",
    },
    bugs="TAA:22 ITLB_MULTIHIT:23 SRBDS:24 MMIO_STALE_DATA:25 RETBLEED:26 EIBRS_PBRSB:27 MMIO_UNKNOWN:28 GDS:29",
)

ERA = v5_3.ERA.then("5.4", "5.4.286: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    numbers=(NUMBERS,),
)
