"""2.6.30: hot ops are callee-save (ecb93d1ccd0a) and preserve all registers but the result; identities become a mov.

Sources: 2.6.30 arch/x86/include/asm/paravirt.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_27
from pvops.eras.records import clobbers_2010
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import Shape
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, made_once, refilled, renewed
from pvops.eras.template import Array


class pv_irq_ops(v2_6_27.pv_irq_ops):
    """Interrupt state. The hot four preserve every register but the returned one."""

    save_fl = Op(callee_save=True)
    restore_fl = Op(callee_save=True)
    irq_disable = Op(callee_save=True)
    irq_enable = Op(callee_save=True)


class pv_mmu_ops(v2_6_27.pv_mmu_ops):
    """Page tables."""

    pte_val = Op(callee_save=True)
    pte_flags = gone
    make_pte = Op(callee_save=True)

    pgd_val = Op(callee_save=True)
    make_pgd = Op(callee_save=True)

    set_pte_present = gone

    with ifdef("X86_PAE|X86_64"):  # PAGETABLE_LEVELS >= 3
        pmd_val = Op(callee_save=True)
        make_pmd = Op(callee_save=True)

        with ifdef("X86_64"):  # PAGETABLE_LEVELS == 4
            pud_val = Op(callee_save=True)
            make_pud = Op(callee_save=True)


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v2_6_27.STRUCTS, pv_irq_ops, pv_mmu_ops)

#: The ops between a page table entry and its number.
IDENTITIES = ("pte_val", "make_pte", "pgd_val", "make_pgd", "pmd_val", "make_pmd", "pud_val", "make_pud")


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    pte_ident = "_paravirt_ident_64" if config.holds("X86_PAE|X86_64") else "_paravirt_ident_32"
    return refilled(STRUCTS, v2_6_27.native(config), {f"pv_mmu_ops.{op}": pte_ident for op in IDENTITIES})


#: paravirt_patch_default() of arch/x86/kernel/paravirt.c.
RULES = ParavirtRules(
    "2.6.30",
    "ud2",
    "_paravirt_nop",
    {"_paravirt_ident_32": 32, "_paravirt_ident_64": 64},
    True,
    True,
    "keep",
    "arch/x86/kernel/paravirt.c",
    # 3.10.0-1160.el7, 4.4.210 and 4.15.18.
    unchecked="Failing to patch indirect CALL",
)

ERA = v2_6_27.ERA.then(
    "2.6.30",
    "2.6.30: arch/x86/include/asm/paravirt.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c",
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    clobbers=clobbers_2010,
    paravirt=RULES,
    passes=(Passes("2.6.33"),),
    sites=Shape(),
)
