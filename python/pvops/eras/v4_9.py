"""4.9: ticket locks are gone (cfd8983f03c7).

Sources: 4.9.115 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt_patch_{32,64}.c.
"""

from __future__ import annotations

from pvops.eras import v4_2, v4_7
from pvops.eras.records import Option
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array


class pv_cpu_ops(v4_7.pv_cpu_ops):
    """Privileged instructions."""

    read_cr4_safe = gone


class pv_lock_ops(v4_2.pv_lock_ops):
    """Queued spinlocks. In the template always; filled and called only with CONFIG_PARAVIRT_SPINLOCKS."""

    queued_spin_lock_slowpath = Op()
    queued_spin_unlock = Op(callee_save=True)
    wait = Op()
    kick = Op()
    lock_spinning = gone
    unlock_kick = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_7.STRUCTS, pv_cpu_ops, pv_lock_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v4_7.native(config), {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v4_7.NUMBERS.then(
    "4.9.115",
    ncapints=19,
    nbugints=1,
    words={
        3: "-EAGER_FPU -MCE_RECOVERY",
        7: (
            "-INTEL_PT INVPCID_SINGLE:4 RETPOLINE:12 RETPOLINE_AMD:13 MSR_SPEC_CTRL:16 SSBD:17 RSB_CTXSW:19 "
            "USE_IBPB:21 USE_IBRS_FW:22 SPEC_STORE_BYPASS_DISABLE:23 LS_CFG_SSBD:24 IBRS:25 IBPB:26 STIBP:27 ZEN:28 "
            "KAISER:31"
        ),
        9: "INTEL_PT:25",
        13: "AMD_IBPB:12 AMD_IBRS:14 AMD_STIBP:15 VIRT_SSBD:25",
        18: (
            "AVX512_4VNNIW:2 AVX512_4FMAPS:3 PCONFIG:18 SPEC_CTRL:26 INTEL_STIBP:27 ARCH_CAPABILITIES:29 "
            "SPEC_CTRL_SSBD:31"
        ),
    },
    bugs="AMD_E400:13 CPU_MELTDOWN:14 SPECTRE_V1:15 SPECTRE_V2:16 SPEC_STORE_BYPASS:17",
)

ERA = v4_7.ERA.then("4.9", "4.9.115: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=tuple(
        Option(
            option.symbol,
            "locks go through pv_lock_ops; without it the numbers stay, read NULL and have no sites",
            depends=option.depends,
        )
        if option.symbol == "PARAVIRT_SPINLOCKS"
        else option
        for option in v4_7.ERA.configs
        if option.symbol != "QUEUED_SPINLOCKS"
    ),
    native=native,
    numbers=(NUMBERS,),
)
