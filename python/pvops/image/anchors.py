"""Features that rows of ``.altinstructions`` give away by what they put where, whatever number they carry.

Each anchor names a pattern of rows that only one feature has in the kernel's source. A feature with an anchor needs no
declared number, and a declared number that an anchor contradicts is wrong for this build.

Sources: 6.1, 6.12 and 7.2 arch/x86/include/asm/{paravirt,qspinlock,nospec-branch,barrier,msr,vmware}.h, arch/x86/entry/
{entry_64.S,entry_64_compat.S,calling.h}, arch/x86/lib/retpoline.S, arch/x86/kernel/{alternative,callthunks}.c.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pvops.image.rows import Alike, Row

if TYPE_CHECKING:
    from pvops.image.view import KernelView


class Anchored(NamedTuple):
    """A feature's number as rows tell it: the number, how many rows say so, and what they hold."""

    number: int
    rows: int
    what: str


class AnchorRow(NamedTuple):
    """One row as anchors see it.

    Attributes:
        row: the row.
        target: the function that a replacement of one call or jump goes to, or None.
        place: the function that the site is in, or None.
    """

    row: Row
    target: str | None
    place: str | None


class Anchor(NamedTuple):
    """One pattern.

    Attributes:
        feature: whose it is.
        what: the pattern in words.
        holds: whether a row matches.
    """

    feature: str
    what: str
    holds: Callable[[AnchorRow], bool]


def _code(feature: str, inverted: bool, *codes: str) -> Anchor:
    wanted = frozenset(bytes.fromhex(code) for code in codes)
    what = f"replacement {' or '.join(codes)}{', inverted' if inverted else ''}"
    return Anchor(feature, what, lambda v: v.row.inverted == inverted and v.row.code in wanted)


def _calls(feature: str, target: str) -> Anchor:
    return Anchor(feature, f"replacement goes to {target}()", lambda v: v.target == target)


def _in(feature: str, inverted: bool, *places: str) -> Anchor:
    what = f"empty replacement in {'() or '.join(places)}()"
    return Anchor(feature, what, lambda v: v.row.inverted == inverted and not v.row.code and v.place in places)


def _verw(view: AnchorRow) -> bool:
    # verw disp32(%rip), or verw %cs:disp32(%rip)
    return view.row.code[:3] == b"\x0f\x00\x2d" or view.row.code[:4] == b"\x2e\x0f\x00\x2d"


def _swapgs_lfence(user: bool) -> Callable[[AnchorRow], bool]:
    # FENCE_SWAPGS_USER_ENTRY in error_entry and asm_exc_nmi, _KERNEL_ENTRY in paranoid_entry and error_entry.
    place = "asm_exc_nmi" if user else "paranoid_entry"
    return lambda v: v.row.code == b"\x0f\xae\xe8" and not v.row.inverted and v.place == place


def _rdtsc(view: AnchorRow) -> bool:
    return view.row.code == b"\x0f\xae\xe8\x0f\x31"


_JUMPS = frozenset(prefix + bytes((0xFF, 0xE0 + r)) for prefix in (b"", b"\x41") for r in range(8))

ANCHORS: Sequence[Anchor] = (
    Anchor("ALWAYS", "direct calls of pv ops", lambda v: v.row.direct_call),
    _code("XENPV", True, "fa", "fb", "9c58"),
    _code("PVUNLOCK", True, "c60700", "c60000"),
    _code("VCPUPREEMPT", True, "4831c0", "31c0"),
    Anchor("LFENCE_RDTSC", "replacement lfence; rdtsc", _rdtsc),
    Anchor("RETPOLINE", "replacement jmp *reg, inverted", lambda v: v.row.inverted and v.row.code in _JUMPS),
    Anchor(
        "RETPOLINE_LFENCE",
        "replacement lfence; jmp *reg",
        lambda v: v.row.code[:4] in (b"\x0f\xae\xe8\xff", b"\x0f\xae\xe8\x41") and not v.row.inverted,
    ),
    Anchor("CLEAR_CPU_BUF", "replacement verw mds_verw_sel", _verw),
    _in("CLEAR_CPU_BUF", False, "native_irq_return_ldt"),
    Anchor("FENCE_SWAPGS_USER", "replacement lfence in asm_exc_nmi()", _swapgs_lfence(True)),
    Anchor("FENCE_SWAPGS_KERNEL", "replacement lfence in paranoid_entry()", _swapgs_lfence(False)),
    _calls("ENTRY_IBPB", "entry_ibpb"),
    _calls("ENTRY_IBPB", "write_ibpb"),
    _calls("UNRET", "entry_untrain_ret"),
    _calls("SRSO", "srso_untrain_ret"),
    _calls("SRSO_ALIAS", "srso_alias_untrain_ret"),
    _calls("CLEAR_BHB_LOOP", "clear_bhb_loop"),
    Anchor(
        "CALL_DEPTH",
        "replacement sarq $5, the call depth",
        lambda v: v.row.code[:4] == b"\x65\x48\xc1\x3d" and v.row.code[8:] == b"\x05",
    ),
    Anchor("RSB_CTXSW", "replacement fills the RSB in __switch_to_asm()", lambda v: _switch(v)),
    _code("VMCALL", False, "0f01c1"),
    _in("RETHUNK", False, "cpu_wants_rethunk", "cpu_wants_rethunk_at"),
    _in("KERNEL_IBRS", False, "paranoid_exit", "syscall_return_via_sysret"),
    _in("APIC_MSRS_FENCE", True, "lapic_next_deadline", "x2apic_send_IPI_all", "x2apic_send_IPI_allbutself"),
    _in("SYSENTER32", False, "xen_enable_sysenter"),
    _in("INDIRECT_THUNK_ITS", False, "its_init_mod", "its_fini_mod", "its_free_mod", "its_init_thunk"),
    Anchor(
        "USE_IBRS_FW",
        "replacement wrmsr in arch_efi_call_virt_teardown()",
        lambda v: v.row.code == b"\x0f\x30" and v.place == "arch_efi_call_virt_teardown",
    ),
)


def _switch(view: AnchorRow) -> bool:
    return view.place == "__switch_to_asm" and view.row.length > 16 and b"\xe8\x01\x00\x00\x00" in view.row.code


def seen(kernel: KernelView, table: Sequence[Alike]) -> dict[str, Anchored]:
    """Feature → number, for those that a kernel's rows give away; a pattern with several numbers gives none."""
    mask = (1 << kernel.bits) - 1
    found: dict[str, tuple[Counter[int], str]] = {}
    calls: Counter[int] = Counter()
    # Most rows are alike: what does not ask for a place or a target is looked at once.
    counts: Counter[tuple[int, bool, bytes]] = Counter()
    for rows in table:
        if rows.direct_call:
            calls[rows.number] += len(rows.places)
        else:
            counts[rows.number, rows.inverted, rows.code] += len(rows.places)
    if calls:
        found[ANCHORS[0].feature] = (calls, ANCHORS[0].what)
    looked_at: list[tuple[int, Row, int]] = []
    for rows in table:
        if rows.direct_call:
            continue
        first = rows.row(rows.places[0])
        if _placed(first) or _branches(first):
            looked_at += [(place[0], rows.row(place), 1) for place in rows.places]
        elif many := counts.pop((rows.number, rows.inverted, rows.code), 0):
            looked_at.append((rows.places[0][0], first, many))
    for _, row, many in sorted(looked_at, key=lambda found: found[0]):
        view = AnchorRow(row, _target(kernel, row, mask), _place(kernel, row) if _placed(row) else None)
        for anchor in ANCHORS[1:]:
            if anchor.holds(view):
                numbers, _ = found.setdefault(anchor.feature, (Counter(), anchor.what))
                numbers[row.number] += many
    return {
        feature: Anchored(next(iter(numbers)), sum(numbers.values()), what)
        for feature, (numbers, what) in found.items()
        if len(numbers) == 1
    }


def _branches(row: Row) -> bool:
    """Whether the replacement is one call or jump."""
    return len(row.code) == 5 and row.code[0] in (0xE8, 0xE9)


def _target(kernel: KernelView, row: Row, mask: int) -> str | None:
    if not _branches(row):
        return None
    end = row.replacement + 5
    return kernel.symbol_at((end + int.from_bytes(row.code[1:], "little", signed=True)) & mask)


def _placed(row: Row) -> bool:
    """Whether an anchor could ask where the row's site is."""
    return not row.code or row.length > 16 or row.code in (b"\x0f\xae\xe8", b"\x0f\x30")


def _place(kernel: KernelView, row: Row) -> str | None:
    found = kernel.image.symbol_at(row.address)
    return found[0] if found else None
