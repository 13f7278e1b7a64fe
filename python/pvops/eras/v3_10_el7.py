"""3.10 as RHEL 7 has it: later locks, ticket and queued ones in one structure.

Sources: 3.10.0-1160.el7 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt-spinlocks.c,
paravirt_patch_64.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras import v2_6_27, v3_10, v3_12
from pvops.eras.records import Option
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v3_10.pv_cpu_ops):
    """Privileged instructions."""

    read_tscp = gone


class pv_mmu_ops(v3_10.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    pte_update_defer = gone
    pmd_update = gone
    pmd_update_defer = gone


class pv_lock_ops(v3_12.pv_lock_ops):
    """The slow paths of ticket locks and of queued ones; which are used is decided at boot."""

    with ifdef("QUEUED_SPINLOCKS"):
        queued_spin_unlock = Op(callee_save=True, doc="let the lock go, and wake who waits for it")
        queued_spin_lock_slowpath = Op(doc="take a lock that somebody holds")
        wait = Op(doc="let the hypervisor run somebody else until kicked, if the byte still has this value")
        kick = Op(doc="wake a CPU that waits")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_10.STRUCTS, pv_cpu_ops, pv_mmu_ops, pv_lock_ops)

NATIVE_UNLOCK = "__raw_callee_save___native_queued_spin_unlock"


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    queued = config.holds("QUEUED_SPINLOCKS")
    return refilled(
        STRUCTS,
        v3_10.native(config),
        {
            "pv_lock_ops.lock_spinning": paravirt_nop,
            "pv_lock_ops.unlock_kick": "__pv_ticket_unlock_slowpath" if queued else paravirt_nop,
            "pv_lock_ops.queued_spin_unlock": NATIVE_UNLOCK,
            "pv_lock_ops.queued_spin_lock_slowpath": "native_queued_spin_lock_slowpath",
            "pv_lock_ops.wait": paravirt_nop,
            "pv_lock_ops.kick": paravirt_nop,
        },
    )


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, but the locks only while the unlock op is the native one, and ``invlpg`` only without PCID."""
    from pvops.eras.patching import Inline, inline_all

    code = dict(v2_6_27.DEF_NATIVE_64 if config.bits == 64 else seed.DEF_NATIVE)
    code.pop("pv_cpu_ops.read_tsc", None)
    guard = {}
    if config.holds("PARAVIRT_SPINLOCKS&QUEUED_SPINLOCKS"):
        code["pv_lock_ops.queued_spin_unlock"] = "c6 07 00" if config.bits == 64 else "c6 00 00"
        guard["pv_lock_ops.queued_spin_unlock"] = NATIVE_UNLOCK
        if config.bits == 64:
            code["pv_lock_ops.unlock_kick"] = "90"  # nop
            guard["pv_lock_ops.unlock_kick"] = "__pv_ticket_unlock_slowpath"
    found = inline_all("native_patch", "3.10.0-1160.el7 arch/x86/kernel/paravirt_patch_64.c", code, guard=guard)
    op = "pv_mmu_ops.flush_tlb_single"
    if (rule := found.switch.get(op)) is None or not isinstance(rule, Inline):
        return found
    return found._replace(switch={**found.switch, op: rule._replace(unless="pcid")})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v3_10.NUMBERS.then(
    "3.10.0-1160.el7",
    ncapints=20,
    nbugints=10,
    words={
        0: "-CLFLSH CLFLUSH:19",
        3: "-MFENCE_RDTSC -FXSAVE_LEAK ART:10",
        4: "SDBG:11",
        6: "BPEXT:26 PTSC:27",
        7: (
            "-IDA -ARAT -XSAVEOPT -PLN -PTS -DTHERM RING3MWAIT:0 FENCE_SWAPGS_USER:1 CAT_L3:4 CAT_L2:5 CDP_L3:6 "
            "INVPCID_SINGLE:7 SME:10 MSR_SPEC_CTRL:11 FENCE_SWAPGS_KERNEL:12 RETPOLINE_AMD:13 INTEL_PPIN:14 "
            "INTEL_PT:15 CDP_L2:16 SSBD:17 MBA:18 IBP_DISABLE:21 USE_IBPB:22 SPEC_STORE_BYPASS_DISABLE:23 "
            "LS_CFG_SSBD:24 IBRS:25 IBPB:26 STIBP:27 ZEN:28 L1TF_PTEINV:29 IBRS_ENHANCED:30"
        ),
        8: (
            "-NPT -LBRV -SVML -NRIPS -TSCRATEMSR -VMCBCLEAN -FLUSHBYASID -DECODEASSISTS -PAUSEFILTER -PFTHRESHOLD "
            "VMMCALL:15"
        ),
        9: (
            "CQM:12 MPX:14 RDT_A:15 AVX512F:16 AVX512DQ:17 AVX512IFMA:21 CLFLUSHOPT:23 CLWB:24 AVX512PF:26 "
            "AVX512ER:27 AVX512CD:28 SHA_NI:29 AVX512BW:30 AVX512VL:31"
        ),
        10: "XSAVEOPT:0 XSAVEC:1 XGETBV1:2 XSAVES:3",
        11: "CQM_LLC:1",
        12: "CQM_OCCUP_LLC:0 CQM_MBM_TOTAL:1 CQM_MBM_LOCAL:2",
        13: (
            "CLZERO:0 IRPERF:1 XSAVEERPTR:2 AMD_IBPB:12 AMD_IBRS:14 AMD_STIBP:15 AMD_SSBD:24 VIRT_SSBD:25 AMD_SSB_NO:26"
        ),
        14: "DTHERM:0 IDA:1 ARAT:2 PLN:4 PTS:6 HWP:7 HWP_NOTIFY:8 HWP_ACT_WINDOW:9 HWP_EPP:10 HWP_PKG_REQ:11",
        15: (
            "NPT:0 LBRV:1 SVML:2 NRIPS:3 TSCRATEMSR:4 VMCBCLEAN:5 FLUSHBYASID:6 DECODEASSISTS:7 PAUSEFILTER:10 "
            "PFTHRESHOLD:12 AVIC:13 V_VMSAVE_VMLOAD:15 VGIF:16"
        ),
        16: (
            "AVX512VBMI:1 UMIP:2 PKU:3 OSPKE:4 AVX512_VBMI2:6 GFNI:8 VAES:9 VPCLMULQDQ:10 AVX512_VNNI:11 "
            "AVX512_BITALG:12 AVX512_VPOPCNTDQ:14 CLDEMOTE:25 MOVDIRI:27 MOVDIR64B:28"
        ),
        17: "OVERFLOW_RECOV:0 SUCCOR:1 SMCA:3",
        18: (
            "AVX512_4VNNIW:2 AVX512_4FMAPS:3 SRBDS_CTRL:9 MD_CLEAR:10 TSX_FORCE_ABORT:13 PCONFIG:18 SPEC_CTRL:26 "
            "INTEL_STIBP:27 FLUSH_L1D:28 ARCH_CAPABILITIES:29 SPEC_CTRL_SSBD:31"
        ),
    },
    bugs=(
        "MONITOR:12 CPU_MELTDOWN:14 SPECTRE_V1:15 SPECTRE_V2:16 SPEC_STORE_BYPASS:17 L1TF:18 MDS:19 MSBDS_ONLY:20 "
        "SWAPGS:21 TAA:22 ITLB_MULTIHIT:23 SRBDS:24"
    ),
)

ERA = v3_10.ERA.then(
    "3.10-el7",
    "3.10.0-1160.el7: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt-spinlocks.c",
    began=("native_queued_spin_lock_slowpath",),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=(
        *v3_10.ERA.configs,
        Option("QUEUED_SPINLOCKS", "queued spinlocks beside the ticket locks: four more ops", depends="SMP"),
    ),
    native=native,
    native_patch=native_patch,
    release="3.10.0-1160.el7",
    numbers=(NUMBERS,),
)
