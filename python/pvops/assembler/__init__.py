"""The assembler: kernel images written in Python, that read like the seed's assembly.

::

    from pvops.assembler import Image, addr, function, label, mem, u32
    from pvops.assembler.x86 import cli, eax, jmp, movl

    image = Image(32)
    image.text(
        label("startup_32"),
        cli(),
        movl(0x200, mem("irq_enabled")),
        jmp("startup_32"),
    )
    image.data(label("irq_enabled"), u32(0))
    elf = image.elf("startup_32")

Instructions are in `pvops.assembler.x86`, the paravirt macros in `pvops.emulate.macros.paravirt`.
"""

from __future__ import annotations

from pvops.assembler.image import Built, Image, Section
from pvops.assembler.operands import mem
from pvops.assembler.statements import Within, align, asciz, data, function, label, space, u8, u16, u32, u64
from pvops.assembler.values import Local, Value, addr

__all__ = [
    "Built",
    "Image",
    "Local",
    "Section",
    "Value",
    "Within",
    "addr",
    "align",
    "asciz",
    "data",
    "function",
    "label",
    "mem",
    "space",
    "u8",
    "u16",
    "u32",
    "u64",
]
