"""How guests' programs begin: descriptor tables, and address spaces."""

from __future__ import annotations

from pvops.assembler import addr
from pvops.emulate.guest.layout import USER, gate, pa
from pvops.emulate.guest.program import Call, Pmd, Step, Table

CR0 = 0x80050033


def descriptors() -> tuple[Step, ...]:
    """Descriptor tables, and a gate for page faults."""
    low, high = gate(14)
    return (
        Call("pv_cpu_ops.load_gdt", (addr("gdt_descr"),)),
        Call("pv_cpu_ops.write_idt_entry", (addr("idt_table"), 14, low, high)),
        Call("pv_cpu_ops.load_idt", (addr("idt_descr"),)),
    )


def address_spaces() -> tuple[Step, ...]:
    """Both address spaces have a page table; the first is in force."""
    return (
        *(Call("pv_mmu_ops.set_pmd", (Pmd(mm), Table(mm))) for mm in range(len(USER))),
        Call("pv_mmu_ops.write_cr3", (pa("mm0_pgd"),)),
    )
