"""5.8: invalidate_io_bitmap, called when the I/O permissions loaded are no longer valid (cadfad870154).

Source: 5.8.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_4, v5_6
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled, renewed


class pv_cpu_ops(v5_6.pv_cpu_ops):
    """Privileged instructions."""

    with ifdef("PARAVIRT_XXL&X86_IOPL_IOPERM"):
        invalidate_io_bitmap = Op(after="load_sp0", doc="this CPU's I/O permissions no longer hold")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_6.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v5_6.native(config),
        {
            "pv_cpu_ops.invalidate_io_bitmap": "native_tss_invalidate_io_bitmap",
            "pv_mmu_ops.flush_tlb_user": "native_flush_tlb_local",
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v5_4.NUMBERS.then(
    "5.8.1",
    ncapints=19,
    nbugints=1,
    words={
        7: "-KERNEL_IBRS -RSB_VMEXIT SME:10 RETPOLINE:12 RETPOLINE_AMD:13 SEV:20 MSR_IA32_FEAT_CTL:31",
        11: "-RRSBA_CTRL -RETPOLINE -RETPOLINE_LFENCE -RSB_VMEXIT_LITE -MSR_TSX_CTRL SPLIT_LOCK_DETECT:6",
        13: "-BTC_NO -AMD_IBPB_RET RDPRU:4 AMD_PPIN:23",
        18: "FSRM:4 CORE_CAPABILITIES:30",
        19: "-SME -SEV -VM_PAGE_FLUSH -SEV_ES -SME_COHERENT",
        20: "-AUTOIBRS",
    },
    bugs="-MMIO_STALE_DATA -RETBLEED -EIBRS_PBRSB -MMIO_UNKNOWN -GDS",
)

ERA = v5_6.ERA.then("5.8", "5.8.1: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c")._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    numbers=(NUMBERS,),
)
