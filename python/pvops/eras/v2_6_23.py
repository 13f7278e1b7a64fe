"""2.6.23's single struct paravirt_ops, which the 2007 refactoring takes apart in two steps (i386 only).

1. As released, ``struct paravirt_ops`` is flat: four words of data, then 89 ops at most, exported whole to every module
   (`released`).
2. Fitzhardinge's first patch groups it: ``struct paravirt_ops`` consists of the seven structures, pv_info stands
   alone, and ``pv_irq_ops`` is an assembler alias of ``paravirt_ops+164``. This is what the post removes, and what the
   era ``2.6.23`` describes.

Sources: 2.6.23 include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c and asm-offsets.c (1); the removed lines of
Russell 2007 (2).
"""

from __future__ import annotations

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.definition import Era
from pvops.eras.records import ALT_INSTR_POINTERS, OFFSET, PATCH_SITE, InfoStruct, Member, class_options, clobbers_2007
from pvops.eras.rules import Passes
from pvops.eras.shape import SHAPE_2007
from pvops.eras.structs import Config, Op, OpsStruct, ifdef
from pvops.eras.template import Array, Template


class pv_info(InfoStruct):
    """General info, apart from the ops already, but exported to nobody: the post adds that."""

    kernel_rpl: Member = seed.pv_info.members["kernel_rpl"]
    shared_kernel_pmd: Member = seed.pv_info.members["shared_kernel_pmd"]
    paravirt_enabled: Member = seed.pv_info.members["paravirt_enabled"]
    name: Member = seed.pv_info.members["name"]


class paravirt_ops(OpsStruct):
    """The flat structure as released: what belongs together is scattered, and the order is that of additions."""

    export = "EXPORT_SYMBOL"
    member = None
    leading: tuple[str, ...] = ("kernel_rpl", "shared_kernel_pmd", "paravirt_enabled", "name")

    patch = Op()

    arch_setup = Op()
    memory_setup = Op()
    post_allocator_init = Op()

    init_IRQ = Op()
    time_init = Op()

    pagetable_setup_start = Op()
    pagetable_setup_done = Op()

    banner = Op()

    get_wallclock = Op()
    set_wallclock = Op()

    cpuid = Op()

    get_debugreg = Op()
    set_debugreg = Op()

    clts = Op()

    read_cr0 = Op()
    write_cr0 = Op()

    read_cr2 = Op()
    write_cr2 = Op()

    read_cr3 = Op()
    write_cr3 = Op()

    read_cr4_safe = Op()
    read_cr4 = Op()
    write_cr4 = Op()

    save_fl = Op()
    restore_fl = Op()
    irq_disable = Op()
    irq_enable = Op()
    safe_halt = Op()
    halt = Op()

    wbinvd = Op()

    read_msr = Op()
    write_msr = Op()

    read_tsc = Op()
    read_pmc = Op()
    sched_clock = Op()
    get_cpu_khz = Op()

    load_tr_desc = Op()
    load_gdt = Op()
    load_idt = Op()
    store_gdt = Op()
    store_idt = Op()
    set_ldt = Op()
    store_tr = Op()
    load_tls = Op()
    write_ldt_entry = Op()
    write_gdt_entry = Op()
    write_idt_entry = Op()
    load_esp0 = Op()

    set_iopl_mask = Op()
    io_delay = Op()

    activate_mm = Op()
    dup_mmap = Op()
    exit_mmap = Op()

    with ifdef("X86_LOCAL_APIC"):
        apic_write = Op()
        apic_write_atomic = Op()
        apic_read = Op()
        setup_boot_clock = Op()
        setup_secondary_clock = Op()
        startup_ipi_hook = Op()

    flush_tlb_user = Op()
    flush_tlb_kernel = Op()
    flush_tlb_single = Op()
    flush_tlb_others = Op()

    alloc_pt = Op()
    alloc_pd = Op()
    alloc_pd_clone = Op()
    release_pt = Op()
    release_pd = Op()

    set_pte = Op()
    set_pte_at = Op()
    set_pmd = Op()
    pte_update = Op()
    pte_update_defer = Op()

    with ifdef("HIGHPTE"):
        kmap_atomic_pte = Op()

    with ifdef("X86_PAE"):
        set_pte_atomic = Op()
        set_pte_present = Op()
        set_pud = Op()
        pte_clear = Op()
        pmd_clear = Op()

    pte_val = Op()
    pmd_val = Op(config="X86_PAE")
    pgd_val = Op()

    make_pte = Op()
    make_pmd = Op(config="X86_PAE")
    make_pgd = Op()

    set_lazy_mode = Op()

    irq_enable_sysexit = Op(jump=True)
    iret = Op(jump=True)


def released(config: Config) -> Template:
    """The flat structure's numbers. Types count from its start, data included: ``patch`` is type 4."""
    return Template((paravirt_ops,), config, name="struct paravirt_ops of 2.6.23 as released", symbol="paravirt_ops")


def released_native() -> paravirt_ops:
    """The flat structure as linked: function for function what the seed's structures hold."""
    return paravirt_ops(**{op: pointer for s in seed.native(Config()) for op, pointer in s.values.items()})


def released_asm_offsets(config: Config) -> dict[str, int]:
    """The paravirt lines of 2.6.23's asm-offsets.c, in bytes from the start of paravirt_ops."""
    template = released(config)
    out = {"PARAVIRT_enabled": paravirt_ops.leading.index("paravirt_enabled") * template.word}
    for op in ("irq_disable", "irq_enable", "irq_enable_sysexit", "iret", "read_cr0"):
        out[f"PARAVIRT_{op}"] = template.op(f"paravirt_ops.{op}").offset
    return out


def aliases(config: Config) -> dict[str, int]:
    """``pv_irq_ops = paravirt_ops+164`` and its like: the offset in bytes each grouped structure's name stands for."""
    return dict(ERA.template(config).struct_offsets)


ERA = Era(
    name="2.6.23",
    source="Russell 2007, the lines it removes; 2.6.23: include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c",
    bits=(32,),
    arrays=(Array("paravirt_ops", seed.STRUCTS, symbol="paravirt_ops"),),
    configs=seed.OPTIONS + class_options("misc", "time", "cpu", "irq", "apic", "mmu"),
    native=seed.native,
    native_patch=seed.native_patch,
    info=pv_info(name="bare hardware", paravirt_enabled=0, kernel_rpl=0, shared_kernel_pmd=1),
    offsets=(
        OFFSET("PARAVIRT_enabled", "pv_info", "paravirt_enabled"),
        OFFSET("PARAVIRT_irq_disable", "paravirt_ops", "pv_irq_ops.irq_disable"),
        OFFSET("PARAVIRT_irq_enable", "paravirt_ops", "pv_irq_ops.irq_enable"),
        OFFSET("PARAVIRT_irq_enable_sysexit", "paravirt_ops", "pv_cpu_ops.irq_enable_sysexit"),
        OFFSET("PARAVIRT_iret", "paravirt_ops", "pv_cpu_ops.iret"),
        OFFSET("PARAVIRT_read_cr0", "paravirt_ops", "pv_cpu_ops.read_cr0"),
    ),
    records=(PATCH_SITE, ALT_INSTR_POINTERS),
    clobbers=clobbers_2007,
    paravirt=None,
    passes=(Passes("2.6.24"),),
    nops=seed.ERA.nops,
    numbers=(),
    marks={"paravirt_ops": True, "pv_init_ops": False, **seed.SINCE_2007},
    backends=("native",),
    sites=SHAPE_2007,
    release="2.6.23",
)
