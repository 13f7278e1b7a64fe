"""``PARA_SITE``: a place the kernel patches, and its row in ``.parainstructions``; the rest of the macros use it."""

from __future__ import annotations

from pvops import eras as ops
from pvops.assembler.operands import Memory, cs, eax, ecx, edx, mem, rcx, rdi, rdx, rip, rsi
from pvops.assembler.statements import Body, Label, Reach, Within, align, u8, u16, u32, u64
from pvops.assembler.values import Local, Value, addr
from pvops.assembler.x86 import call
from pvops.emulate.macros.natives import native
from pvops.eras.definition import Era
from pvops.eras.structs import Config
from pvops.eras.template import TemplateOp
from pvops.errors import AssemblyError

#: Where C functions take their arguments: ``regparm(3)``, and the ABI of x86-64.
ARGUMENTS = {32: (eax, edx, ecx), 64: (rdi, rsi, rdx, rcx)}


class ParavirtSite:
    """An era's ops, and sites that call them.

    Attributes:
        era: the kernel generation.
        config: which ops exist.
        template: their numbers.
        clobbers: ``CLBR_*`` by name.
        length: the least length of a site in bytes; shorter ones are filled with nops.
    """

    def __init__(
        self, era: Era | str, config: Config | None = None, *, bits: int | None = None, length: int = 0
    ) -> None:
        """The macros of an era.

        Args:
            era: ``"seed"``, ``"2.6.24"``, ``"2.6.33"``, ….
            config: the configuration; the era's default unless given. Without one of its classes (``PARAVIRT_IRQ``)
                the macros of that class are the plain native instructions.
            bits: 32 or 64, for the default configuration.
            length: "padding can be made larger" (Fitzhardinge 2010): the least length of a site, for longer inlining.

        Raises:
            AssemblyError: the era has no sites of this kind.
            OpsError: no such era, or not of these bits.
        """
        self.era = ops.era(era) if isinstance(era, str) else era
        if self.era.sites is None:
            raise AssemblyError(f"era {self.era.name} has no PARA_SITE: calls of ops are alternatives since 6.8")
        self.shape = self.era.sites
        self.config = self.era.default_config(bits) if config is None else config
        self.bits = self.config.bits
        self.word = self.bits // 8
        self.template = self.era.template(self.config)
        self.offsets = self.era.asm_offsets(self.config)
        self.clobbers = self.era.clobbers(self.bits)
        self.CLBR_NONE = 0
        self.CLBR_ANY = self.clobbers["CLBR_ANY"]
        if not 0 <= length <= 254:
            raise AssemblyError(f"sites of {length} bytes: at most 254 (MAX_PATCH_LEN)")
        self.length = length

    # Names and numbers

    def op(self, name: str) -> TemplateOp | None:
        """The slot of an op, or None where its class is configured out; `OpsError` where there is no such op.

        A class is what a ``PARAVIRT_…`` symbol configures: one structure, or most of it (``PARAVIRT_XXL``).
        """
        if name in self.template:
            found = self.template.op(name)
            called = next(s.called for s in self.template.structs if s.__name__ == found.struct)
            return found if self.config.holds(called) else None
        symbols = (o.symbol for o in self.era.configs if o.symbol.startswith("PARAVIRT"))
        if name in self.era.template(self.config.with_(*symbols)):
            return None
        return self.template.op(name)

    def pointer(self, op: TemplateOp) -> Value:
        """Where the op's slot lies: ``pv_irq_ops+PV_IRQ_irq_enable``, since 4.20 ``pv_ops+…``."""
        if self.template.symbol:
            return addr(self.template.symbol) + op.offset
        return addr(op.struct) + (op.offset - self.template.struct_offsets[op.struct])

    def PARA_PATCH(self, struct: str, off: int) -> int:  # noqa: N802 (the kernel's macro)
        """``((PARAVIRT_PATCH_##struct + (off)) / 4)``: an op's number, from where it lies in its structure.

        Russell 2007, include/asm-i386/paravirt.h: ``PARA_PATCH(pv_cpu_ops, PV_CPU_iret)``. Divided by 8 on x86-64.

        Args:
            struct: ``pv_irq_ops``.
            off: in bytes; the constants of asm-offsets are in ``offsets``.
        """
        try:
            return (self.template.struct_offsets[struct] + off) // self.word
        except KeyError:
            raise AssemblyError(f"no structure {struct} in {self.template.name}") from None

    def PARA_INDIRECT(self, pointer: Value) -> Memory:  # noqa: N802 (the kernel's macro)
        """``*%cs:addr`` on i386, ``*addr(%rip)`` on x86-64: entry code may run with the user's other segments.

        Russell 2007 has the former written out; 2.6.33 arch/x86/include/asm/paravirt.h gives it the name.
        """
        return mem(pointer, rip) if self.bits == 64 else mem(pointer, segment=cs)

    # Sites

    def PARA_SITE(self, ptype: int, clobbers: int, *instructions: Body) -> tuple[Body, ...]:  # noqa: N802
        """``771: ops; 772:`` and the row ``.long 771b; .byte ptype, 772b-771b; .short clobbers``.

        Russell 2007, include/asm-i386/paravirt.h; 2.6.33 arch/x86/include/asm/paravirt.h ``_PVSITE``.

        Args:
            ptype: the op's number, from `PARA_PATCH`.
            clobbers: the registers the site lets go of.
            instructions: what the site is before it is patched.
        """
        return self._site(ptype, clobbers if self.shape.assembler_clobbers else None, instructions)

    def paravirt_alt(self, ptype: int, clobbers: int, *instructions: Body) -> tuple[Body, ...]:
        """The same from C, inside ``asm()``. Its rows have the clobbers word in every era.

        2.6.24 include/asm-x86/paravirt.h ``_paravirt_alt``.
        """
        return self._site(ptype, clobbers, instructions)

    def _site(self, ptype: int, clobbers: int | None, instructions: tuple[Body, ...]) -> tuple[Body, ...]:
        start, end = Local("771"), Local("772")
        row: list[Body] = [align(self.word)] if self.shape.aligned else []
        row.append((u64 if self.word == 8 else u32)(addr(start)))
        row.append(u8(ptype, addr(end) - addr(start)))
        if clobbers is not None:
            row.append(u16(clobbers))
        padding = (Reach(start, self.length),) if self.length else ()
        return (Label(start), *instructions, *padding, Label(end), Within(".parainstructions", *row))

    # Without a site

    def direct(self, name: str) -> tuple[Body, ...]:
        """What calls an op whose class is configured out: its native instructions, or a direct call of its function.

        Raises:
            AssemblyError: on bare hardware the op is NULL.
        """
        instructions = native(name, self.config)
        if instructions is not None:
            return instructions
        struct, _, field = name.partition(".")
        held = next(s for s in self.era.native(self.config) if type(s).__name__ == struct)[field]
        if held is None:
            raise AssemblyError(f"{name} is configured out, and on bare hardware it is NULL")
        return () if held == "_paravirt_nop" else (call(held),)
