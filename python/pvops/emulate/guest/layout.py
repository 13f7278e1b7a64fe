"""Where a guest has what every kernel has: descriptor tables, task state, page tables.

Descriptors hold addresses in pieces, which no relocation can fill in: so these lie at fixed addresses.
"""

from __future__ import annotations

from pvops.assembler import Image, Value, addr, align, data, label, space, u16, u32
from pvops.emulate.paging import PAGE_OFFSET
from pvops.emulate.segments import descriptor
from pvops.eras.structs import Config
from pvops.tuples import NamedTuple

#: Interrupt entry points, 16 bytes each, the descriptor tables, the page tables, the stack.
ENTRIES = 0xC018_0000
TABLES = 0xC020_0000
PAGES = 0xC021_0000
STACK = 0xC02F_0000

GDT_ENTRIES, IDT_ENTRIES, LDT_ENTRIES = 32, 32, 8
GDT_TSS, GDT_LDT, GDT_TLS = 16, 17, 6
TLS_ENTRIES = 3
#: Offsets in a guest's mm_struct and thread_struct: where an mm's page table is, where a thread's TLS descriptors are.
MM_PGD, TLS_ARRAY = 0, 8
#: The stack of a guest, in bytes.
STACK_SIZE = 0x4000
#: How many address spaces a guest has, and where the pages of each lie that it maps: 2 MiB, one table of either kind.
MMS = 2
USER = (0x0800_0000, 0x4000_0000)
#: What a present user page's entry has: present, writable, user, accessed, dirty.
PAGE_FLAGS = 0x67

_WRITE = 1


class Build(NamedTuple):
    """What a guest is built for.

    Attributes:
        era: ``seed`` or ``2.6.33``.
        config: which ops there are.
    """

    era: str
    config: Config

    @property
    def pae(self) -> bool:
        """Whether page table entries have 8 bytes."""
        return self.config.holds("X86_PAE")

    @property
    def entry(self) -> int:
        """Bytes of a page table entry."""
        return 8 if self.pae else 4


def pa(name: str) -> Value:
    """The physical address of a label."""
    return addr(name) + -PAGE_OFFSET


def gate(vector: int) -> tuple[int, int]:
    """The two words of the interrupt gate for an entry point."""
    address = ENTRIES + 16 * vector
    return 0x10 << 16 | address & 0xFFFF, address & 0xFFFF0000 | 0x8E00


def tables(image: Image, build: Build) -> None:
    """Descriptor tables, task state, page tables, stack."""
    gdt = bytearray(8 * GDT_ENTRIES)
    gdt[0x10:0x18] = descriptor(0, 0xFFFFF, 0x9B)
    gdt[0x18:0x20] = descriptor(0, 0xFFFFF, 0x93)
    gdt[8 * GDT_TSS : 8 * GDT_TSS + 8] = descriptor(TABLES + 0x800, 103, 0x89, 0)
    section = image.section(".data.tables", address=TABLES, flags=_WRITE)
    section(label("gdt_table"), data(bytes(gdt)), label("idt_table"), space(8 * IDT_ENTRIES))
    section(label("ldt_table"), space(8 * LDT_ENTRIES), align(0x800), label("init_tss"), space(104))
    section(label("gdt_descr"), u16(8 * GDT_ENTRIES - 1), u32(addr("gdt_table")))
    section(label("idt_descr"), u16(8 * IDT_ENTRIES - 1), u32(addr("idt_table")))
    section(label("stored_descr"), space(8))
    for n in range(MMS):
        _address_space(image, build, n)
    image.section(".data.stack", address=STACK, flags=_WRITE)(label("kernel_stack"), space(STACK_SIZE))


def _address_space(image: Image, build: Build, n: int) -> None:
    """One mm: its structure, and page tables that map nothing yet."""
    section = image.section(".data.pages", address=PAGES, flags=_WRITE)
    if build.pae:
        # The four top entries of PAE are loaded with CR3 and stand as long as the tables below do.
        section(align(0x1000), label(f"mm{n}_pgd"))
        section(*(u32(pa(f"mm{n}_pmd") + 1 if i == USER[n] >> 30 else 0, 0) for i in range(4)))
        section(align(0x1000), label(f"mm{n}_pmd"), space(0x1000))
    else:
        section(align(0x1000), label(f"mm{n}_pgd"), space(0x1000))
    section(align(0x1000), label(f"mm{n}_pt"), space(0x1000))


def pmd_of(build: Build, n: int) -> Value:
    """The address of the entry that refers to the page table of an mm: in its pmd, or (two levels) its pgd."""
    if build.pae:
        return addr(f"mm{n}_pmd") + 8 * (USER[n] >> 21 & 0x1FF)
    return addr(f"mm{n}_pgd") + 4 * (USER[n] >> 22)
