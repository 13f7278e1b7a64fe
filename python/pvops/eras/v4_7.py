"""4.7: read_msr_safe and write_msr_safe report that there is no such register (dd2f4a004b01); read_msr does not.

Sources: 4.8.15 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c.
"""

from __future__ import annotations

from pvops.eras import v4_5
from pvops.eras.records import POINTER, InfoStruct, Member
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array


class pv_info(InfoStruct):
    """General info: data, not ops."""

    export = "EXPORT_SYMBOL_GPL"

    kernel_rpl = Member("unsigned int", doc="ring the kernel runs in: 0 on bare hardware, 1 as a guest")
    shared_kernel_pmd = Member("int", doc="page tables share the kernel's page middle directory; PAE only")
    extra_user_64bit_cs = Member("u16", 2, config="X86_64", doc="a hypervisor's own 64-bit user code segment")
    name = Member("const char *", POINTER, doc='who is below: "bare hardware", "KVM", "Xen"')


class pv_cpu_ops(v4_5.pv_cpu_ops):
    """Privileged instructions."""

    read_msr = Op(doc="read a model-specific register; trouble if there is none")
    write_msr = Op(doc="write a model-specific register; trouble if there is none")
    read_msr_safe = Op(after="write_msr", doc="read a model-specific register; says so if there is none")
    write_msr_safe = Op(after="read_msr_safe", doc="write a model-specific register; says so if there is none")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_5.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(
        STRUCTS,
        v4_5.native(config),
        {
            "pv_cpu_ops.read_msr": "native_read_msr",
            "pv_cpu_ops.write_msr": "native_write_msr",
            "pv_cpu_ops.read_msr_safe": "native_read_msr_safe",
            "pv_cpu_ops.write_msr_safe": "native_write_msr_safe",
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v4_5.NUMBERS.then(
    "4.8.15",
    ncapints=18,
    nbugints=1,
    words={
        3: "ART:10 ACC_POWER:19 MCE_RECOVERY:31",
        6: "PTSC:27",
        9: "-PCOMMIT AVX512DQ:17 AVX512BW:30 AVX512VL:31",
        12: "CQM_MBM_TOTAL:1 CQM_MBM_LOCAL:2",
        13: "IRPERF:1",
        15: "AVIC:13",
        16: "PKU:3 OSPKE:4",
        17: "OVERFLOW_RECOV:0 SUCCOR:1 SMCA:3",
    },
    bugs="ESPFIX:9 NULL_SEG:10 SWAPGS_FENCE:11 MONITOR:12",
)

ERA = v4_5.ERA.then("4.7", "4.8.15: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    info=pv_info(name="bare hardware", kernel_rpl=0, shared_kernel_pmd=1, extra_user_64bit_cs=0x33),
    offsets=tuple(line for line in v4_5.ERA.offsets if line.member != "paravirt_enabled"),
    numbers=(NUMBERS,),
)
