"""All the paravirt macros of one era, and what else an image of it has: structures, ``pv_info``, a banner, natives.

::

    pv = Paravirt("seed")
    image = Image(pv.bits)
    image.text(function("cpu_idle", pv.DISABLE_INTERRUPTS(pv.CLBR_ANY), pv.PVOP_VCALL("pv_irq_ops.safe_halt"), ret()))
    pv.kernel(image)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pvops.assembler.image import Image
from pvops.assembler.operands import eax, edi, rax, rdi
from pvops.assembler.statements import (
    Body,
    Data,
    Label,
    Statement,
    Within,
    align,
    asciz,
    function,
    label,
    u8,
    u16,
    u32,
    u64,
)
from pvops.assembler.values import Local, addr
from pvops.assembler.x86 import movl, movq, ret, ud2
from pvops.emulate.macros.calls import CallMacros
from pvops.emulate.macros.entry import EntryMacros
from pvops.emulate.macros.natives import native
from pvops.eras.records import InfoStruct
from pvops.eras.structs import OpsStruct


class Paravirt(CallMacros, EntryMacros):
    """The macros of an era; see `CallMacros`, `EntryMacros` and `ParavirtSite.__init__`."""

    def structures(self, *structs: OpsStruct) -> tuple[Body, ...]:
        """The ops structures as data, each a symbol of its own (since 4.20 ``pv_ops`` is all of them).

        Args:
            structs: filled; those not given are the native ones of the era.
        """
        filled = {type(s).__name__: s for s in (*self.era.native(self.config), *structs)}
        body: list[Body] = [align(32)]
        if self.template.symbol:
            body.append(label(self.template.symbol))
        for struct in self.template.structs:
            if not self.template.symbol:
                body.append(label(struct.__name__))
            fields = (op.field for op in self.template if op.struct == struct.__name__)
            body += [self.pointer_to(filled[struct.__name__][field]) for field in fields]
        return tuple(body)

    def pv_info(self, info: InfoStruct | None = None) -> tuple[Body, ...]:
        """``struct pv_info`` as data, its name a string in ``.rodata``; the era's "bare hardware" unless given."""
        info = self.era.info if info is None else info
        directives = {1: u8, 2: u16, 4: u32, 8: u64}
        body: list[Body] = [align(self.word), label("pv_info")]
        for name, member in info.members.items():
            if not self.config.holds(member.config):
                continue
            size = member.size or self.word
            value = info[name]
            body.append(align(size))
            if isinstance(value, str):
                text = Local("name")
                body.append(Within(".rodata", Label(text), asciz(value)))
                body.append(directives[size](addr(text)))
            else:
                body.append(directives[size](value))
        return tuple(body)

    def banner(self, release: str | None = None) -> tuple[Body, ...]:
        """``linux_banner``, by which an image says what it is."""
        text = release or f"{self.era.release}-pvops-guest"
        return (
            label("linux_banner"),
            asciz(f"Linux version {text} (pvops@guest) (assembled by pvops) #1 SMP\n"),
        )

    def native_functions(self, *, defined: Iterable[str] = ()) -> tuple[Body, ...]:
        """The functions that the native structures point to, and ``_paravirt_nop``.

        Where an op is more than a few instructions on bare hardware, its function here is ``ud2``: a guest that calls
        it stops there. Define it in the guest instead.

        Args:
            defined: functions the guest defines itself.
        """
        bodies: dict[str, tuple[Statement, ...]] = {"_paravirt_nop": (ret(),)}
        if self.bits == 64:
            bodies["_paravirt_ident_64"] = (movq(rdi, rax), ret())
            bodies["_paravirt_ident_32"] = (movl(edi, eax), ret())
        elif self.shape.ident32:
            bodies |= {"_paravirt_ident_32": (ret(),), "_paravirt_ident_64": (ret(),)}
        jumps = {op.name for op in self.template if op.op.jump}
        for name, held in self.natives():
            if held is not None and held not in bodies:
                instructions = native(name, self.config)
                end = () if name in jumps else (ret(),)
                bodies[held] = (ud2(),) if instructions is None else (*instructions, *end)
        known = set(defined)
        return tuple(function(name, *body) for name, body in bodies.items() if name not in known)

    def natives(self) -> Iterator[tuple[str, str | None]]:
        """Each op and its function on bare hardware, those of classes that are configured out too."""
        symbols = (o.symbol for o in self.era.configs if o.symbol.startswith("PARAVIRT"))
        template = self.era.template(self.config.with_(*symbols))
        native = {type(s).__name__: s for s in self.era.native(self.config)}
        return ((op.name, native[op.struct][op.field]) for op in template)

    def pointer_to(self, function: str | None) -> Data:
        """A pointer as data: to a function, or NULL."""
        value = 0 if function is None else addr(function)
        return (u64 if self.word == 8 else u32)(value)

    def kernel(self, image: Image, *, release: str | None = None, defined: Iterable[str] = ()) -> None:
        """Adds to an image what makes it a kernel: banner, ``pv_info``, structures, native functions.

        Args:
            image: of the same bits.
            release: see `banner`.
            defined: see `native_functions`.
        """
        image.rodata(self.banner(release))
        image.data(self.pv_info(), self.structures())
        image.text(self.native_functions(defined=defined))
