"""4.19: tlb_remove_table frees page tables (48a8b97cfd80), and clobbers are no longer checked (5800dc5c19f3).

Sources: 4.19 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c.
"""

from __future__ import annotations

from pvops.eras import v4_2, v4_10, v4_14
from pvops.eras.nops import ideal_nops
from pvops.eras.rules import ParavirtRules
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_mmu_ops(v4_14.pv_mmu_ops):
    """Page tables of two to five levels."""

    tlb_remove_table = Op(after="flush_tlb_others", doc="free a page table once no CPU walks it any more")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_14.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v4_14.native(config), {"pv_mmu_ops.tlb_remove_table": "tlb_remove_page"})


def native_patch(config: Config) -> PatchFunction:
    """As `v4_2.patch` says."""
    code = dict(v4_14.DEF_NATIVE[config.bits])
    if config.holds("PARAVIRT_SPINLOCKS"):
        code["pv_lock_ops.vcpu_is_preempted"] = "31 c0"  # xor %eax, %eax
    return v4_2.patch(config, f"4.19 arch/x86/kernel/paravirt_patch_{config.bits}.c", code, v4_10.PREEMPTED)


#: paravirt_patch_default() of arch/x86/kernel/paravirt.c.
RULES = ParavirtRules(
    "4.19",
    "ud2",
    "_paravirt_nop",
    {"_paravirt_ident_32": 32, "_paravirt_ident_64": 64},
    True,
    False,
    "keep",
    "arch/x86/kernel/paravirt.c: paravirt_patch_default()",
)

ERA = v4_14.ERA.then(
    "4.19", "4.19: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c"
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    native_patch=native_patch,
    # early_init_amd() tells K8's and K7's features since here.
    nops=ideal_nops(hygon=False),
    paravirt=RULES,
)
