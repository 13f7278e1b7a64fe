"""A small kernel image made here: what to try the commands on where no real kernel is at hand, and the tests' fixture.

It has what the paravirt pass of a real x86 ``vmlinux`` looks at, in the same shape: an ELF file with ``.text`` and its
call sites, the table of them, ``.data`` with the ops as they are linked, a banner, and symbols. What an era has of
these its record says: ops in one array or each structure by itself, ``.parainstructions`` or rows of
``.altinstructions``. It cannot be booted: its functions are their first few instructions. The same arguments always
give the same bytes.

::

    python -m pvops.sample vmlinux-sample --era 5.10 --bits 32

From Python, `build` takes the ops as data: another era, a NULL op or a misplaced row is one argument away.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pvops import eras
from pvops.assembler.elf import ALLOC, EXECUTE, WRITE, ElfSection, ElfSymbol, physical, write
from pvops.errors import OpsError
from pvops.sample.code import Code
from pvops.sample.tables import Tables
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.definition import Era

    _Bodies = Mapping[str, bytes]
    _Labels = Mapping[str, tuple[str, int]]

#: The eras an image can have the shape of: all but the one that no kernel was released with.
ERAS = tuple(era for era in eras.eras() if era != "2.6.23")

#: Functions that call ops, and the ops that each calls in turn; a template's missing ops are left out.
CALLERS: Mapping[str, tuple[str, ...]] = {
    "sample_idle": ("pv_irq_ops.irq_disable", "pv_irq_ops.safe_halt"),
    "sample_lock": ("pv_lock_ops.queued_spin_lock_slowpath",),
    "sample_unlock": ("pv_lock_ops.queued_spin_unlock",),
    "sample_spin": ("pv_lock_ops.vcpu_is_preempted", "pv_lock_ops.wait"),
    "sample_page_fault": ("pv_mmu_ops.read_cr2", "pv_irq_ops.save_fl", "pv_irq_ops.irq_enable"),
    "sample_switch": (
        "pv_cpu_ops.start_context_switch",
        "pv_cpu_ops.load_tls",
        "pv_cpu_ops.load_sp0",
        "pv_cpu_ops.end_context_switch",
    ),
    "sample_map_page": ("pv_mmu_ops.make_pte", "pv_mmu_ops.set_pte", "pv_mmu_ops.flush_tlb_one_user"),
    "sample_exit": ("pv_mmu_ops.exit_mmap", "pv_mmu_ops.flush_tlb_user", "pv_mmu_ops.tlb_remove_table"),
    "sample_delay": ("pv_cpu_ops.io_delay", "pv_time_ops.sched_clock"),
}

#: Functions of ``.init.text``, which a kernel frees after booting.
INIT_CALLERS: Mapping[str, tuple[str, ...]] = {
    "sample_start_kernel": ("pv_mmu_ops.flush_tlb_kernel", "pv_irq_ops.irq_enable", "pv_cpu_ops.io_delay"),
}

#: The function that calls every op of the template once.
EVERY_OP = "sample_every_op"

#: First instructions of functions by name, on x86-64; all others return at once.
_BODIES = {
    "native_irq_disable": "fa",
    "native_irq_enable": "fb",
    "native_save_fl": "9c 58",
    "native_restore_fl": "57 9d",
    "native_safe_halt": "fb f4",
    "native_halt": "f4",
    "native_read_cr2": "0f 20 d0",
    "native_write_cr2": "0f 22 d7",
    "__native_read_cr3": "0f 20 d8",
    "native_write_cr3": "0f 22 df",
    "native_wbinvd": "0f 09",
    "_paravirt_ident_64": "48 89 f8",
    "paravirt_BUG": "0f 0b",
}

#: X86_FEATURE_ALWAYS, and the flag of a row whose indirect call becomes a direct one.
_ALWAYS = 3 * 32 + 21
_DIRECT_CALL = 2


class SampleOp(NamedTuple):
    """One slot of ``pv_ops``.

    Attributes:
        name: ``pv_irq_ops.irq_enable``.
        function: what the slot holds as linked; None for NULL.
        callee_save: its sites let go of the returned register only.
        jump: its sites jump.
        called: the kernel calls it: not what it is configured not to use.
        data: it is a word of data and no op.
    """

    name: str
    function: str | None
    callee_save: bool = False
    jump: bool = False
    called: bool = True
    data: bool = False


class Site(NamedTuple):
    """A paravirt site of the image, as its row in ``.parainstructions`` has it."""

    address: int
    type: int
    len: int
    clobbers: int


class Sample(NamedTuple):
    """A built image.

    Attributes:
        elf: the file.
        symbols: name → address.
        sites: in the order of the table.
        pv_ops: where ``pv_ops`` lies, or the first structure of ops.
    """

    elf: bytes
    symbols: Mapping[str, int]
    sites: Sequence[Site]
    pv_ops: int


def native_ops(era: str = "6.1", bits: int = 64, **settings: bool) -> tuple[SampleOp, ...]:
    """The slots of an era's main array of ops as linked.

    Args:
        era: which.
        bits: pointer size.
        settings: what differs from the era's default configuration: ``EXEC_SHIELD=True``.

    Raises:
        OpsError: no such era or symbol.
    """
    found = eras.era(era)
    config = found.default_config(bits, **settings)
    native = {type(struct).__name__: struct for struct in found.native(config)}
    called = {struct.__name__: config.holds(struct.called) for struct in found.structs}
    return tuple(
        SampleOp(op.name, native[op.struct][op.field], op.op.callee_save, op.op.jump, called[op.struct], op.op.data)
        for op in found.template(config)
    )


def backend_functions(era: str = "6.1", names: Iterable[str] = ("native", "kvm")) -> tuple[str, ...]:
    """The functions that backends assign in an era, and those by which they are recognised."""
    from pvops import backends
    from pvops.backends.backend import Copy

    found: dict[str, None] = {}
    for name in names:
        backend = backends.get(name)
        needed = [backend.needs.rpartition("|")[2]]  # a function, where tables do as well
        for step in backend.steps(era) or ():
            needed += (step.otherwise or {}).values() if isinstance(step, Copy) else [step.symbol]
        for symbols in filter(None, needed):
            found[symbols.partition("|")[0]] = None
    return tuple(found)


def build(
    era: str = "6.1",
    bits: int = 64,
    *,
    ops: Sequence[SampleOp] | None = None,
    functions: Iterable[str] | None = None,
    callers: Mapping[str, tuple[str, ...]] = CALLERS,
    tables: bool = False,
    bodies: _Bodies | None = None,
    labels: _Labels | None = None,
) -> Sample:
    """Builds an image.

    Args:
        era: whose shape: one of `ERAS`, or an alias.
        bits: 64 or 32.
        ops: the slots of ``pv_ops`` in order (default: the era's native ones); none without CONFIG_PARAVIRT.
        functions: further functions the image has (default: those of the backends ``native`` and ``kvm``).
        callers: functions of ``.text`` and the ops each calls; `EVERY_OP` is added. On i386 a site of ``OP!`` saves
            registers around the call, as those of assembler do, and lets go of none.
        bodies: the code of further functions. labels: symbols inside of functions: name → function and offset in bytes.
        tables: with sites of the passes that have nothing to do with ops: see `pvops.sample.tables`.

    Raises:
        OpsError: an era or pointer size there is no shape for.
    """
    record = eras.era(era)
    if record.name not in ERAS or bits not in record.bits:
        has = " or ".join(map(str, record.bits))
        raise OpsError(f"no sample of era {era} with {bits} bits: eras {', '.join(ERAS)}; {record.name} has {has} bits")
    ops = native_ops(era, bits) if ops is None else ops
    names = backend_functions(record.name) if functions is None else functions
    return _Builder(record, bits, ops, bodies or {}, labels or {}).build(names, callers, tables)


class _Builder:
    def __init__(self, era: Era, bits: int, ops: Sequence[SampleOp], bodies: _Bodies, labels: _Labels) -> None:
        self.era, self.bits, self.word, self.ops = era, bits, bits // 8, ops
        self.bodies, self.labels = bodies, labels
        base = 0xFFFF_FFFF_8100_0000 if bits == 64 else 0xC100_0000
        self.text = Code(base)
        self.rodata = base + 0x80_0000
        self.data = base + 0xA0_0000
        self.table = base + 0xC0_0000
        self.more = self.table if era.sites is None else base + 0xC8_0000
        self.init = Code(base + 0xC1_0000)
        self.replacements = Code(base + 0xC2_0000)
        self.symbols: dict[str, int] = {"_text": base, "_stext": base}
        self.sites: list[Site] = []
        self.clobbers = era.clobbers(bits)
        self.slots = self._placed()
        self.pv_ops = self.slots[0] if self.slots else self.data + 0x80
        self.keys = -(-((self.slots[-1] if self.slots else self.pv_ops) + self.word) // 16) * 16
        self.tables: Tables | None = None
        self.constants = b""

    def _placed(self) -> list[int]:
        """Where each slot lies; names the arrays, or the structures where each is a variable."""
        arrays = {s.__name__: array.symbol or s.__name__ for array in self.era.arrays for s in array.structs}
        here = self.data + 0x80
        slots: list[int] = []
        for op in self.ops:
            symbol = arrays[op.name.partition(".")[0]]
            if symbol not in self.symbols:
                here += -here % 0x40 + 0x40 * len(slots)  # no two lie as far apart as in the template
                self.symbols[symbol] = here
            if op.name.endswith("save_fl_irq_disable"):  # calls save_fl, the op before, and another
                slots.append(slots[-1])
                continue
            slots.append(here)
            # Where types are no places, the ops lie apart.
            here += self.word * (3 if self.era.arrays[0].numbered else 1)
        self.symbols.setdefault(self.era.arrays[0].symbol or "pv_init_ops", self.data + 0x80)
        return slots

    def build(self, names: Iterable[str], callers: Mapping[str, tuple[str, ...]], tables: bool) -> Sample:
        held = (op.function for op in self.ops if op.function is not None)
        for name in dict.fromkeys((*_kernel_functions(self.era), *held, *names, *self.bodies)):
            self._function(name)
        self.symbols |= {label: self.symbols[function] + at for label, (function, at) in self.labels.items()}
        types = {op.name: type for type, op in enumerate(self.ops) if op.called and not op.data}
        every = tuple(name for name in types if not name.startswith("pv_init_ops."))
        for name, called in {**callers, EVERY_OP: every}.items():
            wanted = [(self._named(op.rstrip("!")), op.endswith("!")) for op in called]
            self._caller(self.text, name, [(types[op], saves) for op, saves in wanted if op in types])
        if tables:
            self.tables = Tables(self.era, self.bits, self.text, self.symbols, self.keys)
        self.symbols["_etext"] = self.text.align()
        for name, called in INIT_CALLERS.items():
            self._caller(self.init, name, [(types[op], False) for op in map(self._named, called) if op in types])
        self.init.align()
        self.symbols["linux_banner"] = self.rodata
        self.symbols["sample_calls"] = self.rodata + len(self._banner())
        self.constants = self._rodata()
        if self.tables is not None:
            self.constants += bytes(-len(self.constants) % 16)
            self.constants += self.tables.constants(self.rodata + len(self.constants))
        return Sample(self._elf(), self.symbols, self.sites, self.pv_ops)

    # Code

    def _function(self, name: str) -> None:
        self.symbols[name] = self.text.align()
        # i386 has other registers, and no need of bodies: what counts are the addresses.
        body = _BODIES.get(name, "") if self.bits == 64 or name == "paravirt_BUG" else ""
        self.text.bytes += self.bodies.get(name, bytes.fromhex(body)) + b"\xc3"

    def _named(self, op: str) -> str:
        """An op's name in this era: before the seed all are of one structure."""
        symbol = self.era.arrays[0].symbol
        return f"{symbol}.{op.partition('.')[2]}" if symbol == "paravirt_ops" else op

    def _caller(self, code: Code, name: str, types: Sequence[tuple[int, bool]]) -> None:
        if not types:
            return
        self.symbols[name] = code.align()
        code.bytes += b"\x53"  # push %rbx
        for type, saves in types:
            # mov %edi,%ebx, on i386 mov %eax,%ebx: compilers leave something between two calls.
            code.bytes += b"\x89\xfb" if self.bits == 64 else b"\x89\xc3"
            self._site(code, type, saves)
        code.bytes += b"\x5b\xc3"  # pop %rbx; ret

    def _site(self, code: Code, type: int, saves: bool) -> None:
        op = self.ops[type]
        slot = self.slots[type]
        address = code.here
        if self.bits == 32:
            branch = (b"\xff\x25" if op.jump else b"\xff\x15") + struct.pack("<I", slot)
        elif op.jump or self.era.sites is None or self.era.sites.rip:  # relative to the next instruction
            branch = (b"\xff\x25" if op.jump else b"\xff\x15") + struct.pack("<i", slot - (address + 6))
        else:
            branch = b"\xff\x14\x25" + struct.pack("<I", slot & 0xFFFF_FFFF)
        if self.era.arrays[0].numbered and not op.jump:  # push %ecx; push %edx; …; pop %edx; pop %ecx
            more = self._then(op)
            branch = b"\x51\x52" + branch + more + b"\x5a\x59"
        if saves and self.bits == 32:  # PV_SAVE_REGS(CLBR_NONE): push %eax, %edi, %ecx, %edx
            branch = b"\x50\x57\x51\x52" + branch + b"\x5a\x59\x5f\x58"
        code.bytes += branch
        self.sites.append(Site(address, type, len(branch), 0 if saves else self._clobbers(op)))

    def _then(self, op: SampleOp) -> bytes:
        """What a site of two calls (2.6.20's save_fl_irq_disable) has behind the first: the second, %eax saved."""
        if not op.name.endswith("save_fl_irq_disable"):
            return b""
        second = next(type for type, each in enumerate(self.ops) if each.name.endswith(".irq_disable"))
        return b"\x50\xff\x15" + struct.pack("<I", self.slots[second]) + b"\x58"

    def _clobbers(self, op: SampleOp) -> int:
        """CLBR_NONE at a jump, CLBR_RET_REG at a callee-save op, else CLBR_ANY."""
        if op.jump:
            return 0
        usual = {"CLBR_ANY": 0x1FF, "CLBR_RET_REG": 1} if self.bits == 64 else {"CLBR_ANY": 0xF, "CLBR_RET_REG": 5}
        return {**usual, **self.clobbers}["CLBR_RET_REG" if op.callee_save else "CLBR_ANY"]

    # Data

    def _banner(self) -> bytes:
        era = self.era
        release = f"{era.release or era.name}-pvops-sample"
        made = f"(pvops@sample) (made by pvops.sample) #1 SMP {self.bits}-bit, era {era.name}"
        banner = f"Linux version {release} {made}\n".encode() + b"\0"
        return banner + bytes(-len(banner) % 16)

    def _rodata(self) -> bytes:
        """The banner, and a table of pointers, as that of system calls is."""
        calls = [self.symbols[name] for name in CALLERS if name in self.symbols]
        return self._banner() + struct.pack(f"<{len(calls)}{'Q' if self.word == 8 else 'I'}", *calls)

    def _data(self) -> bytes:
        data = bytearray((self.slots[-1] if self.slots else self.pv_ops) + self.word - self.data)
        for op, slot in zip(self.ops, self.slots, strict=True):
            held = 0 if op.function is None else self.symbols[op.function]
            struct.pack_into("<Q" if self.word == 8 else "<I", data, slot - self.data, held)
        if self.tables is not None:
            data += bytes(self.keys - self.data - len(data)) + self.tables.key_bytes
        return bytes(data)

    def _rows(self) -> bytes:
        rows = b"".join(
            struct.pack("<QBBH4x" if self.word == 8 else "<IBBH", site.address, site.type, site.len, site.clobbers)
            for site in self.sites
        )
        # The assembler aligns the start of each row: behind the last one nothing follows.
        return rows[:-4] if self.word == 8 else rows

    def _alternatives(self) -> bytes:
        """The sites as rows of .altinstructions, each with a call of BUG_func to put in the indirect call's place."""
        rows = b""
        for site in self.sites:
            row, code = self.more + len(rows), self.replacements.here
            self.replacements.bytes += b"\xe8" + struct.pack("<i", self.symbols["BUG_func"] - (code + 5))
            offsets = (site.address - row, code - (row + 4))
            rows += struct.pack("<iiHHBB", *offsets, _ALWAYS, _DIRECT_CALL, site.len, 5)
        return rows

    # The ELF file

    def _sections(self) -> Iterator[ElfSection]:
        yield ElfSection(".text", self.text.address, bytes(self.text.bytes), ALLOC | EXECUTE)
        yield ElfSection(".rodata", self.rodata, self.constants, ALLOC)
        yield ElfSection(".data", self.data, self._data(), ALLOC | WRITE)
        rows = self._alternatives() if self.era.sites is None else b""
        if self.era.sites is not None and self.ops:
            yield ElfSection(".parainstructions", self.table, self._rows(), ALLOC, align=8)
        if self.tables is not None:
            rows += self.tables.alternatives(self.more + len(rows), self.replacements)
            yield from self.tables.sections(self.more + 0x8000)
        if rows:
            yield ElfSection(".altinstructions", self.more, rows, ALLOC, align=8)
        yield ElfSection(".init.text", self.init.address, bytes(self.init.bytes), ALLOC | EXECUTE)
        if self.replacements.bytes:
            code = self.replacements
            yield ElfSection(".altinstr_replacement", code.address, bytes(code.bytes), ALLOC | EXECUTE)

    def _elf(self) -> bytes:
        loaded = list(self._sections())
        symbols = []
        for name, address in self.symbols.items():
            home = next(i for i, s in enumerate(loaded) if s.address <= address <= s.address + len(s.data))
            symbols.append(ElfSymbol(name, address, home, bool(loaded[home].flags & EXECUTE)))
        return write(self.bits, loaded, symbols, physical(self.text.address))


def _kernel_functions(era: Era) -> tuple[str, ...]:
    """Functions of the kernel itself that the patching code refers to or is told by."""
    rules = era.paravirt
    if rules is None:
        return era.functions
    patch = era.patch_function(era.default_config(era.bits[-1]))
    patchers = (patch.name,) if patch is not None else ()
    null = () if rules.null == "ud2" else (rules.null,)
    return (rules.nop, *rules.identities, *null, *patchers, "apply_paravirt", *era.functions)
