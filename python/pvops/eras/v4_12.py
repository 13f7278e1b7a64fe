"""4.12: page tables of five levels have ops of their own (fdd3d8ce0ea6, f2a6a7050109).

Source: 4.12 and 4.13.4 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c.
"""

from __future__ import annotations

from pvops.eras import v4_9, v4_11
from pvops.eras.records import Option
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_mmu_ops(v4_11.pv_mmu_ops):
    """Page tables of two to five levels."""

    alloc_p4d = Op(after="alloc_pud", doc="a page becomes a fourth-level directory")
    release_p4d = Op(after="release_pud", doc="a page is a fourth-level directory no more")

    with ifdef("X86_64"):  # CONFIG_PGTABLE_LEVELS >= 4
        set_p4d = Op(after="make_pud", doc="write a fourth-level directory entry")

        with ifdef("X86_5LEVEL"):  # CONFIG_PGTABLE_LEVELS >= 5
            p4d_val = Op(after="set_p4d", callee_save=True, doc="the number in a fourth-level directory entry")
            make_p4d = Op(after="p4d_val", callee_save=True, doc="a fourth-level directory entry from a number")

            set_pgd = Op(after="make_p4d")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_11.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    pte_ident = "_paravirt_ident_64" if config.holds("X86_PAE|X86_64") else "_paravirt_ident_32"
    return refilled(
        STRUCTS,
        v4_11.native(config),
        {
            "pv_mmu_ops.alloc_p4d": paravirt_nop,
            "pv_mmu_ops.release_p4d": paravirt_nop,
            "pv_mmu_ops.set_p4d": "native_set_p4d",
            "pv_mmu_ops.p4d_val": pte_ident,
            "pv_mmu_ops.make_p4d": pte_ident,
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v4_9.NUMBERS.then(
    "4.12",
    ncapints=18,
    nbugints=1,
    words={
        3: "CPUID:25 TSC_KNOWN_FREQ:31",
        7: (
            "-INVPCID_SINGLE -RETPOLINE -RETPOLINE_AMD -MSR_SPEC_CTRL -SSBD -RSB_CTXSW -KAISER -USE_IBPB "
            "-USE_IBRS_FW -SPEC_STORE_BYPASS_DISABLE -LS_CFG_SSBD -IBRS -IBPB -STIBP -ZEN RING3MWAIT:0 "
            "CPUID_FAULT:1 CAT_L3:4 CAT_L2:5 CDP_L3:6 INTEL_PPIN:14 INTEL_PT:15 AVX512_4VNNIW:16 AVX512_4FMAPS:17 "
            "MBA:18"
        ),
        9: "-INTEL_PT RDT_A:15 AVX512IFMA:21",
        13: "-AMD_IBPB -AMD_IBRS -AMD_STIBP -VIRT_SSBD",
        16: "AVX512VBMI:1 AVX512_VPOPCNTDQ:14 LA57:16 RDPID:22",
        18: "-AVX512_4VNNIW -AVX512_4FMAPS -PCONFIG -SPEC_CTRL -INTEL_STIBP -ARCH_CAPABILITIES -SPEC_CTRL_SSBD",
    },
    bugs="-CPU_MELTDOWN -SPECTRE_V1 -SPECTRE_V2 -SPEC_STORE_BYPASS",
)

ERA = v4_11.ERA.then("4.12", "4.12: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=(
        *v4_11.ERA.configs,
        Option("X86_5LEVEL", "page tables of five levels: two more ops", (False, False), depends="X86_64"),
    ),
    native=native,
    numbers=(NUMBERS,),
)
