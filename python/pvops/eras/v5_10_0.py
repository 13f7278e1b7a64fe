"""5.10 to 5.10.132: privileged ops are x86-64's alone, as 32-bit Xen PV guests are gone (a13f2ef168cb).

Source: 5.11 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_3, v5_8
from pvops.eras.records import POINTER, InfoStruct, Member, Option
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, made_once, refilled, renewed


class pv_info(InfoStruct):
    """General info: data, not ops."""

    export = "EXPORT_SYMBOL_GPL"

    extra_user_64bit_cs = Member("u16", 2, config="PARAVIRT_XXL", doc="a hypervisor's own 64-bit user code segment")
    name = Member("const char *", POINTER, doc='who is below: "bare hardware", "KVM", "Xen"')


class pv_cpu_ops(v5_8.pv_cpu_ops):
    """Privileged instructions."""

    with ifdef("PARAVIRT_XXL"):
        load_gs_index = Op()


class pv_mmu_ops(v5_3.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    set_pte_at = gone
    set_pte_atomic = gone
    pte_clear = gone
    pmd_clear = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_8.STRUCTS, pv_cpu_ops, pv_mmu_ops)

bare_hardware = pv_info(name="bare hardware", extra_user_64bit_cs=0x33)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_8.native(config), {})


ERA = v5_8.ERA.then(
    "5.10.0", "5.11: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c"
)._replace(
    arrays=v4_20.array(STRUCTS),
    configs=tuple(
        Option(option.symbol, option.meaning, option.default, depends="X86_64")
        if option.symbol == "PARAVIRT_XXL"
        else option
        for option in v5_8.ERA.configs
        if option.symbol != "X86_PAE"
    ),
    native=native,
    info=bare_hardware,
    offsets=tuple(line for line in v4_20.OFFSETS if line.symbol != "PV_MMU_read_cr2"),
    release="5.10.0",
)
