"""What stands around the ops in the kernel's headers: ``pv_info``, table records, clobber bits, asm-offsets, options.

Each is data with one rule of C's attached (natural alignment, ``offsetof``), so that an era's file can state it in the
words of the header and nobody computes an offset by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pvops.eras.structs import Config, Unchanging
from pvops.errors import OpsError
from pvops.tuples import NamedTuple

#: Size of a member that is a pointer.
POINTER = 0


class Member(NamedTuple):
    """One member of ``struct pv_info``, which holds no ops.

    Args:
        ctype: its C type.
        size: in bytes, `POINTER` for a pointer.
        config: condition under which it exists.
        doc: what it says, in a few words.
    """

    ctype: str
    size: int = 4
    config: str = ""
    doc: str = ""


class InfoStruct(Unchanging):
    """A filled ``struct pv_info``: declared as a class of `Member`, filled as an instance, like an ops structure."""

    #: How modules may see it: ``EXPORT_SYMBOL_GPL`` since the seed, so that lg.ko can refuse to run inside a guest.
    export: str = ""
    members: Mapping[str, Member]
    values: Mapping[str, str | int]

    def __init_subclass__(cls) -> None:
        members = {name: value for name, value in vars(cls).items() if isinstance(value, Member)}
        cls.members = MappingProxyType(members)

    def __init__(self, **values: str | int) -> None:
        unknown = [name for name in values if name not in self.members]
        if unknown:
            raise OpsError(f"struct {type(self).__name__} has no member {unknown[0]}")
        missing = [name for name in self.members if name not in values]
        if missing:
            raise OpsError(f"struct {type(self).__name__} is filled without {missing[0]}")
        object.__setattr__(self, "values", MappingProxyType(values))

    def __getitem__(self, member: str) -> str | int:
        try:
            return self.values[member]
        except KeyError:
            raise OpsError(f"struct {type(self).__name__} has no member {member}") from None

    def replace(self, **values: str | int) -> InfoStruct:
        """A copy with some members changed."""
        return type(self)(**{**self.values, **values})

    @classmethod
    def offsets(cls, config: Config) -> dict[str, int]:
        """Offset in bytes of each member that exists."""
        fields = tuple((name, m.size) for name, m in cls.members.items() if config.holds(m.config))
        return Record(cls.__name__, fields).offsets(config.bits // 8)


class Record(NamedTuple):
    """A row of one of the kernel's tables as C lays it out.

    Args:
        name: of the struct, ``paravirt_patch_site``.
        fields: name and size in bytes of each member, in order; `POINTER` for a pointer.
        packed: no padding (``__packed``); otherwise natural alignment.
    """

    name: str
    fields: tuple[tuple[str, int], ...]
    packed: bool = False

    def offsets(self, word: int) -> dict[str, int]:
        """Offset in bytes of each member, for pointers of ``word`` bytes."""
        return self._place(word)[0]

    def size(self, word: int) -> int:
        """``sizeof`` in bytes, tail padding included."""
        return self._place(word)[1]

    def layout(self, word: int) -> dict[str, int]:
        """``sizeof_NAME`` and ``NAME_MEMBER`` for each member, in bytes."""
        offsets, size = self._place(word)
        return {f"sizeof_{self.name}": size} | {f"{self.name}_{field}": at for field, at in offsets.items()}

    def _place(self, word: int) -> tuple[dict[str, int], int]:
        at, widest = 0, 1
        offsets: dict[str, int] = {}
        for field, size in self.fields:
            size = size or word
            align = 1 if self.packed else size
            at = -(-at // align) * align
            offsets[field] = at
            at += size
            widest = max(widest, align)
        return offsets, -(-at // widest) * widest


#: struct paravirt_patch_site of the seed, 2.6.24 and 2.6.33.
PATCH_SITE = Record("paravirt_patch_site", (("instr", POINTER), ("instrtype", 1), ("len", 1), ("clobbers", 2)))
#: struct paravirt_patch_site of 5.10 and 6.1: the clobbers word is still written, but no longer a member.
PATCH_SITE_5_10 = Record("paravirt_patch_site", (("instr", POINTER), ("type", 1), ("len", 1)))

#: struct alt_instr with absolute addresses (2.6.24, 2.6.33; include/asm-x86/alternative_32.h and _64.h).
ALT_INSTR_POINTERS = Record(
    "alt_instr",
    (("instr", POINTER), ("replacement", POINTER), ("cpuid", 1), ("instrlen", 1), ("replacementlen", 1)),
)
#: struct alt_instr with self-relative offsets (3.3 to 4.0; 5.13 to 6.2 and late 5.10, where bit 15 of cpuid inverts).
ALT_INSTR_12 = Record(
    "alt_instr",
    (("instr_offset", 4), ("repl_offset", 4), ("cpuid", 2), ("instrlen", 1), ("replacementlen", 1)),
    packed=True,
)
#: struct alt_instr with the length of the padding (4.1 to 5.12).
ALT_INSTR_13 = Record(
    "alt_instr",
    (
        ("instr_offset", 4),
        ("repl_offset", 4),
        ("cpuid", 2),
        ("instrlen", 1),
        ("replacementlen", 1),
        ("padlen", 1),
    ),
    packed=True,
)
#: struct alt_instr with a flags word (since 6.3: 1 inverts, 2 is a call through a pointer).
ALT_INSTR_14 = Record(
    "alt_instr",
    (("instr_offset", 4), ("repl_offset", 4), ("cpuid", 2), ("flags", 2), ("instrlen", 1), ("replacementlen", 1)),
    packed=True,
)


def clobbers_2007(bits: int) -> dict[str, int]:
    """``CLBR_*`` of the seed and 2.6.24, which know three registers (i386 only)."""
    return {"CLBR_NONE": 0, "CLBR_EAX": 1, "CLBR_ECX": 2, "CLBR_EDX": 4, "CLBR_ANY": 7}


def clobbers_2010(bits: int) -> dict[str, int]:
    """``CLBR_*`` from 2.6.33 to 5.10: one bit a register, and sets of them (asm/paravirt_types.h)."""
    if bits == 32:
        registers = {"CLBR_EAX": 1, "CLBR_ECX": 2, "CLBR_EDX": 4, "CLBR_EDI": 8}
        arguments, returned, scratch = 1 | 4 | 2, 1 | 4, 0
    else:
        names = ("RAX", "RCX", "RDX", "RDI", "RSI", "R8", "R9", "R10", "R11")
        registers = {f"CLBR_{name}": 1 << bit for bit, name in enumerate(names)}
        arguments, returned, scratch = 0x08 | 0x10 | 0x04 | 0x02 | 0x20 | 0x40, 1, 0x80 | 0x100
    return {
        "CLBR_NONE": 0,
        **registers,
        "CLBR_ANY": sum(registers.values()),
        "CLBR_ARG_REGS": arguments,
        "CLBR_RET_REG": returned,
        "CLBR_SCRATCH": scratch,
        "CLBR_CALLEE_SAVE": (arguments | scratch) & ~returned,
    }


def clobbers_6_1(bits: int) -> dict[str, int]:
    """``CLBR_*`` of 6.1, which nothing reads any more: some sets are gone."""
    gone = ("CLBR_NONE", "CLBR_SCRATCH", "CLBR_CALLEE_SAVE")
    return {name: value for name, value in clobbers_2010(bits).items() if name not in gone}


def no_clobbers(bits: int) -> dict[str, int]:
    """6.12 and later have no ``CLBR_*``: sites are records of .altinstructions."""
    return {}


class OFFSET(NamedTuple):
    """One ``OFFSET(symbol, structure, member)`` of arch/x86/kernel/asm-offsets: a constant the assembler sees."""

    symbol: str
    struct: str
    member: str
    config: str = ""


class Option(NamedTuple):
    """A configuration symbol that matters to an era's ops.

    Attributes:
        symbol: without ``CONFIG_``.
        meaning: what it changes, one line.
        default: whether it is set by default, on 32 and on 64 bits.
        depends: condition without which it cannot be set.
        released: False for a switch no released kernel of the era has (one class of ops configured out: the 2010 post).
        patch: no symbol of Kconfig's, but a change that distributions or stable releases put into this era's ops.
        function: a function of that patch: an image that names functions has it exactly where it has the patch.
    """

    symbol: str
    meaning: str
    default: tuple[bool, bool] = (True, True)
    depends: str = ""
    released: bool = True
    patch: bool = False
    function: str = ""


def class_options(*classes: str) -> tuple[Option, ...]:
    """``PARAVIRT_IRQ`` and its like: each set of ops configured in or out by itself.

    "…especially now that each set of ops can be individually configured on/off" (Fitzhardinge 2010). Releases of that
    time had PARAVIRT_SPINLOCKS alone, later ones PARAVIRT_XXL, which is most of the rest in one. A class configured out
    has no slots, and what stands behind it moves up; its functions are called directly, so that it has no sites.
    """
    return tuple(Option(f"PARAVIRT_{name.upper()}", f"the ops of pv_{name}_ops", released=False) for name in classes)
