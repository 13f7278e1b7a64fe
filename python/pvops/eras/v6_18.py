"""6.18: page tables have five levels (6.17); `endbr` becomes another nop, indirect calls get `cs` prefixes.

Sources: 6.18.2 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c (85a2d4a890dc,
4a1e02b15ac1).
"""

from __future__ import annotations

from pvops.eras import numbers_6_18, numbers_7_2, v4_20, v6_15
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled, renewed


class pv_mmu_ops(v6_15.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        p4d_val = Op(callee_save=True, doc="the number in a fourth-level directory entry")
        make_p4d = Op(callee_save=True, doc="a fourth-level directory entry from a number")

        set_pgd = Op()


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v6_15.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v6_15.native(config),
        {"pv_mmu_ops.read_cr3": "pv_native_read_cr3", "pv_mmu_ops.write_cr3": "pv_native_write_cr3"},
    )


ERA = v6_15.ERA.then(
    "6.18", "6.18.2: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c"
)._replace(
    arrays=v4_20.array(STRUCTS),
    configs=tuple(option for option in v6_15.ERA.configs if option.symbol != "X86_5LEVEL"),
    native=native,
    passes=(Passes("6.19", since=(6, 19), commit="25e4e3565d45"), Passes("6.18")),
    numbers=(numbers_6_18.declared, numbers_7_2.declared_6_19, numbers_7_2.declared_7_0),
)
