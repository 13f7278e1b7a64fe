"""2.6.22: every call is a site, and its type a place in one flat struct paravirt_ops, data included (i386 only).

Sources: 2.6.22 include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c, alternative.c (apply_paravirt, in place),
asm-offsets.c.
"""

from __future__ import annotations

from collections.abc import Iterable

from pvops.eras import v2_6_23 as after
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.definition import Era
from pvops.eras.records import ALT_INSTR_POINTERS, OFFSET, PATCH_SITE, clobbers_2007
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import SHAPE_2007
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class flat(after.paravirt_ops):
    """The flat structure, whose first four words are data: sites count from its start, so these have numbers too."""

    leading = ()

    kernel_rpl = Op(after="", data=True, doc="data: ring the kernel runs in")
    shared_kernel_pmd = Op(after="kernel_rpl", data=True, doc="data: page tables share the kernel's directory")
    paravirt_enabled = Op(after="shared_kernel_pmd", data=True, doc="data: 0 on bare hardware, 1 under a hypervisor")
    name = Op(after="paravirt_enabled", data=True, doc="data: who is below")


class paravirt_ops(flat):
    """As released: the scheduler's clock counts cycles, and nothing is called when the page allocator works."""

    post_allocator_init = gone
    get_scheduled_cycles = Op(instead_of="sched_clock", doc="cycles for the scheduler, without the time stolen")


def flattened(struct: type[OpsStruct], structs: Iterable[OpsStruct], **changes: str) -> OpsStruct:
    """A flat structure that holds what the seed's structures do, but for changes: the split changed none of it.

    Data are not filled.
    """
    held = {op: pointer for each in structs for op, pointer in each.values.items()} | changes
    return struct(**{op: held.get(op) for op in struct.ops})


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structure as linked; ``kmap_atomic_pte`` is there with CONFIG_HIGHPTE alone."""
    return (flattened(paravirt_ops, seed.native(config), get_scheduled_cycles="native_read_tsc"),)


#: native_patch() leaves nothing of these calls: "These functions end up returning exactly what they're passed".
NOTHING = ("make_pgd", "make_pte", "pgd_val", "pte_val", "make_pmd", "pmd_val")


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, whatever the op holds; too little room keeps the indirect call."""
    from pvops.eras.patching import inline_all

    code = {f"paravirt_ops.{op.partition('.')[2]}": text for op, text in seed.DEF_NATIVE.items()}
    code |= {f"paravirt_ops.{op}": "" for op in NOTHING}
    return inline_all("native_patch", "2.6.22 arch/i386/kernel/paravirt.c", code)


OFFSETS = tuple(
    OFFSET(f"PARAVIRT_{member}", "paravirt_ops", f"paravirt_ops.{op}")
    for member, op in (
        ("enabled", "paravirt_enabled"),
        *((op, op) for op in ("irq_disable", "irq_enable", "irq_enable_sysexit", "iret", "read_cr0")),
    )
)

ERA = Era(
    name="2.6.22",
    source="2.6.22: include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c",
    bits=(32,),
    arrays=(Array("paravirt_ops", (paravirt_ops,), symbol="paravirt_ops", export="EXPORT_SYMBOL"),),
    configs=seed.OPTIONS,
    native=native,
    native_patch=native_patch,
    info=after.ERA.info,
    offsets=OFFSETS,
    records=(PATCH_SITE, ALT_INSTR_POINTERS),
    clobbers=clobbers_2007,
    paravirt=ParavirtRules("2.6.22", "ud2", "_paravirt_nop", {}, True, True, "keep", "arch/i386/kernel/paravirt.c"),
    passes=(Passes("2.6.24"),),
    nops=seed.ERA.nops,
    numbers=(),
    marks={"paravirt_ops": True, "paravirt_patch_default": True, "pv_init_ops": False, **seed.SINCE_2007},
    backends=("native", "vmi"),
    sites=SHAPE_2007,
    release="2.6.22",
)
