"""Where the guest of x86-64 has descriptor tables, task state and page tables, at fixed addresses; and user space."""

from __future__ import annotations

from pvops.assembler import Image, Value, addr, align, data, label, space, u16, u32, u64
from pvops.emulate.cpu64 import KERNEL_CS, KERNEL_DS, USER32_CS, USER_CS, USER_DS
from pvops.emulate.paging import START_KERNEL
from pvops.emulate.segments import descriptor

ENTRIES = 0xFFFFFFFF81180000
TABLES = 0xFFFFFFFF81200000
PAGES = 0xFFFFFFFF81210000
STACK = 0xFFFFFFFF812F0000
#: The text of user space: it is there without the kernel having mapped it.
USER_TEXT = 0x400000

GDT_ENTRIES, IDT_ENTRIES, LDT_ENTRIES = 32, 32, 8
GDT_TSS, GDT_LDT, GDT_TLS = 8, 10, 12
TLS_ENTRIES = 3
#: Offsets in a thread: the top of its stack, its TLS descriptors.
SP0, TLS_ARRAY = 0, 8
STACK_SIZE = 0x4000
MMS = 2
#: Where the pages of each address space lie, below 4 GiB, so that 32-bit code reaches them too.
USER = (0x0800_0000, 0x4000_0000)
PAGE_FLAGS = 0x67
#: A table of pages: present, writable, for user space.
TABLE = 7
#: The top of user space's stack, in the first page of the first address space, which is mapped before.
USER_STACK = USER[0] + 0xF00
#: What user space has for a base of gs: nothing lies there, so that a kernel without ``swapgs`` stops.
USER_GS = 0x7000_0000

_WRITE = 1
_LEVELS = (("pgd", 39), ("pud", 30), ("pmd", 21))


def pa(name: str) -> Value:
    """The physical address of a label."""
    return addr(name) + -START_KERNEL


def entry_of(level: str, mm: int) -> Value:
    """The address of an mm's entry of ``pgd``, ``pud`` or ``pmd`` on the way to its pages."""
    return addr(f"mm{mm}_{level}") + 8 * (USER[mm] >> dict(_LEVELS)[level] & 511)


def below(level: str, mm: int) -> Value:
    """What that entry holds: the table of the next level."""
    following = {"pgd": "pud", "pud": "pmd", "pmd": "pt"}[level]
    return pa(f"mm{mm}_{following}") + TABLE


def pte_of(mm: int, page: int) -> Value:
    """The address of the entry for a page in an mm's last table."""
    return addr(f"mm{mm}_pt") + 8 * page


def gate(vector: int) -> bytes:
    """An interrupt gate, 16 bytes."""
    address = ENTRIES + 16 * vector
    low = address & 0xFFFF | KERNEL_CS << 16 | 0x8E00 << 32 | (address >> 16 & 0xFFFF) << 48
    return low.to_bytes(8, "little") + (address >> 32).to_bytes(8, "little")


def tables(image: Image) -> None:
    """Descriptor tables, task state, page tables that map nothing yet, stack."""
    gdt = bytearray(8 * GDT_ENTRIES)
    for at, access, flags in (
        *((0x08, 0x9B, 0xC), (KERNEL_CS, 0x9B, 0xA), (KERNEL_DS, 0x93, 0xC)),
        *((USER32_CS & ~3, 0xFB, 0xC), (USER_DS & ~3, 0xF3, 0xC), (USER_CS & ~3, 0xFB, 0xA)),
    ):
        gdt[at : at + 8] = descriptor(0, 0xFFFFF, access, flags)
    tss = TABLES + 0x800
    gdt[8 * GDT_TSS : 8 * GDT_TSS + 16] = descriptor(tss & 0xFFFFFFFF, 103, 0x89, 0) + (tss >> 32).to_bytes(8, "little")
    section = image.section(".data.tables", address=TABLES, flags=_WRITE)
    section(label("gdt_table"), data(bytes(gdt)), label("idt_table"), space(16 * IDT_ENTRIES))
    section(label("ldt_table"), space(8 * LDT_ENTRIES), align(0x800), label("init_tss"), space(104))
    for name, table, size in (
        ("gdt_descr", "gdt_table", 8 * GDT_ENTRIES),
        ("idt_descr", "idt_table", 16 * IDT_ENTRIES),
    ):
        section(align(16), label(name), u16(size - 1), u64(addr(table)))
    section(align(16), label("stored_descr"), space(16))
    for vector in (6, 14):
        section(label(f"gate_{vector}"), data(gate(vector)))
    section(label("a_descriptor"), u32(0x0000FFFF, 0x00CFF200))
    pages = image.section(".data.pages", address=PAGES, flags=_WRITE)
    for mm in range(MMS):
        for level in ("pgd", "pud", "pmd", "pt"):
            pages(align(0x1000), label(f"mm{mm}_{level}"), space(0x1000))
    image.section(".data.stack", address=STACK, flags=_WRITE)(label("kernel_stack"), space(STACK_SIZE))
