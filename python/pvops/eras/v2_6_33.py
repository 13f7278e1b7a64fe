"""2.6.33, the kernels of the 2010 post: i386 and x86-64 share one set of structures, and locks have ops.

Sources: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt-spinlocks.c,
paravirt_patch_32.c, paravirt_patch_64.c and asm-offsets_{32,64}.c of a tree at the level of 2.6.32, which differs from
2.6.33 in the name of the lock type only.
"""

from __future__ import annotations

from pvops.eras import numbers_2_6_29, v2_6_27, v2_6_30
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_init_ops(seed.pv_init_ops):
    """What is left of it: the rest moved to x86_init."""

    arch_setup = gone
    memory_setup = gone
    post_allocator_init = gone
    banner = gone


class pv_time_ops(v2_6_27.pv_time_ops):
    """Time; what else it had moved to x86_init and x86_platform."""

    time_init = gone
    get_wallclock = gone
    set_wallclock = gone
    get_tsc_khz = Op(doc="measure the time-stamp counter's clock, in kHz; no longer called")


class pv_cpu_ops(v2_6_27.pv_cpu_ops):
    """Privileged instructions."""

    read_msr_amd = gone
    rdmsr_regs = Op(
        after="read_msr", doc="read a model-specific register with all registers given, for AMD's locked ones"
    )
    wrmsr_regs = Op(
        after="write_msr", doc="write a model-specific register with all registers given, for AMD's locked ones"
    )

    lazy_mode = gone
    start_context_switch = Op(doc="a switch to another task begins: collect updates")
    end_context_switch = Op(doc="the switch to another task is done: carry them out")


class pv_irq_ops(v2_6_30.pv_irq_ops):
    """Interrupt state. The hot four preserve every register but the returned one."""

    init_IRQ = gone


class pv_apic_ops(v2_6_27.pv_apic_ops):
    """The local APIC: VMI's hook is left."""

    setup_boot_clock = gone
    setup_secondary_clock = gone


class pv_mmu_ops(v2_6_30.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    pagetable_setup_start = gone
    pagetable_setup_done = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v2_6_30.STRUCTS, pv_init_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_apic_ops, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked. What the kernel's ``#ifdef`` leaves without a function is NULL."""
    return refilled(
        STRUCTS,
        v2_6_30.native(config),
        {
            "pv_time_ops.get_tsc_khz": None,
            "pv_cpu_ops.rdmsr_regs": "native_rdmsr_safe_regs",
            "pv_cpu_ops.wrmsr_regs": "native_wrmsr_safe_regs",
            "pv_cpu_ops.start_context_switch": paravirt_nop,
            "pv_cpu_ops.end_context_switch": paravirt_nop,
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = numbers_2_6_29.declared.then(
    "2.6.32",
    ncapints=9,
    nbugints=0,
    words={
        3: "EXTD_APICID:26 AMD_DCM:27 APERFMPERF:28",
        4: "MOVBE:22 POPCNT:23",
        7: "ARAT:1",
    },
)

ERA = v2_6_30.ERA.then(
    "2.6.33",
    "2.6.33: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c",
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    # alternative_call() came with 2.6.34, and to RHEL 6, whose functions may have no names.
    passes=(Passes("2.6.34", calls=True), Passes("2.6.33")),
    numbers=(NUMBERS,),
)
