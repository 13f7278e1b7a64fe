"""3.1: steal_clock (3c404b578fab), and pv_info has the 64-bit user code segment that Xen needs.

Source: 3.2.7 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v2_6_33, v3_0
from pvops.eras.records import POINTER, InfoStruct, Member
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_38 import STRUCTS as OLDER
from pvops.eras.v2_6_38 import native as older


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


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(OLDER, pv_time_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, older(config), {"pv_time_ops.steal_clock": "native_steal_clock"})


ERA = v3_0.ERA.then("3.1", "3.2.7: arch/x86/include/asm/paravirt_types.h", began=("native_steal_clock",))._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    info=pv_info(name="bare hardware", paravirt_enabled=0, kernel_rpl=0, shared_kernel_pmd=1, extra_user_64bit_cs=0x33),
    unknown_symbol=" (err -2)",  # printed since 2.6.35
)
