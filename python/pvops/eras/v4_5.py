"""4.5: irq_enable_sysexit and usergs_sysret32 are gone (75ef82190da6, 88c15ec90ff1), and so is pv_apic_ops.

Sources: 4.5 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c.
"""

from __future__ import annotations

from pvops.eras import v3_10, v3_15, v4_3
from pvops.eras import v4_2 as locks
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v4_3.pv_cpu_ops):
    """Privileged instructions."""

    irq_enable_sysexit = gone
    usergs_sysret32 = gone


class pv_mmu_ops(v3_10.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    pte_update_defer = gone
    pmd_update = gone
    pmd_update_defer = gone


#: The order of struct paravirt_patch_template; pv_apic_ops is gone.
STRUCTS = renewed(tuple(s for s in v4_3.STRUCTS if s.__name__ != "pv_apic_ops"), pv_cpu_ops, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v4_3.native(config), {})


_GONE = ("pv_cpu_ops.irq_enable_sysexit", "pv_cpu_ops.usergs_sysret32")
#: DEF_NATIVE, by pointer size.
DEF_NATIVE = {
    bits: {op: code for op, code in older.items() if op not in _GONE}
    for bits, older in ((64, v3_15.DEF_NATIVE_64), (32, v4_3.DEF_NATIVE_32))
}


def native_patch(config: Config) -> PatchFunction:
    """As `v4_2.patch` says."""
    source = f"4.5 arch/x86/kernel/paravirt_patch_{config.bits}.c"
    return locks.patch(config, source, DEF_NATIVE[config.bits], {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v4_3.NUMBERS.then(
    "4.5",
    ncapints=16,
    nbugints=1,
    words={
        7: "-IDA -ARAT -PLN -PTS -DTHERM -HWP -HWP_NOTIFY -HWP_ACT_WINDOW -HWP_EPP -HWP_PKG_REQ",
        8: ("-NPT -LBRV -SVML -NRIPS -TSCRATEMSR -VMCBCLEAN -FLUSHBYASID -DECODEASSISTS -PAUSEFILTER -PFTHRESHOLD"),
        14: "DTHERM:0 IDA:1 ARAT:2 PLN:4 PTS:6 HWP:7 HWP_NOTIFY:8 HWP_ACT_WINDOW:9 HWP_EPP:10 HWP_PKG_REQ:11",
        15: (
            "NPT:0 LBRV:1 SVML:2 NRIPS:3 TSCRATEMSR:4 VMCBCLEAN:5 FLUSHBYASID:6 DECODEASSISTS:7 PAUSEFILTER:10 "
            "PFTHRESHOLD:12"
        ),
    },
)

ERA = v4_3.ERA.then("4.5", "4.5: arch/x86/include/asm/paravirt_types.h", ended=("pv_apic_ops",))._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=tuple(
        option
        for option in v4_3.ERA.configs
        if option.symbol not in ("IA32_EMULATION", "X86_LOCAL_APIC", "PARAVIRT_APIC")
    ),
    native=native,
    native_patch=native_patch,
    offsets=tuple(line for line in v4_3.ERA.offsets if f"{line.struct}.{line.member}" not in _GONE),
    numbers=(NUMBERS,),
)
