"""How an era writes its paravirt sites: what ``PARA_SITE`` and the C wrappers of asm/paravirt.h expand to."""

from __future__ import annotations

from pvops.tuples import NamedTuple


class Shape(NamedTuple):
    """How an era writes its sites.

    Attributes:
        fixed_saves: the macros of entry.S push eax, ecx, edx whatever the clobbers (2007); later, what the clobbers
            argument does not let go of.
        wrapper_saves: the C wrappers of the four irq ops push ecx and edx inside the site (2007).
        aligned: rows are aligned to a pointer's size.
        assembler_clobbers: rows of assembler sites have the clobbers word.
        rip: C calls go through ``pv_ops(%rip)`` on x86-64; before 5.13 through the absolute address.
        assembler: there are macros for entry.S at all.
        ident32: ``_paravirt_ident_32`` and ``_paravirt_ident_64`` are functions on i386 too.
    """

    fixed_saves: bool = False
    wrapper_saves: bool = False
    aligned: bool = True
    assembler_clobbers: bool = True
    rip: bool = False
    assembler: bool = True
    ident32: bool = True


#: include/asm-x86/paravirt.h of 2007.
SHAPE_2007 = Shape(fixed_saves=True, wrapper_saves=True, aligned=False, ident32=False)
