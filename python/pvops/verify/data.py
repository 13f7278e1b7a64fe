"""The kernel's own data compared with its text: where they disagree, and the constants held to the file.

Neither is believed against the other. Where they disagree, one of them was changed, and both are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pvops._core as _core
from pvops.errors import Error
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage

#: Kinds of data whose values are functions; of the others, but for those below, they are yes or no.
_CALLS = {"static_call", "tracepoint_call", "lsm_call", "mirrored_call", "updated_call"}
_FUNCTIONS = {*_CALLS, "pv_ops", "return_thunk", "function", "gate"}
#: Rows of tables: their values are addresses.
_ROWS = {"jump_entry", "static_call_site"}
#: Kinds that are named by the key they tell of.
_OF_KEYS = {"sched_feature", "variable", "netfilter_hook", "cgroup_bpf"}
#: Kinds of which the text says nothing: they are held to the file.
OF_THE_FILE = frozenset(
    {
        "rodata",
        "module_rodata",
        "updated_call",
        "function",
        "gate",
        "gate_bits",
        "idt_register",
        "segment",
        "page",
        *_ROWS,
    }
)


class Disagreement(NamedTuple):
    """A datum that says something else than the text does, or a constant that is not what the file has.

    Attributes:
        what: ``static_key``, ``static_call``, ``pv_ops``, ``return_thunk``, ``feature``, ``alternatives_patched``,
            ``tracepoint`` (whether it has functions), ``tracepoint_call`` (which), ``dynamic_debug``, ``lsm_hook``,
            ``lsm_call``, ``mirrored_call`` (of ``x86_pmu`` and the APIC), ``sched_feature``, ``variable`` (that is
            written with a key), ``netfilter_hook``, ``cgroup_bpf``, ``ftrace``, ``kprobes``; or what only the file
            tells of: ``updated_call`` (a static call that goes where no code of the kernel's
            has it go), ``rodata``, ``function`` (a pointer to one in ``.data``), ``gate`` and ``gate_bits`` (of an
            interrupt), ``idt_register`` (a CPU's, which says where gates are), ``segment`` (a descriptor in the tables
            of a CPU), ``page`` (of text, constants or data, where page tables have it), ``jump_entry`` and
            ``static_call_site`` (rows of the tables by which text is changed), ``module_rodata`` (constants
            of a module).
        name: which one: a symbol, an op, a feature, a vector, the site of a row.
        address: where it is, as linked.
        expected: what the text says, or the file; of constants in hexadecimal, moved as the kernel moved.
        found: what memory holds.
    """

    what: str
    name: str
    address: int
    expected: str
    found: str

    def to_dict(self) -> dict[str, object]:
        """The entry in the report's document."""
        return {
            "what": self.what,
            "name": self.name,
            "address": f"{self.address:#x}",
            "expected": self.expected,
            "found": self.found,
        }


class Rodata(NamedTuple):
    """``.rodata`` held to the file with its relocations.

    Attributes:
        address: where it begins, as linked.
        size: how many bytes of it were compared.
        wrong: how many differ.
        written: (start, end) of what the kernel writes at boot, which is not compared byte by byte.
        rows: how many bytes of ``written`` are tables of jump labels and static calls, which were held row by row.
        unread: (start, end) of what could not be read.
        tables: sections elsewhere that were held to the file too, and are counted in ``size`` and ``wrong``.
        pointers: how many words of ``written`` are addresses of functions in the file, and were looked at for being
            one still.
    """

    address: int
    size: int
    wrong: int
    written: tuple[int, int]
    unread: Sequence[tuple[int, int]] = ()
    tables: Sequence[str] = ()
    pointers: int = 0
    rows: int = 0

    @property
    def not_judged(self) -> int:
        """How many bytes of ``written`` are not judged, but for the pointers."""
        return self.written[1] - self.written[0] - self.rows

    @property
    def unread_bytes(self) -> int:
        """How many bytes of it could not be read."""
        return sum(end - start for start, end in self.unread)

    def to_dict(self) -> dict[str, object]:
        """The constants in the report's document."""
        return {
            "address": f"{self.address:#x}",
            "size": self.size,
            "wrong": self.wrong,
            "unread": self.unread_bytes,
            "tables": list(self.tables),
            "pointers": self.pointers,
            "not_judged": {"address": f"{self.written[0]:#x}", "size": self.not_judged},
        }


class Data(NamedTuple):
    """What the data of a kernel say.

    Attributes:
        counts: how many of each kind were heard.
        disagreements: where they, or the constants, say something else.
        rodata: the constants; None where they are not judged.
        unheard: what was not heard, and why.
        held: (start, end) of the sections that were held to the file; what is in none of them is not judged.
        alone: names of the static keys of which nothing tells but their text and their count: a change of both alike
            cannot be told.
    """

    counts: Mapping[str, int] = {}
    disagreements: Sequence[Disagreement] = ()
    rodata: Rodata | None = None
    unheard: Sequence[str] = ()
    held: Sequence[tuple[int, int]] | None = None
    alone: Sequence[str] = ()

    def with_more(self, disagreements: Sequence[Disagreement], unheard: Sequence[str]) -> Data:
        """These, and what else was read."""
        return self._replace(disagreements=[*self.disagreements, *disagreements], unheard=[*self.unheard, *unheard])


def heard(kernel: KernelImage, report: _core.Report, info: _core.KernelInfo, found: _core.Location) -> Data:
    """Reads the data of a kernel whose text was judged; nothing, where memory is text alone."""
    ops: dict[int, str] = {}
    if report.votes(["slot"]):
        try:
            ops = {kernel.ops.slot(i): op for i, op in enumerate(kernel.ops.names)}
        except Error:
            # Nothing names the ops: those that calls go through are read all the same.
            ops = {}
    core = _core.hear(report, info, list(ops), found)
    if core is None:
        return Data(unheard=("data: memory is .text alone",))
    features = kernel.feature_numbers

    def name(what: str, address: int, which: int) -> str:
        if what == "feature":
            feature = features.name(which)
            return f"{which // 32}*32+{which % 32}" if feature is None else feature.name
        if what == "pv_ops" and address in ops:
            return ops[address]
        if what in ("gate", "gate_bits"):
            return f"vector {which}"
        if what == "idt_register":
            return f"CPU {which}"
        if what == "segment":
            return f"CPU {which >> 16}, selector {which & 0xFFFF:#x}"
        place = kernel.place(which if what in _ROWS | _OF_KEYS else address)
        return place.removesuffix("+0x0") if place else f"{address:#x}"

    sections = [(address, address + size) for _, address, size, _ in kernel.image.sections() if address]

    def value(what: str, number: int) -> str:
        if what in ("gate_bits", "segment", "page"):
            return f"{number:#x}"
        if what in (*_FUNCTIONS, *_ROWS) and number and not any(start <= number < end for start, end in sections):
            return f"{number + found.slide & (1 << kernel.bits) - 1:#x}, outside the kernel"
        if what in _FUNCTIONS:
            return (kernel.symbol_at(number) or kernel.place(number) or f"{number:#x}") if number else "none"
        if what in _ROWS or what == "idt_register":
            return kernel.place(number) or f"{number:#x}"
        if what == "static_key" and number > 1:
            return str(number - (1 << 64))  # as its atomic_t says: no kernel has one below -1
        return "yes" if number else "no"

    differing = [
        Disagreement(what, name(what, address, which), address, value(what, text), value(what, data))
        for what, address, which, text, data in core.disagreements
    ]
    differing += [
        Disagreement("rodata", name("rodata", address, address), address, built.hex(), stands.hex())
        for address, built, stands in core.changed()
    ]
    unheard = list(core.unheard)
    rodata = None
    if core.rodata is None:
        unheard.append(f".rodata: {core.why}")
    else:
        size, wrong, start, _, written = core.rodata
        overlaps = (min(end, written[1]) - max(at, written[0]) for at, end in core.held)
        rows = sum(max(overlap, 0) for overlap in overlaps)
        rodata = Rodata(start, size, wrong, written, core.unread, *core.tables, rows)
    alone = [name("static_key", key, key) for key in core.alone]
    return Data(dict(core.counts), differing, rodata, unheard, [*core.judged, *core.held], alone)
