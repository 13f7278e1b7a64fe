"""4.14: adjust_exception_frame, store_idt, read_cr4, pte_update, set_pmd_at and set_pud_at are gone.

Sources: 4.14.177 and 4.15.18 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c,
paravirt_patch_{32,64}.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_33, v4_2, v4_10, v4_12
from pvops.eras.records import OFFSET
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v4_10.pv_cpu_ops):
    """Privileged instructions."""

    read_cr4 = gone
    store_idt = gone


class pv_irq_ops(v2_6_33.pv_irq_ops):
    """Interrupt state. The hot four preserve every register but the returned one."""

    adjust_exception_frame = gone


class pv_mmu_ops(v4_12.pv_mmu_ops):
    """Page tables of two to five levels."""

    flush_tlb_one_user = Op(instead_of="flush_tlb_single", doc="forget this CPU's translation of one user address")
    set_pmd_at = gone
    set_pud_at = gone
    pte_update = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_12.STRUCTS, pv_cpu_ops, pv_irq_ops, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(
        STRUCTS,
        v4_12.native(config),
        {
            "pv_mmu_ops.read_cr3": "__native_read_cr3",
            "pv_mmu_ops.flush_tlb_one_user": "native_flush_tlb_one_user",
        },
    )


#: DEF_NATIVE, by pointer size.
DEF_NATIVE = {
    bits: {op: code for op, code in older.items() if op != "pv_mmu_ops.flush_tlb_single"}
    for bits, older in v4_10.DEF_NATIVE.items()
}


def native_patch(config: Config) -> PatchFunction:
    """As `v4_2.patch` says."""
    code = dict(DEF_NATIVE[config.bits])
    if config.holds("PARAVIRT_SPINLOCKS"):
        # xor %rax, %rax; xor %eax, %eax
        code["pv_lock_ops.vcpu_is_preempted"] = "48 31 c0" if config.bits == 64 else "31 c0"
    return v4_2.patch(config, f"4.15.18 arch/x86/kernel/paravirt_patch_{config.bits}.c", code, v4_10.PREEMPTED)


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v4_12.NUMBERS.then(
    "4.15.18",
    ncapints=19,
    nbugints=1,
    words={
        6: "-PERFCTR_L2 PERFCTR_LLC:28",
        7: (
            "-INTEL_PT -AVX512_4VNNIW -AVX512_4FMAPS INVPCID_SINGLE:7 SME:10 PTI:11 KERNEL_IBRS:12 RSB_VMEXIT:13 "
            "CDP_L2:15 MSR_SPEC_CTRL:16 SSBD:17 RSB_CTXSW:19 USE_IBPB:21 USE_IBRS_FW:22 "
            "SPEC_STORE_BYPASS_DISABLE:23 LS_CFG_SSBD:24 IBRS:25 IBPB:26 STIBP:27 ZEN:28 L1TF_PTEINV:29 "
            "IBRS_ENHANCED:30"
        ),
        9: "FDP_EXCPTN_ONLY:6 ZERO_FCS_FDS:13 INTEL_PT:25",
        11: (
            "CQM_LLC:0 CQM_OCCUP_LLC:1 CQM_MBM_TOTAL:2 CQM_MBM_LOCAL:3 FENCE_SWAPGS_USER:4 FENCE_SWAPGS_KERNEL:5 "
            "RRSBA_CTRL:11 RETPOLINE:12 RETPOLINE_LFENCE:13 RSB_VMEXIT_LITE:17 MSR_TSX_CTRL:18"
        ),
        12: "-CQM_OCCUP_LLC -CQM_MBM_TOTAL -CQM_MBM_LOCAL",
        13: (
            "XSAVEERPTR:2 RDPRU:4 AMD_IBPB:12 AMD_IBRS:14 AMD_STIBP:15 AMD_STIBP_ALWAYS_ON:17 AMD_SSBD:24 "
            "VIRT_SSBD:25 AMD_SSB_NO:26 BTC_NO:29"
        ),
        15: "V_VMSAVE_VMLOAD:15 VGIF:16",
        16: "UMIP:2 AVX512_VBMI2:6 GFNI:8 VAES:9 VPCLMULQDQ:10 AVX512_VNNI:11 AVX512_BITALG:12 TME:13",
        18: (
            "AVX512_4VNNIW:2 AVX512_4FMAPS:3 SRBDS_CTRL:9 MD_CLEAR:10 TSX_FORCE_ABORT:13 PCONFIG:18 SPEC_CTRL:26 "
            "INTEL_STIBP:27 FLUSH_L1D:28 ARCH_CAPABILITIES:29 SPEC_CTRL_SSBD:31"
        ),
    },
    bugs=(
        "CPU_MELTDOWN:14 SPECTRE_V1:15 SPECTRE_V2:16 SPEC_STORE_BYPASS:17 L1TF:18 MDS:19 MSBDS_ONLY:20 SWAPGS:21 "
        "TAA:22 ITLB_MULTIHIT:23 SRBDS:24 MMIO_STALE_DATA:25 MMIO_UNKNOWN:26 RETBLEED:27 EIBRS_PBRSB:28"
    ),
)

#: The same of RHEL 8.
NUMBERS_EL8 = NUMBERS.then(
    "4.18.0-147.el8",
    ncapints=30,
    nbugints=2,
    words={
        7: "-KERNEL_IBRS -RSB_VMEXIT RETPOLINE:12 RETPOLINE_AMD:13 SEV:20",
        9: "-FDP_EXCPTN_ONLY -ZERO_FCS_FDS",
        11: "-RRSBA_CTRL -RETPOLINE -RETPOLINE_LFENCE -RSB_VMEXIT_LITE -MSR_TSX_CTRL",
        13: "-RDPRU -AMD_STIBP_ALWAYS_ON -BTC_NO WBNOINVD:9",
        16: "CLDEMOTE:25 MOVDIRI:27 MOVDIR64B:28",
        18: "-SRBDS_CTRL",
        22: "SPEC_CTRL_ENTRY:0 SPEC_CTRL_EXIT:1",
    },
    bugs="-SRBDS -MMIO_STALE_DATA -MMIO_UNKNOWN -RETBLEED -EIBRS_PBRSB",
)

ERA = v4_12.ERA.then("4.14", "4.15.18: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    native_patch=native_patch,
    offsets=(
        *(line for line in v4_12.ERA.offsets if line.member != "adjust_exception_frame"),
        OFFSET("PV_IRQ_save_fl", "pv_irq_ops", "save_fl", config="X86_64&DEBUG_ENTRY"),
    ),
    numbers=(NUMBERS, NUMBERS_EL8),
)
