"""The tables of the passes that have nothing to do with ops, as each era's kernels lay them down.

``.altinstructions`` with rows of every kind that the era has, ``.smp_locks``, ``__mcount_loc``, ``__jump_table``, and
the names of features. What differs with the era is what the readers of sections tell eras by: how rows name addresses,
and what else they say (see the modules of `src/sites`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from pvops import eras
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.eras import releases, version_of
from pvops.image.names import CAPTIONED
from pvops.image.numbers import HARDWARE, printed_as
from pvops.sample.code import Code
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.definition import Era

#: Numbers that no release moved: X86_FEATURE_XMM2, _3DNOW, _REP_GOOD, _ALWAYS.
XMM2, NOW3D, REP_GOOD, ALWAYS = 26, 1 * 32 + 31, 3 * 32 + 16, 3 * 32 + 21

#: Functions of a sample with these tables: those with alternatives, with jump labels, with locks, and those traced.
BARRIER, COPY, PREFETCH, JUMP, ASKED, UNLESS = (
    "sample_barrier",
    "sample_copy",
    "sample_prefetch",
    "sample_jump",
    "sample_asked",
    "sample_unless",
)
LABELLED, LOCKED, TRACED = "sample_labelled", "sample_locked", "sample_traced"
_LOCKED, _TRACED = 8, 20

#: A jump label's key: room for the largest struct static_key.
_KEY = 16


class Row(NamedTuple):
    """A row of ``.altinstructions``, before it has a layout.

    Attributes:
        site: address of the code.
        len: its length.
        feature: by number.
        code: the replacement, to be put where replacements are; None for one of no bytes and no address.
        pad: bytes of the site that the assembler added.
        inverted: taken where the feature is not there.
        calls: the function that ``code``, a call or jump of five bytes, goes to; else 0.
    """

    site: int
    len: int
    feature: int
    code: bytes | None
    pad: int = 0
    inverted: bool = False
    calls: int = 0


class Tables:
    """Fills a sample's code with the sites of these tables, and makes the tables.

    Args:
        era: whose.
        bits: 32 or 64.
        text: ``.text``.
        symbols: of the sample, which this adds to.
        keys: where jump labels may have their keys: 16 bytes each of `key_bytes`.
    """

    def __init__(self, era: Era, bits: int, text: Code, symbols: dict[str, int], keys: int) -> None:
        self.era = era
        self.bits = bits
        self.word = bits // 8
        self.text = text
        self.symbols = symbols
        self.keys = keys
        self.rows: list[Row] = []
        self.locks: list[int] = []
        self.calls: list[int] = []
        self.labels: list[tuple[int, int, int]] = []
        self.record = dict(next(record for record in era.records if record.name == "alt_instr").fields)
        for add in (self._ordinary, self._alternatives, self._locked, self._traced, self._labelled):
            add()

    # Code

    def _function(self, name: str) -> int:
        self.symbols[name] = self.text.align()
        return self.text.here

    def _ordinary(self) -> None:
        """Code that nothing changes, all of it different: what an image is known by in memory."""
        for i in range(24):
            self._function(f"sample_work_{i}")
            for j in range(12):  # mov $…,%eax
                self.text.put(b"\xb8" + struct.pack("<I", 0x5EED_0000 + 0x101 * i + 0x1F * j))
            self.text.put(b"\xc3")

    def _alternatives(self) -> None:
        text, call = self.text, b"\xe8\0\0\0\0"
        for name in ("sample_copy_plain", "sample_copy_fast"):
            self._function(name)
            text.put(b"\xb0\x01\xc3")
        self._function(BARRIER)
        lock = b"\xf0\x83\x44\x24\xfc\x00" if self.bits == 64 else b"\xf0\x83\x04\x24\x00"  # lock addl $0,(%rsp)
        self.locks.append(text.here)
        self.rows.append(Row(text.put(lock), len(lock), XMM2, b"\x0f\xae\xe8"))
        text.put(b"\xc3")
        if _since("2.6.34", self.era):
            site = self._function(COPY)
            text.put(b"\xe8" + struct.pack("<i", self.symbols["sample_copy_plain"] - (site + 5)) + b"\xc3")
            self.rows.append(Row(site, 5, REP_GOOD, call, calls=self.symbols["sample_copy_fast"]))
        site = self._function(PREFETCH)
        text.put(b"\x90\x90\x90\xc3")
        self.rows.append(Row(site, 3, NOW3D, b"\x0f\x0d\x08", pad=3))
        if _since("4.1", self.era):
            site = self._function(JUMP)
            text.put(b"\x90" * 5 + b"\xb0\x02\xc3\xb0\x03\xc3")
            self.rows.append(Row(site, 5, ALWAYS, b"\xe9\0\0\0\0", pad=5, calls=site + 8))
        if "padlen" in self.record:
            # static_cpu_has(): a jump that is always taken, then the feature without a replacement.
            site = self._function(ASKED)
            text.put(b"\xeb\x03\x90\x90\x90\xb0\x04\xc3\xb0\x05\xc3")
            self.rows.append(Row(site, 5, ALWAYS, b"\xe9\0\0\0\0", pad=3, calls=site + 8))
            self.rows.append(Row(site, 5, REP_GOOD, None))
        elif _since("5.10", self.era):
            site = self._function(UNLESS)
            text.put(b"\x90\x90\x90\xc3")
            self.rows.append(Row(site, 3, NOW3D, b"\x0f\x01\xca", pad=3, inverted=True))

    def _locked(self) -> None:
        self._function(LOCKED)
        self.locks += [self.text.put(b"\xf0\xff\x00") for _ in range(_LOCKED)]  # lock incl (%rax)
        self.text.put(b"\xc3")

    def _traced(self) -> None:
        if not _since("2.6.30", self.era):
            return
        entry = self._function("__fentry__" if _since("3.10", self.era) else "mcount")
        self.text.put(b"\xc3")
        for i in range(_TRACED):
            site = self._function(f"{TRACED}_{i}")
            self.text.put(b"\xe8" + struct.pack("<i", entry - (site + 5)) + b"\xb0\x06\xc3")
            self.calls.append(site)

    def _labelled(self) -> None:
        if not _since("2.6.38", self.era):
            return
        nop = b"\x0f\x1f\x44\0\0" if self.bits == 64 else b"\x3e\x8d\x74\x26\0"
        if not _since("3.3", self.era):
            nop = b"\xe9\0\0\0\0"  # JUMP_LABEL_INITIAL_NOP
        self._function(LABELLED)
        for i in range(4):
            site = self.text.put(nop)
            self.text.put(b"\xb0\x07\xeb\x02\xb0\x08")  # mov; jmp over the target; mov
            self.labels.append((site, site + 9, self.keys + _KEY * (i // 2)))
        self.text.put(b"\xc3")

    @property
    def key_bytes(self) -> bytes:
        """The keys as built: off."""
        return bytes(_KEY * 2)

    # Tables

    def alternatives(self, table: int, replacements: Code) -> bytes:
        """The rows, for a table at an address; their replacements are added."""
        out = b""
        flags = "flags" in self.record
        for row in self.rows:
            here = table + len(out)
            code = b"" if row.code is None else row.code
            at = replacements.put(code)
            if row.calls:
                replacements.bytes[-4:] = struct.pack("<i", row.calls - (at + 5))
            if "instr_offset" not in self.record:
                out += self._pointers(row, at, len(code))
                continue
            offsets = (row.site - here, 0 if row.code is None else at - (here + 4))
            feature = row.feature | (0x8000 if row.inverted and not flags else 0)
            out += struct.pack("<iiH", *offsets, feature)
            out += struct.pack("<H", row.inverted) if flags else b""
            out += bytes((row.len, len(code)))
            out += bytes((row.pad,)) if "padlen" in self.record else b""
        return out

    def _pointers(self, row: Row, at: int, length: int) -> bytes:
        """A row of two pointers: cpuid has one byte, and from 2.6.36 on two."""
        pointers = struct.pack("<QQ" if self.word == 8 else "<II", row.site, at)
        if _since("2.6.38", self.era) or self.era.name == "2.6.32-el6":
            tail = struct.pack("<HBB", row.feature, row.len, length)
        else:
            # 2.6.33: the assembler's check that a replacement fits.
            check = (0xFF + length - row.len) & 0xFF if _since("2.6.33", self.era) else 0
            tail = bytes((row.feature, row.len, length, check))
        return pointers + tail + bytes(-len(tail) % self.word)

    def sections(self, at: int) -> Iterator[ElfSection]:
        """``.smp_locks``."""
        if _since("2.6.38", self.era):
            rows = b"".join(struct.pack("<i", lock - (at + 4 * i)) for i, lock in enumerate(self.locks))
        else:
            rows = b"".join(self._word(lock) for lock in self.locks)
        yield ElfSection(".smp_locks", at, rows, ALLOC, align=8)

    def constants(self, at: int) -> bytes:
        """What lies among the constants: the tables that symbols bound, and the names of features."""
        out = bytearray()
        for name, rows in (("mcount_loc", self._mcount()), ("__jump_table", self._jump_table(at))):
            if rows:
                assert name == "__jump_table" or not out  # the distances of the other were taken from the start
                self.symbols[f"__start_{name}"] = at + len(out)
                out += rows
                self.symbols[f"__stop_{name}"] = at + len(out)
        return bytes(out) + self._names(at + len(out))

    def _mcount(self) -> bytes:
        behind = 0 if _since("2.6.38", self.era) else 1  # ftrace_call_adjust() takes it away
        return b"".join(self._word(call + behind) for call in self.calls)

    def _jump_table(self, at: int) -> bytes:
        start = at + len(self._mcount())
        out = b""
        for site, target, key in self.labels:
            if _since("4.20", self.era):
                here = start + len(out)
                out += struct.pack("<ii", site - here, target - (here + 4))
                out += struct.pack("<q" if self.word == 8 else "<i", key - (here + 8))
            else:
                out += self._word(site) + self._word(target) + self._word(key)
        return out

    def _names(self, at: int) -> bytes:
        """``x86_cap_flags``, ``x86_bug_flags`` where there are bugs, ``x86_power_flags``, and what they point to."""
        numbers = releases.nearest(version_of(self.era.release))
        features = {n: printed_as(name) for name, n in numbers.features.items() if n // 32 in HARDWARE}
        features |= dict(CAPTIONED["x86_cap_flags"]) | {REP_GOOD: "rep_good"}
        arrays: list[tuple[str, Mapping[int, str], int]] = [("x86_cap_flags", features, numbers.ncapints)]
        if _since("3.15", self.era):
            bugs = {n: printed_as(name) for name, n in numbers.bugs.items()} | dict(CAPTIONED["x86_bug_flags"])
            arrays.append(("x86_bug_flags", bugs, numbers.nbugints))
        arrays.append(("x86_power_flags", CAPTIONED["x86_power_flags"], 1))
        return self._arrays(at, arrays)

    def _arrays(self, at: int, arrays: Sequence[tuple[str, Mapping[int, str], int]]) -> bytes:
        out, strings = bytearray(-at % self.word), bytearray()
        first = at + len(out) + sum(words * 32 * self.word for *_, words in arrays)
        for symbol, names, words in arrays:
            self.symbols[symbol] = at + len(out)
            for number in range(words * 32):
                name = names.get(number)
                out += self._word(first + len(strings) if name else 0)
                strings += f"{name}\0".encode() if name else b""
        return bytes(out + strings)

    def _word(self, value: int) -> bytes:
        return value.to_bytes(self.word, "little")


def _since(name: str, era: Era) -> bool:
    """Whether an era is this one or a later one; those that only marks tell stand after their like."""
    names = eras.eras()
    return names.index(era.name) >= names.index(name)
