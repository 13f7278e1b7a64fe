"""5.18: notify_page_enc_status_changed, called when pages become encrypted or decrypted (ffecc5a30d49, 5.19).

Sources: 5.19 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, asm-offsets_64.c; 5.18 was not read.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_13, v5_15
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed

paravirt_nop = v4_20.paravirt_nop


class pv_mmu_ops(v5_13.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    notify_page_enc_status_changed = Op(after="exit_mmap", doc="pages are encrypted from now on, or no longer")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_13.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v5_13.native(config),
        {
            "pv_cpu_ops.get_debugreg": "pv_native_get_debugreg",
            "pv_cpu_ops.set_debugreg": "pv_native_set_debugreg",
            "pv_irq_ops.irq_disable": "pv_native_irq_disable",
            "pv_irq_ops.irq_enable": "pv_native_irq_enable",
            "pv_mmu_ops.notify_page_enc_status_changed": paravirt_nop,
            "pv_mmu_ops.read_cr2": "pv_native_read_cr2",
            "pv_mmu_ops.write_cr2": "pv_native_write_cr2",
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v5_15.NUMBERS.then(
    "5.19",
    ncapints=20,
    nbugints=1,
    words={
        7: "XCOMPACTED:10 PERFMON_V2:20",
        8: "TDX_GUEST:22",
        10: "XFD:4",
        11: "-RSB_VMEXIT_LITE -MSR_TSX_CTRL",
        13: "CPPC:27 BRS:31",
        14: "HFI:19",
        18: "IBT:20 AMX_BF16:22 AMX_TILE:24 AMX_INT8:25",
        19: "V_TSC_AUX:9",
    },
    bugs="-MMIO_UNKNOWN -EIBRS_PBRSB RETBLEED:26",
)

ERA = v5_15.ERA.then("5.18", "5.19: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c")._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    numbers=(NUMBERS,),
)
