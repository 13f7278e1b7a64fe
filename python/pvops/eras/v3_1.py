"""3.1: steal_clock (3c404b578fab), and pv_info has the 64-bit user code segment that Xen needs.

Source: 3.2.7 arch/x86/include/asm/paravirt_types.h. Where Debian put lazy_mode.flush, an image of 3.2.60-1+deb7u3 says:
its type follows those of pv_lock_ops, arch_flush_lazy_mmu_mode() calls it, and xen_init_mmu_ops() assigns it.
"""

from __future__ import annotations

from pvops.eras import v2_6_33, v3_0
from pvops.eras.records import POINTER, InfoStruct, Member, Option
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_info(InfoStruct):
    """General info: data, not ops."""

    export = "EXPORT_SYMBOL_GPL"

    kernel_rpl = Member("unsigned int", doc="ring the kernel runs in: 0 on bare hardware, 1 as a guest")
    shared_kernel_pmd = Member("int", doc="page tables share the kernel's page middle directory; PAE only")
    extra_user_64bit_cs = Member("u16", 2, config="X86_64", doc="a hypervisor's own 64-bit user code segment")
    paravirt_enabled = Member("int", doc="0 on bare hardware, 1 under a hypervisor")
    name = Member("const char *", POINTER, doc='who is below: "bare hardware", "KVM", "Xen"')


class pv_time_ops(v2_6_33.pv_time_ops):
    """Time."""

    steal_clock = Op(after="sched_clock", doc="nanoseconds stolen from this CPU by the hypervisor")


class pv_lazy_flush_ops(OpsStruct):
    """An op that came without a place for it: behind all others, so that modules of older builds still fit.

    The header of Debian's 3.2 (wheezy) was not at hand: the structure's name is this project's.
    """

    config = "DEBIAN_FLUSH"

    flush = Op(doc="carry out what was collected, and go on collecting")


#: The order of struct paravirt_patch_template.
STRUCTS: tuple[type[OpsStruct], ...] = (*renewed(v3_0.STRUCTS, pv_time_ops), pv_lazy_flush_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    new = {"pv_time_ops.steal_clock": "native_steal_clock", "pv_lazy_flush_ops.flush": paravirt_nop}
    return refilled(STRUCTS, v3_0.native(config), new)


DEBIAN_FLUSH = Option(
    "DEBIAN_FLUSH",
    "lazy_mode.flush (511ba86e1d38, 3.9) as Debian's 3.2 has it: behind all other ops",
    (False, False),
    depends="!LAZY_FLUSH",
    patch=True,
)

ERA = v3_0.ERA.then("3.1", "3.2.7: arch/x86/include/asm/paravirt_types.h", began=("native_steal_clock",))._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=(*v3_0.ERA.configs, DEBIAN_FLUSH),
    native=native,
    info=pv_info(name="bare hardware", paravirt_enabled=0, kernel_rpl=0, shared_kernel_pmd=1, extra_user_64bit_cs=0x33),
    unknown_symbol=" (err -2)",  # printed since 2.6.35
)
