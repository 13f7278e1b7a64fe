"""2.6.26: one set of structures for i386 and x86-64, whose page tables have a level more (2.6.25 was not read).

Sources: 2.6.26 include/asm-x86/paravirt.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c, asm-offsets_{32,64}.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_24
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.nops import by_features, by_vendor
from pvops.eras.records import OFFSET, Option, class_options
from pvops.eras.rules import ParavirtRules
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v2_6_24.pv_cpu_ops):
    """Privileged instructions."""

    with ifdef("X86_64"):
        read_cr8 = Op(after="write_cr4", doc="read CR8, the task priority")
        write_cr8 = Op(after="read_cr8", doc="write CR8, the task priority")

    load_sp0 = Op(instead_of="load_esp0", doc="tell the CPU where the kernel's stack is")
    read_tscp = Op(after="read_pmc", doc="read the time-stamp counter and the CPU's number")
    irq_enable_syscall_ret = Op(
        instead_of="irq_enable_sysexit", jump=True, doc="interrupts on and back to user space as it came; jumped to"
    )
    swapgs = Op(after="iret", doc="exchange the kernel's GS and the user's")
    load_user_cs_desc = Op(after="set_ldt", config="EXEC_SHIELD", doc="set the limit of the user's code segment")


class pv_mmu_ops(v2_6_24.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    alloc_pte = Op(instead_of="alloc_pt", doc="a page becomes a page table")
    alloc_pmd = Op(instead_of="alloc_pd", doc="a page becomes a page middle directory")
    alloc_pmd_clone = Op(
        instead_of="alloc_pd_clone", doc="a page becomes a page middle directory that starts as a copy"
    )
    alloc_pud = Op(after="alloc_pmd_clone", doc="a page becomes a page upper directory")
    release_pte = Op(instead_of="release_pt", doc="a page is a page table no more")
    release_pmd = Op(instead_of="release_pd", doc="a page is a page middle directory no more")
    release_pud = Op(after="release_pmd", doc="a page is a page upper directory no more")

    pte_val = Op(after="pte_update_defer")
    make_pte = Op(after="pte_val")

    pgd_val = Op(after="make_pte")
    make_pgd = Op(after="pgd_val")

    with ifdef("X86_PAE|X86_64"):  # PAGETABLE_LEVELS >= 3
        with ifdef("X86_PAE"):
            set_pte_atomic = Op(after="make_pgd")
            set_pte_present = Op(after="set_pte_atomic")
            pte_clear = Op(after="set_pte_present")
            pmd_clear = Op(after="pte_clear")

        set_pud = Op(after="pmd_clear")

        pmd_val = Op(after="set_pud")
        make_pmd = Op(after="pmd_val")

        with ifdef("X86_64"):  # PAGETABLE_LEVELS == 4
            pud_val = Op(after="make_pmd", doc="the number in a page upper directory entry")
            make_pud = Op(after="pud_val", doc="a page upper directory entry from a number")

            set_pgd = Op(after="make_pud", doc="write a page global directory entry")


#: The order of struct paravirt_patch_template.
STRUCTS = (seed.pv_init_ops, seed.pv_time_ops, pv_cpu_ops, seed.pv_irq_ops, seed.pv_apic_ops, pv_mmu_ops)

_LEVELS = ("alloc_pte", "alloc_pmd", "alloc_pmd_clone", "alloc_pud", "release_pte", "release_pmd", "release_pud")


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """2.6.24's values, and those of the ops that x86-64 needs."""
    return refilled(
        STRUCTS,
        v2_6_24.native(config),
        {
            "pv_cpu_ops.read_cr8": "native_read_cr8",
            "pv_cpu_ops.write_cr8": "native_write_cr8",
            **{f"pv_cpu_ops.write_{table}_entry": f"native_write_{table}_entry" for table in ("ldt", "gdt", "idt")},
            "pv_cpu_ops.load_sp0": "native_load_sp0",
            "pv_cpu_ops.read_tscp": "native_read_tscp",
            "pv_cpu_ops.irq_enable_syscall_ret": "native_irq_enable_syscall_ret",
            "pv_cpu_ops.swapgs": "native_swapgs",
            "pv_cpu_ops.load_user_cs_desc": "native_load_user_cs_desc",
            **{f"pv_mmu_ops.{op}": paravirt_nop for op in _LEVELS},
            "pv_mmu_ops.kmap_atomic_pte": "kmap_atomic",
            "pv_mmu_ops.pud_val": "native_pud_val",
            "pv_mmu_ops.make_pud": "native_make_pud",
            "pv_mmu_ops.set_pgd": "native_set_pgd",
        },
    )


#: DEF_NATIVE of paravirt_patch_64.c; paravirt_patch_32.c still has the seed's.
DEF_NATIVE_64 = {
    "pv_irq_ops.irq_disable": "fa",  # cli
    "pv_irq_ops.irq_enable": "fb",  # sti
    "pv_irq_ops.restore_fl": "57 9d",  # pushq %rdi; popfq
    "pv_irq_ops.save_fl": "9c 58",  # pushfq; popq %rax
    "pv_cpu_ops.iret": "48 cf",  # iretq
    "pv_mmu_ops.read_cr2": "0f 20 d0",  # movq %cr2, %rax
    "pv_mmu_ops.read_cr3": "0f 20 d8",  # movq %cr3, %rax
    "pv_mmu_ops.write_cr3": "0f 22 df",  # movq %rdi, %cr3
    "pv_mmu_ops.flush_tlb_single": "0f 01 3f",  # invlpg (%rdi)
    "pv_cpu_ops.clts": "0f 06",  # clts
    "pv_cpu_ops.wbinvd": "0f 09",  # wbinvd
    "pv_cpu_ops.swapgs": "0f 01 f8",  # swapgs
}
#: movq %gs:pda_oldrsp, %rsp; swapgs; sysretq
_SYSCALL_RET = "65 48 8b 24 25 18 00 00 00 0f 01 f8 48 0f 07"


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, whatever the op holds; too little room keeps the indirect call.

    Of those on x86-64 ``irq_enable_syscall_ret`` fits nowhere: its site is one jump.
    """
    from pvops.eras.patching import inline_all

    if config.bits == 64:
        code = DEF_NATIVE_64 | {"pv_cpu_ops.irq_enable_syscall_ret": _SYSCALL_RET}
    else:
        older = seed.DEF_NATIVE.items()
        code = {op.replace("irq_enable_sysexit", "irq_enable_syscall_ret"): text for op, text in older}
    return inline_all("native_patch", f"2.6.26 arch/x86/kernel/paravirt_patch_{config.bits}.c", code)


#: The paravirt lines of asm-offsets that outlive this era.
ASM_OFFSETS = (
    *(line for line in seed.ASM_OFFSETS if line.symbol not in ("PV_CPU_irq_enable_sysexit", "PV_CPU_read_cr0")),
    OFFSET("PV_CPU_swapgs", "pv_cpu_ops", "swapgs", config="X86_64"),
    OFFSET("PV_MMU_read_cr2", "pv_mmu_ops", "read_cr2", config="X86_64"),
    OFFSET("PV_CPU_read_cr0", "pv_cpu_ops", "read_cr0", config="!X86_64"),
)

#: Of Fedora's i686 kernels and Red Hat's. Seen in images of 2.6.38.8 and 2.6.32; when it went, no source at hand says.
EXEC_SHIELD = Option(
    "EXEC_SHIELD",
    "exec-shield: without a no-execute bit, the limit of a segment keeps data from being run; one op more",
    (False, False),
    depends="!X86_64",
    patch=True,
    function="native_load_user_cs_desc",
)

OPTIONS = (
    EXEC_SHIELD,
    *(option for option in seed.OPTIONS if option.symbol not in ("X86_PAE", "HIGHPTE")),
    *(option._replace(depends="!X86_64") for option in seed.OPTIONS if option.symbol in ("X86_PAE", "HIGHPTE")),
)

ERA = v2_6_24.ERA.then(
    "2.6.26", "2.6.26: include/asm-x86/paravirt.h, arch/x86/kernel/paravirt.c, paravirt_patch_{32,64}.c"
)._replace(
    bits=(32, 64),
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=OPTIONS + class_options("time", "cpu", "irq", "apic", "mmu"),
    native=native,
    native_patch=native_patch,
    offsets=(*ASM_OFFSETS, OFFSET("PV_CPU_irq_enable_syscall_ret", "pv_cpu_ops", "irq_enable_syscall_ret")),
    paravirt=ParavirtRules("2.6.26", "ud2", "_paravirt_nop", {}, True, True, "keep", "arch/x86/kernel/paravirt.c"),
    nops=by_vendor(by_features("K8", "K7", "P4", "P3")),
    backends=("native", "kvm", "lguest", "vmi", "xen"),
)
