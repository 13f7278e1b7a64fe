"""4.20: one structure pv_ops, most of it only with CONFIG_PARAVIRT_XXL (5c83511bdb98, fdc0269e8958).

Sources: 4.20 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c. Ops keep the
seed's names: ``pv_ops.irq.save_fl`` was ``pv_irq_ops.save_fl``.
"""

from __future__ import annotations

from pvops.eras import numbers_4_20
from pvops.eras.definition import Era
from pvops.eras.nops import ideal_nops
from pvops.eras.records import (
    ALT_INSTR_13,
    OFFSET,
    PATCH_SITE_5_10,
    POINTER,
    InfoStruct,
    Member,
    Option,
    clobbers_2010,
)
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import Shape
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

paravirt_nop = "_paravirt_nop"
pte_ident = "_paravirt_ident_64"


class pv_info(InfoStruct):
    """General info: data, not ops."""

    export = "EXPORT_SYMBOL_GPL"

    kernel_rpl = Member("unsigned int", config="PARAVIRT_XXL", doc="ring the kernel runs in")
    shared_kernel_pmd = Member("int", config="PARAVIRT_XXL", doc="page tables share the kernel's page middle directory")
    extra_user_64bit_cs = Member("u16", 2, config="PARAVIRT_XXL&X86_64", doc="a hypervisor's 64-bit user code segment")
    name = Member("const char *", POINTER, doc='who is below: "bare hardware", "KVM", "Xen"')


class pv_init_ops(OpsStruct):
    """The patch function."""

    member = "init"

    patch = Op()


class pv_lazy_ops(OpsStruct):
    """Deferred updates."""

    config = "PARAVIRT_XXL"

    enter = Op()
    leave = Op()
    flush = Op(doc="carry out what was collected, and go on collecting")


class pv_time_ops(OpsStruct):
    """Time."""

    member = "time"

    sched_clock = Op()
    steal_clock = Op(doc="nanoseconds stolen from this CPU by the hypervisor")


class pv_cpu_ops(OpsStruct):
    """Privileged instructions."""

    member = "cpu"

    io_delay = Op()

    with ifdef("PARAVIRT_XXL"):
        get_debugreg = Op()
        set_debugreg = Op()

        read_cr0 = Op()
        write_cr0 = Op()

        write_cr4 = Op()

        with ifdef("X86_64"):
            read_cr8 = Op(doc="read CR8, the task's priority against interrupts")
            write_cr8 = Op(doc="write CR8")

        load_tr_desc = Op()
        load_gdt = Op()
        load_idt = Op()
        set_ldt = Op()
        store_tr = Op()
        load_tls = Op()
        load_gs_index = Op(config="X86_64")
        write_ldt_entry = Op()
        write_gdt_entry = Op()
        write_idt_entry = Op()
        alloc_ldt = Op()
        free_ldt = Op()

        load_sp0 = Op()

        set_iopl_mask = Op()

        wbinvd = Op()

        cpuid = Op()

        read_msr = Op(doc="read a model-specific register; trouble if there is none")
        write_msr = Op(doc="write a model-specific register; trouble if there is none")

        read_msr_safe = Op(doc="read a model-specific register; says so if there is none")
        write_msr_safe = Op(doc="write a model-specific register; says so if there is none")

        read_pmc = Op()

        usergs_sysret64 = Op(jump=True)
        iret = Op(jump=True)
        swapgs = Op()

        start_context_switch = Op()
        end_context_switch = Op()


class pv_irq_ops(OpsStruct):
    """Interrupt state."""

    member = "irq"

    with ifdef("PARAVIRT_XXL"):
        save_fl = Op(callee_save=True)
        restore_fl = Op(callee_save=True)
        irq_disable = Op(callee_save=True)
        irq_enable = Op(callee_save=True)

        safe_halt = Op()
        halt = Op()


class pv_mmu_ops(OpsStruct):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    member = "mmu"

    flush_tlb_user = Op()
    flush_tlb_kernel = Op()
    flush_tlb_one_user = Op(doc="forget this CPU's translation of one user address")
    flush_tlb_others = Op()

    tlb_remove_table = Op(doc="free a page table once no CPU walks it any more")

    exit_mmap = Op()

    with ifdef("PARAVIRT_XXL"):
        read_cr2 = Op()
        write_cr2 = Op()

        read_cr3 = Op()
        write_cr3 = Op()

        activate_mm = Op()
        dup_mmap = Op()

        pgd_alloc = Op()
        pgd_free = Op()

        alloc_pte = Op()
        alloc_pmd = Op()
        alloc_pud = Op()
        alloc_p4d = Op(doc="a page becomes a fourth-level directory")
        release_pte = Op()
        release_pmd = Op()
        release_pud = Op()
        release_p4d = Op(doc="a page is a fourth-level directory no more")

        set_pte = Op()
        set_pte_at = Op()
        set_pmd = Op()

        ptep_modify_prot_start = Op()
        ptep_modify_prot_commit = Op()

        pte_val = Op(callee_save=True)
        make_pte = Op(callee_save=True)

        pgd_val = Op(callee_save=True)
        make_pgd = Op(callee_save=True)

        with ifdef("X86_PAE|X86_64"):  # CONFIG_PGTABLE_LEVELS >= 3
            with ifdef("X86_PAE"):
                set_pte_atomic = Op()
                pte_clear = Op()
                pmd_clear = Op()

            set_pud = Op()

            pmd_val = Op(callee_save=True)
            make_pmd = Op(callee_save=True)

            with ifdef("X86_64"):  # CONFIG_PGTABLE_LEVELS >= 4
                pud_val = Op(callee_save=True)
                make_pud = Op(callee_save=True)

                set_p4d = Op(doc="write a fourth-level directory entry")

                with ifdef("X86_5LEVEL"):  # CONFIG_PGTABLE_LEVELS >= 5
                    p4d_val = Op(callee_save=True, doc="the number in a fourth-level directory entry")
                    make_p4d = Op(callee_save=True, doc="a fourth-level directory entry from a number")

                    set_pgd = Op()

        lazy_mode = pv_lazy_ops

        set_fixmap = Op()


class pv_lock_ops(OpsStruct):
    """Queued spinlocks. In the template always; filled and called only with CONFIG_PARAVIRT_SPINLOCKS."""

    member = "lock"
    called = "PARAVIRT_SPINLOCKS"

    queued_spin_lock_slowpath = Op(doc="take a lock that somebody holds")
    queued_spin_unlock = Op(callee_save=True, doc="let the lock go, and wake who waits for it")

    wait = Op(doc="let the hypervisor run somebody else until kicked, if the byte still has this value")
    kick = Op(doc="wake a CPU that waits")

    vcpu_is_preempted = Op(callee_save=True, doc="is the hypervisor running something else on that CPU?")


STRUCTS = (pv_init_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_mmu_ops, pv_lock_ops)

bare_hardware = pv_info(name="bare hardware", kernel_rpl=0, shared_kernel_pmd=1, extra_user_64bit_cs=0x33)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked: what the separate structures of 4.19 held."""
    from pvops.eras import v2_6_30, v4_19

    nothing = {f"lazy_mode.{op}": paravirt_nop for op in pv_lazy_ops.ops}
    return refilled(
        STRUCTS,
        v4_19.native(config),
        {
            **{f"pv_mmu_ops.{op}": pte_ident for op in (*v2_6_30.IDENTITIES, "p4d_val", "make_p4d")},
            **{f"pv_mmu_ops.{op}": pointer for op, pointer in nothing.items()},
            **{f"pv_lock_ops.{op}": pointer for op, pointer in native_locks().values.items()},
            "pv_cpu_ops.usergs_sysret64": "native_usergs_sysret64",
        },
    )


def native_locks() -> pv_lock_ops:
    """The lock ops as linked, with CONFIG_PARAVIRT_SPINLOCKS."""
    return pv_lock_ops(
        queued_spin_lock_slowpath="native_queued_spin_lock_slowpath",
        queued_spin_unlock="__raw_callee_save___native_queued_spin_unlock",
        wait=paravirt_nop,
        kick=paravirt_nop,
        vcpu_is_preempted="__raw_callee_save___native_vcpu_is_preempted",
    )


#: DEF_NATIVE of paravirt_patch_{32,64}.c, by pointer size: what depends on PARAVIRT_XXL.
DEF_NATIVE_XXL = {
    64: {
        "pv_irq_ops.irq_disable": "fa",  # cli
        "pv_irq_ops.irq_enable": "fb",  # sti
        "pv_irq_ops.save_fl": "9c 58",  # pushf; pop %rax
        "pv_irq_ops.restore_fl": "57 9d",  # push %rdi; popfq
        "pv_mmu_ops.read_cr2": "0f 20 d0",  # mov %cr2, %rax
        "pv_mmu_ops.read_cr3": "0f 20 d8",  # mov %cr3, %rax
        "pv_mmu_ops.write_cr3": "0f 22 df",  # mov %rdi, %cr3
        "pv_cpu_ops.wbinvd": "0f 09",  # wbinvd
        "pv_cpu_ops.usergs_sysret64": "0f 01 f8 48 0f 07",  # swapgs; sysretq
        "pv_cpu_ops.swapgs": "0f 01 f8",  # swapgs
    },
    32: {
        "pv_irq_ops.irq_disable": "fa",  # cli
        "pv_irq_ops.irq_enable": "fb",  # sti
        "pv_irq_ops.save_fl": "9c 58",  # pushf; pop %eax
        "pv_irq_ops.restore_fl": "50 9d",  # push %eax; popf
        "pv_mmu_ops.read_cr2": "0f 20 d0",  # mov %cr2, %eax
        "pv_mmu_ops.read_cr3": "0f 20 d8",  # mov %cr3, %eax
        "pv_mmu_ops.write_cr3": "0f 22 d8",  # mov %eax, %cr3
        "pv_cpu_ops.iret": "cf",  # iret
    },
}
#: The locks, by pointer size, each while its op is the native one.
DEF_NATIVE_LOCK = {
    64: {
        "pv_lock_ops.queued_spin_unlock": "c6 07 00",  # movb $0, (%rdi)
        "pv_lock_ops.vcpu_is_preempted": "31 c0",  # xor %eax, %eax
    },
    32: {
        "pv_lock_ops.queued_spin_unlock": "c6 00 00",  # movb $0, (%eax)
        "pv_lock_ops.vcpu_is_preempted": "31 c0",  # xor %eax, %eax
    },
}


def inlined(name: str, config: Config, gone: tuple[str, ...] = (), *, no_room: str = "bug") -> PatchFunction:
    """Inlines by type, but the locks only while their op is the native one.

    Args:
        name: release and file.
        config: what is configured.
        gone: ops that are inlined no more.
        no_room: what happens where the code is longer than the site.
    """
    from pvops.eras.patching import inline_all

    code: dict[str, str] = {}
    if config.holds("PARAVIRT_XXL"):
        code |= {op: text for op, text in DEF_NATIVE_XXL[config.bits].items() if op not in gone}
    if config.holds("PARAVIRT_SPINLOCKS"):
        code |= DEF_NATIVE_LOCK[config.bits]
    guard = {f"pv_lock_ops.{op}": f"{function}" for op, function in native_locks().values.items()}
    return inline_all("native_patch", name, code, no_room=no_room, guard=guard)


#: The symbols that matter from 4.20 on; defaults are Debian's.
OPTIONS = (
    Option("PARAVIRT_XXL", "privileged instructions and page tables are ops (Xen PV)", (False, True)),
    Option("X86_PAE", "three-level page tables on i386", (False, False), depends="!X86_64"),
    Option("X86_5LEVEL", "page tables of five levels: three more ops", (False, False), depends="X86_64"),
    Option("SMP", "more than one CPU"),
    Option(
        "PARAVIRT_SPINLOCKS",
        "locks go through the lock ops; without it their numbers stay, read NULL and have no sites",
        depends="SMP",
    ),
    Option("DEBUG_ENTRY", "entry code checks the interrupt flag: one more asm-offset", (False, False)),
)

OFFSETS = (
    OFFSET("PV_IRQ_save_fl", "paravirt_patch_template", "irq.save_fl", config="PARAVIRT_XXL&DEBUG_ENTRY"),
    OFFSET("PV_IRQ_irq_disable", "paravirt_patch_template", "irq.irq_disable", config="PARAVIRT_XXL"),
    OFFSET("PV_IRQ_irq_enable", "paravirt_patch_template", "irq.irq_enable", config="PARAVIRT_XXL"),
    OFFSET("PV_CPU_iret", "paravirt_patch_template", "cpu.iret", config="PARAVIRT_XXL"),
    OFFSET("PV_MMU_read_cr2", "paravirt_patch_template", "mmu.read_cr2", config="PARAVIRT_XXL"),
    OFFSET("PV_CPU_usergs_sysret64", "paravirt_patch_template", "cpu.usergs_sysret64", config="PARAVIRT_XXL&X86_64"),
    OFFSET("PV_CPU_swapgs", "paravirt_patch_template", "cpu.swapgs", config="PARAVIRT_XXL&X86_64"),
)


def array(structs: tuple[type[OpsStruct], ...]) -> tuple[Array, ...]:
    """The one array of an era: pv_ops."""
    return (Array("paravirt_patch_template", structs, symbol="pv_ops", export="EXPORT_SYMBOL"),)


#: paravirt_patch_default() of arch/x86/kernel/paravirt.c; clobbers are no longer looked at (5800dc5c19f3).
RULES = ParavirtRules(
    "4.20",
    "ud2",
    "_paravirt_nop",
    {"_paravirt_ident_64": 64},
    True,
    False,
    "keep",
    "arch/x86/kernel/paravirt.c: paravirt_patch_default()",
)

ERA = Era(
    name="4.20",
    source="4.20: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c",
    arrays=array(STRUCTS),
    configs=OPTIONS,
    native=native,
    native_patch=lambda config: inlined("4.20 arch/x86/kernel/paravirt_patch_64.c", config, no_room="keep"),
    info=bare_hardware,
    offsets=OFFSETS,
    records=(PATCH_SITE_5_10, ALT_INSTR_13),
    clobbers=clobbers_2010,
    paravirt=RULES,
    passes=(Passes("5.10.0", layout="padlen"), Passes("5.10")),  # without padlen as stable kernels have them from 5.19
    nops=ideal_nops(),
    numbers=(numbers_4_20.declared,),
    marks={
        "pv_ops": True,
        "native_patch": True,
        "native_usergs_sysret64": True,
        ".parainstructions": True,
        "pv_init_ops": False,
        "paravirt_patch": False,
    },
    backends=("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv"),
    sites=Shape(assembler_clobbers=False),
    unknown_symbol=" (err -2)",  # printed since 2.6.35
    release="4.20.0",
)
