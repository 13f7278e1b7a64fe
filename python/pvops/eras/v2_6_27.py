"""2.6.27: locks have ops, pv_lock_ops (74d4affde8fe), and each return to user space an op of its own.

Sources: 2.6.29 arch/x86/include/asm/paravirt.h, arch/x86/kernel/paravirt.c, paravirt-spinlocks.c,
paravirt_patch_{32,64}.c, asm-offsets_{32,64}.c. 2.6.27 and 2.6.28 were not read.
"""

from __future__ import annotations

from pvops.eras import numbers_2_6_29, v2_6_26
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.nops import by_features, by_vendor
from pvops.eras.records import OFFSET, Option, class_options
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_time_ops(seed.pv_time_ops):
    """Time."""

    get_tsc_khz = Op(instead_of="get_cpu_khz", doc="measure the time-stamp counter's clock, in kHz")


class pv_cpu_ops(v2_6_26.pv_cpu_ops):
    """Privileged instructions."""

    load_gs_index = Op(after="load_tls", config="X86_64", doc="load the user's GS selector")
    alloc_ldt = Op(after="write_idt_entry", doc="pages become a local descriptor table")
    free_ldt = Op(after="alloc_ldt", doc="pages are a local descriptor table no more")
    read_msr_amd = Op(after="cpuid", doc="read a model-specific register of AMD's that is locked")

    irq_enable_sysexit = Op(instead_of="irq_enable_syscall_ret", jump=True)
    usergs_sysret64 = Op(
        after="irq_enable_sysexit", jump=True, doc="the user's GS, and back to 64-bit user space by sysret; jumped to"
    )
    usergs_sysret32 = Op(
        after="usergs_sysret64", jump=True, doc="the user's GS, and back to 32-bit user space by sysret; jumped to"
    )


class pv_irq_ops(seed.pv_irq_ops):
    """Interrupt state."""

    adjust_exception_frame = Op(config="X86_64", doc="take off what Xen pushes on top of an exception frame")


class pv_apic_ops(seed.pv_apic_ops):
    """The local APIC: its registers have gone."""

    apic_write = gone
    apic_write_atomic = gone
    apic_read = gone


class pv_mmu_ops(v2_6_26.pv_mmu_ops):
    """Page tables."""

    pgd_alloc = Op(after="flush_tlb_others", doc="a page table's top level is being made")
    pgd_free = Op(after="pgd_alloc", doc="a page table's top level is being freed")
    ptep_modify_prot_start = Op(
        after="pte_update_defer", doc="read an entry in order to change its protection; the hardware must not"
    )
    ptep_modify_prot_commit = Op(after="ptep_modify_prot_start", doc="write back the entry whose protection changed")
    pte_flags = Op(after="pte_val", doc="the flags of a page table entry")

    set_fixmap = Op(doc="map a page at a fixed address")


class pv_lock_ops(OpsStruct):
    """Ticket locks. In the template always; seen by the patcher and called only with CONFIG_PARAVIRT_SPINLOCKS."""

    called = "PARAVIRT_SPINLOCKS"
    export = "EXPORT_SYMBOL"

    spin_is_locked = Op(doc="is the lock held?")
    spin_is_contended = Op(doc="is somebody waiting for the lock?")
    spin_lock = Op(doc="take the lock")
    spin_lock_flags = Op(doc="take the lock, with interrupts as they were while waiting")
    spin_trylock = Op(doc="take the lock if nobody holds it")
    spin_unlock = Op(doc="let the lock go")


#: The order of struct paravirt_patch_template.
STRUCTS = (seed.pv_init_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_apic_ops, pv_mmu_ops, pv_lock_ops)


def native_locks(config: Config) -> dict[str, str | None]:
    """The lock ops as linked: ticket locks, where there is more than one CPU."""
    functions = {
        "spin_is_locked": "__ticket_spin_is_locked",
        "spin_is_contended": "__ticket_spin_is_contended",
        "spin_lock": "__ticket_spin_lock",
        "spin_lock_flags": "default_spin_lock_flags",
        "spin_trylock": "__ticket_spin_trylock",
        "spin_unlock": "__ticket_spin_unlock",
    }
    return {f"pv_lock_ops.{op}": name if config.holds("SMP") else None for op, name in functions.items()}


def sysrets(config: Config) -> dict[str, str | None]:
    """The ways back to user space as linked: what the configuration leaves without a function is NULL."""
    wide = config.holds("X86_64")
    ia32 = not wide or config.holds("IA32_EMULATION")
    return {
        "pv_cpu_ops.irq_enable_sysexit": "native_irq_enable_sysexit" if ia32 else None,
        "pv_cpu_ops.usergs_sysret32": "native_usergs_sysret32" if wide and ia32 else None,
        "pv_cpu_ops.usergs_sysret64": "native_usergs_sysret64" if wide else None,
    }


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    setup = paravirt_nop if config.holds("X86_64") else None
    return refilled(
        STRUCTS,
        v2_6_26.native(config),
        {
            "pv_time_ops.get_tsc_khz": "native_calibrate_tsc",
            "pv_cpu_ops.load_gs_index": "native_load_gs_index",
            "pv_cpu_ops.alloc_ldt": paravirt_nop,
            "pv_cpu_ops.free_ldt": paravirt_nop,
            "pv_cpu_ops.read_msr_amd": "native_read_msr_amd_safe",
            "pv_cpu_ops.read_msr": "native_read_msr_safe",
            "pv_cpu_ops.write_msr": "native_write_msr_safe",
            **sysrets(config),
            "pv_irq_ops.adjust_exception_frame": paravirt_nop,
            "pv_mmu_ops.pagetable_setup_start": setup or "native_pagetable_setup_start",
            "pv_mmu_ops.pagetable_setup_done": setup or "native_pagetable_setup_done",
            "pv_mmu_ops.pgd_alloc": "__paravirt_pgd_alloc",
            "pv_mmu_ops.pgd_free": paravirt_nop,
            "pv_mmu_ops.ptep_modify_prot_start": "__ptep_modify_prot_start",
            "pv_mmu_ops.ptep_modify_prot_commit": "__ptep_modify_prot_commit",
            "pv_mmu_ops.pte_flags": "native_pte_flags",
            "pv_mmu_ops.set_fixmap": "native_set_fixmap",
            **native_locks(config),
        },
    )


#: DEF_NATIVE of paravirt_patch_64.c; paravirt_patch_32.c still has the seed's.
DEF_NATIVE_64 = v2_6_26.DEF_NATIVE_64 | {
    "pv_cpu_ops.irq_enable_sysexit": "0f 01 f8 fb 0f 35",  # swapgs; sti; sysexit
    "pv_cpu_ops.usergs_sysret64": "0f 01 f8 48 0f 07",  # swapgs; sysretq
    "pv_cpu_ops.usergs_sysret32": "0f 01 f8 0f 07",  # swapgs; sysretl
}


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, whatever the op holds; too little room keeps the indirect call."""
    from pvops.eras.patching import inline_all

    code = DEF_NATIVE_64 if config.bits == 64 else seed.DEF_NATIVE
    return inline_all("native_patch", f"2.6.33 arch/x86/kernel/paravirt_patch_{config.bits}.c", code)


#: The paravirt lines of asm-offsets.
ASM_OFFSETS = (
    *v2_6_26.ASM_OFFSETS,
    OFFSET("PV_IRQ_adjust_exception_frame", "pv_irq_ops", "adjust_exception_frame", config="X86_64"),
    OFFSET("PV_CPU_usergs_sysret32", "pv_cpu_ops", "usergs_sysret32", config="X86_64"),
    OFFSET("PV_CPU_usergs_sysret64", "pv_cpu_ops", "usergs_sysret64", config="X86_64"),
    OFFSET("PV_CPU_irq_enable_sysexit", "pv_cpu_ops", "irq_enable_sysexit"),
)

OPTIONS = (
    *(option for option in v2_6_26.OPTIONS if option.symbol != "SMP"),
    Option("SMP", "ticket locks exist: the functions that pv_lock_ops holds"),
    Option(
        "PARAVIRT_SPINLOCKS",
        "locks go through pv_lock_ops; without it the six numbers stay, read NULL and have no sites",
        (False, False),
        depends="SMP",
    ),
    Option("IA32_EMULATION", "32-bit programs on x86-64: sysexit and sysret32", (False, True), depends="X86_64"),
)

ERA = v2_6_26.ERA.then(
    "2.6.27",
    "2.6.29: arch/x86/include/asm/paravirt.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c",
    began=("pv_lock_ops", "native_usergs_sysret64"),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=OPTIONS + class_options("time", "cpu", "irq", "apic", "mmu"),
    native=native,
    native_patch=native_patch,
    offsets=ASM_OFFSETS,
    # f88f07e0f0b7: what becomes of a lock prefix.
    passes=(Passes("2.6.33", since=(2, 6, 28), commit="f88f07e0f0b7"), Passes("2.6.24")),
    nops=by_vendor(by_features("K8", "K7", "NOPL")),
    numbers=(numbers_2_6_29.declared,),
)
