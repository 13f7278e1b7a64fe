"""5.13: pv_init_ops and pv_time_ops are gone (the clocks are static calls), and native_patch: alternatives inline.

Sources: 5.14.2 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c (4e6292114c74). One
table of nops serves every CPU (a89dfde3dc3c).
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_10, v5_10_0, v5_12
from pvops.eras.nops import fixed
from pvops.eras.records import ALT_INSTR_12, OFFSET, PATCH_SITE_5_10, clobbers_6_1
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import Shape
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v5_10.pv_cpu_ops):
    """Privileged instructions."""

    iret = gone


class pv_mmu_ops(v5_10_0.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    flush_tlb_multi = Op(
        instead_of="flush_tlb_others", doc="have a set of CPUs, maybe this one too, forget translations"
    )


#: The order of struct paravirt_patch_template; pv_init_ops and pv_time_ops are gone.
STRUCTS = (pv_cpu_ops, v5_12.pv_irq_ops, pv_mmu_ops, v4_20.pv_lock_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_12.native(config), {"pv_mmu_ops.flush_tlb_multi": "native_flush_tlb_multi"})


def paravirt_patch(config: Config) -> PatchFunction:
    """Nothing is inlined here any more: call, nops, or a call to paravirt_BUG for NULL."""
    from pvops.eras.patching import PatchFunction

    return PatchFunction("paravirt_patch", "5.14.2 arch/x86/kernel/paravirt.c", {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v5_12.NUMBERS.then(
    "5.14.2",
    ncapints=20,
    nbugints=1,
    words={
        3: "-K7 RAPL:29",
        8: "PVUNLOCK:20 VCPUPREEMPT:21",
        11: "SGX1:8 SGX2:9",
        15: "V_SPEC_CTRL:20",
        16: "BUS_LOCK_DETECT:24",
        18: "RTM_ALWAYS_ABORT:11 HYBRID_CPU:15",
    },
)

ERA = v5_12.ERA.then(
    "5.13",
    "5.14.2: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c",
    began=("paravirt_patch",),
    ended=("native_patch", "arch_init_ideal_nops"),
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    native_patch=paravirt_patch,
    offsets=(OFFSET("PV_IRQ_save_fl", "paravirt_patch_template", "irq.save_fl", config="PARAVIRT_XXL&DEBUG_ENTRY"),),
    clobbers=clobbers_6_1,
    records=(PATCH_SITE_5_10, ALT_INSTR_12),
    paravirt=ParavirtRules(
        "5.13",
        "paravirt_BUG",
        "_paravirt_nop",
        {},
        False,
        False,
        "bug",
        "arch/x86/kernel/paravirt.c: paravirt_patch()",
    ),
    passes=(
        Passes("6.5", symbol="apply_relocation"),
        # Before retinsn[] of static_call.c (e463a09af2f0, 5.17) a ret is one byte.
        Passes("5.13", lacks="c3 cc cc cc cc"),
        # xor5rax[] before 1cd5f059d956: data16 data16 xor %rax, %rax.
        Passes("5.17", constant="66 66 48 31 c0"),
        Passes("5.15"),
    ),
    nops=fixed("x86"),
    sites=Shape(rip=True, assembler=False),
    numbers=(NUMBERS,),
)
