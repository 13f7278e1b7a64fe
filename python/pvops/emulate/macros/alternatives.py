"""``ALTERNATIVE`` and ``LOCK_PREFIX``: the other ways in which a kernel rewrites itself, beside the paravirt sites.

Rows have the layout of the era: two pointers and three bytes to 2.6.33, two self-relative offsets since.
"""

from __future__ import annotations

from pvops import eras as ops
from pvops.assembler.layout import lay_out
from pvops.assembler.statements import Body, Label, Reach, Statement, Within, align, flat, u8, u16, u32, u64
from pvops.assembler.values import Local, Value, addr
from pvops.assembler.x86 import Instruction, lock
from pvops.eras.definition import Era
from pvops.eras.records import POINTER, Record
from pvops.errors import AssemblyError

_DIRECTIVES = {1: u8, 2: u16, 4: u32, 8: u64}


class Alternatives:
    """The alternatives of an era.

    Args:
        era: ``"seed"``, ``"2.6.33"``, ``"5.10"``, ….
        bits: 32 or 64.
    """

    def __init__(self, era: Era | str, bits: int) -> None:
        self.era = ops.era(era) if isinstance(era, str) else era
        self.bits = bits
        self.word = bits // 8
        self.record = next((r for r in self.era.records if r.name == "alt_instr"), None)

    def ALTERNATIVE(self, old: Body, new: Body, feature: int, *, inverted: bool = False) -> tuple[Body, ...]:  # noqa: N802
        """``661: old; 662:``, the replacement in ``.altinstr_replacement``, and their row.

        2.6.24 include/asm-x86/alternative_32.h (``alternative()``), 2.6.33 arch/x86/include/asm/alternative.h; since
        4.1 (5.10: ``OLDINSTR``) the old instructions are filled with nops up to the length of the new.

        Args:
            old: what stands there.
            new: what comes there on a CPU with the feature.
            feature: its number, 32 * word + bit.
            inverted: on a CPU without it (``ALT_NOT``, since 5.10).

        Raises:
            AssemblyError: the new is longer than the old, where the era does not fill; a feature or an inversion that
                the era's rows cannot say.
        """
        record = self._record()
        absolute = ("instr", POINTER) in record.fields
        start, end, new_start, new_end = (Local(name) for name in ("661", "662", "663", "664"))
        length = self._length(new)
        if absolute and length > self._length(old):
            # A BUG() of apply_alternatives(), and from 2.6.30 on an error of the assembler.
            raise AssemblyError(f"the replacement of an alternative is longer than what it replaces: {length} bytes")
        fill = () if absolute else (Reach(start, length),)
        row = self._row(record, start, new_start, feature, inverted, addr(end) - addr(start), length)
        return (
            Label(start),
            old,
            *fill,
            Label(end),
            Within(".altinstructions", *row),
            Within(".altinstr_replacement", Label(new_start), new, Label(new_end)),
        )

    def LOCK_PREFIX(self, instruction: Instruction) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``lock`` before an instruction, and its address in ``.smp_locks``: a kernel on one CPU takes it away.

        2.6.24 include/asm-x86/alternative_32.h: a pointer; 5.10 arch/x86/include/asm/alternative.h: a distance.
        """
        prefix = Local("671")
        if ("instr", POINTER) in self._record().fields:
            pointer = (u64 if self.word == 8 else u32)(addr(prefix))
            return (Within(".smp_locks", align(self.word), pointer), Label(prefix), lock(instruction))
        here = Local("lock")
        row = (align(4), Label(here), u32(addr(prefix) - addr(here)))
        return (Within(".smp_locks", *row), Label(prefix), lock(instruction))

    def _record(self) -> Record:
        if self.record is None:
            raise AssemblyError(f"era {self.era.name} declares no alternatives")
        return self.record

    def _row(
        self,
        record: Record,
        old: Local,
        new: Local,
        feature: int,
        inverted: bool,
        old_length: Value,
        new_length: int,
    ) -> list[Body]:
        """A row, field by field as the era declares it."""
        out: list[Body] = [] if record.packed else [align(self.word)]
        flags = any(name == "flags" for name, _ in record.fields)
        if inverted and not record.packed:
            raise AssemblyError(f"{self.era.name} cannot ask for the absence of a feature")
        values: dict[str, Value | int] = {
            "instr": addr(old),
            "replacement": addr(new),
            # Bit 15 inverts where there are no flags, bit 0 of the flags where there are.
            "cpuid": feature | (1 << 15 if inverted and not flags else 0),
            "flags": int(inverted),
            "instrlen": old_length,
            "replacementlen": new_length,
        }
        for name, size in record.fields:
            if name.endswith("_offset"):
                here = Local(name)
                out += [Label(here), u32(addr(old if name == "instr_offset" else new) - addr(here))]
            else:
                out.append(_DIRECTIVES[size or self.word](values[name]))
        return out

    def _length(self, body: Body) -> int:
        """The length of instructions that refer to nothing near them."""
        statements: list[Statement] = list(flat([body]))
        return lay_out(statements, self.bits, True, ".altinstr_replacement").size
