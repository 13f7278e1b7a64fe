"""6.3: rows of .altinstructions have flags (5d1dd961e743), and nops are as long as 11 bytes on x86-64.

Sources: 6.3.8 arch/x86/include/asm/alternative.h, nops.h, arch/x86/kernel/paravirt.c.
"""

from __future__ import annotations

from pvops.eras import v6_1
from pvops.eras.nops import fixed
from pvops.eras.records import ALT_INSTR_14, PATCH_SITE_5_10
from pvops.eras.structs import Config, OpsStruct, refilled


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        v6_1.STRUCTS,
        v6_1.native(config),
        {
            "pv_cpu_ops.wbinvd": "pv_native_wbinvd",
            "pv_irq_ops.safe_halt": "pv_native_safe_halt",
        },
        renamed={v6_1.paravirt_nop: "nop_func"},
    )


ERA = v6_1.ERA.then("6.3", "6.3.8: arch/x86/include/asm/alternative.h, nops.h, arch/x86/kernel/paravirt.c")._replace(
    native=native,
    records=(PATCH_SITE_5_10, ALT_INSTR_14),
    nops=fixed("x86-11"),
)
