"""Features that rows of ``.altinstructions`` give away by what they put where, whatever number they carry.

Each anchor names a pattern of rows that only one feature has in the kernel's source. A feature with an anchor needs no
declared number, and a declared number that an anchor contradicts is wrong for this build.

Sources: 6.1, 6.12 and 7.2 arch/x86/include/asm/{paravirt,qspinlock,nospec-branch,barrier,msr,vmware}.h, arch/x86/entry/
{entry_64.S,entry_64_compat.S,calling.h}, arch/x86/lib/retpoline.S, arch/x86/kernel/{alternative,callthunks}.c.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from pvops.image.rows import Alike
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView


class Anchored(NamedTuple):
    """A feature's number as rows tell it: the number, how many rows say so, and what they hold."""

    number: int
    rows: int
    what: str


class Anchor(NamedTuple):
    """One pattern.

    Attributes:
        feature: whose it is.
        what: the pattern in words.
        holds: whether rows that are alike match, as far as they tell; none of its rows is a direct call.
        target: the function that the replacement, one call or jump, goes to; None where it does not matter.
        places: functions that the site may be in; none where it does not matter.
        empty: it is about rows with an empty replacement, and all others about rows with some.
    """

    feature: str
    what: str
    holds: Callable[[Alike], bool]
    target: str | None = None
    places: tuple[str, ...] = ()
    empty: bool = False


def _code(feature: str, inverted: bool, *codes: str) -> Anchor:
    wanted = frozenset(bytes.fromhex(code) for code in codes)
    what = f"replacement {' or '.join(codes)}{', inverted' if inverted else ''}"
    return Anchor(feature, what, lambda rows: rows.inverted == inverted and rows.code in wanted)


def _calls(feature: str, target: str) -> Anchor:
    return Anchor(feature, f"replacement goes to {target}()", _branches, target)


def _in(feature: str, inverted: bool, *places: str) -> Anchor:
    what = f"empty replacement in {'() or '.join(places)}()"
    return Anchor(feature, what, lambda rows: rows.inverted == inverted, places=places, empty=True)


def _verw(rows: Alike) -> bool:
    # verw disp32(%rip), or verw %cs:disp32(%rip)
    return rows.code[:3] == b"\x0f\x00\x2d" or rows.code[:4] == b"\x2e\x0f\x00\x2d"


def _lfence(rows: Alike) -> bool:
    return rows.code == b"\x0f\xae\xe8" and not rows.inverted


def _rdtsc(rows: Alike) -> bool:
    return rows.code == b"\x0f\xae\xe8\x0f\x31"


def _fills_rsb(rows: Alike) -> bool:
    # Over int3 since 6.0, over `pause; lfence; jmp` before.
    return rows.length > 16 and any(b"\xe8" + over + b"\x00\x00\x00" in rows.code for over in (b"\x01", b"\x07"))


def _retpoline(rows: Alike) -> bool:
    # `pause; lfence; jmp; mov %reg,(%rsp); ret`, of 4.15 to 5.12
    return _RETPOLINE.search(rows.code) is not None and not rows.inverted


_RETPOLINE = re.compile(rb"\xf3\x90\x0f\xae\xe8\xeb\xf9[\x48\x4c]?\x89.\x24\xc3", re.DOTALL)


def _branches(rows: Alike) -> bool:
    """Whether the replacement is one call or jump."""
    return len(rows.code) == 5 and rows.code[0] in (0xE8, 0xE9)


_JUMPS = frozenset(prefix + bytes((0xFF, 0xE0 + r)) for prefix in (b"", b"\x41") for r in range(8))

#: Whose direct calls of pv ops are (6.8 and later).
_DIRECT = ("ALWAYS", "direct calls of pv ops")

ANCHORS: Sequence[Anchor] = (
    _code("XENPV", True, "fa", "fb", "9c58"),
    _code("PVUNLOCK", True, "c60700", "c60000"),
    _code("VCPUPREEMPT", True, "4831c0", "31c0"),
    Anchor("LFENCE_RDTSC", "replacement lfence; rdtsc", _rdtsc),
    # SWITCH_KERNEL_CR3 of stable 3.16, 4.4 and 4.9: `push %rax` where there was a jump over what loads page tables.
    _code("KAISER", False, "50"),
    Anchor("RETPOLINE", "replacement lfence; jmp; mov reg,(%rsp); ret", _retpoline),
    Anchor("RETPOLINE", "replacement jmp *reg, inverted", lambda rows: rows.inverted and rows.code in _JUMPS),
    Anchor(
        "RETPOLINE_LFENCE",
        "replacement lfence; jmp *reg",
        lambda rows: rows.code[:4] in (b"\x0f\xae\xe8\xff", b"\x0f\xae\xe8\x41") and not rows.inverted,
    ),
    Anchor("CLEAR_CPU_BUF", "replacement verw mds_verw_sel", _verw),
    _in("CLEAR_CPU_BUF", False, "native_irq_return_ldt"),
    # FENCE_SWAPGS_USER_ENTRY in error_entry and asm_exc_nmi, _KERNEL_ENTRY in paranoid_entry and error_entry.
    Anchor("FENCE_SWAPGS_USER", "replacement lfence in asm_exc_nmi()", _lfence, places=("asm_exc_nmi",)),
    Anchor("FENCE_SWAPGS_KERNEL", "replacement lfence in paranoid_entry()", _lfence, places=("paranoid_entry",)),
    _calls("ENTRY_IBPB", "entry_ibpb"),
    _calls("ENTRY_IBPB", "write_ibpb"),
    _calls("UNRET", "entry_untrain_ret"),
    _calls("SRSO", "srso_untrain_ret"),
    _calls("SRSO_ALIAS", "srso_alias_untrain_ret"),
    _calls("CLEAR_BHB_LOOP", "clear_bhb_loop"),
    Anchor(
        "CALL_DEPTH",
        "replacement sarq $5, the call depth",
        lambda rows: rows.code[:4] == b"\x65\x48\xc1\x3d" and rows.code[8:] == b"\x05",
    ),
    Anchor("RSB_CTXSW", "replacement fills the RSB in __switch_to_asm()", _fills_rsb, places=("__switch_to_asm",)),
    _code("VMCALL", False, "0f01c1"),
    _in("RETHUNK", False, "cpu_wants_rethunk", "cpu_wants_rethunk_at"),
    _in("KERNEL_IBRS", False, "paranoid_exit", "syscall_return_via_sysret"),
    _in("APIC_MSRS_FENCE", True, "lapic_next_deadline", "x2apic_send_IPI_all", "x2apic_send_IPI_allbutself"),
    _in("SYSENTER32", False, "xen_enable_sysenter"),
    _in("INDIRECT_THUNK_ITS", False, "its_init_mod", "its_fini_mod", "its_free_mod", "its_init_thunk"),
    Anchor(
        "USE_IBRS_FW",
        "replacement wrmsr in arch_efi_call_virt_teardown()",
        lambda rows: rows.code == b"\x0f\x30",
        places=("arch_efi_call_virt_teardown",),
    ),
)


#: Those about rows with an empty replacement, and about others.
_EMPTY = [(at, anchor) for at, anchor in enumerate(ANCHORS) if anchor.empty]
_FILLED = [(at, anchor) for at, anchor in enumerate(ANCHORS) if anchor.target is None and not anchor.empty]

#: The target of a replacement that is one call or jump → the anchor; no other is about such rows.
_BY_TARGET = {anchor.target: at for at, anchor in enumerate(ANCHORS) if anchor.target is not None}


def seen(kernel: KernelView, table: Sequence[Alike]) -> dict[str, Anchored]:
    """Feature → number, for those that a kernel's rows give away; a pattern with several numbers gives none."""
    names = _Names(kernel)
    calls: Counter[int] = Counter()
    # Address and index of a row that matches, the anchor, the number, how many rows are so.
    matches: list[tuple[int, int, int, int, int]] = []
    for group, rows in enumerate(table):
        if rows.direct_call:
            calls[rows.number] += rows.how_many
            continue
        if _branches(rows):
            for index, address, replacement in _places(kernel, group, rows):
                if (at := names.anchor(rows, replacement)) is not None:
                    matches.append((address, index, at, rows.number, 1))
            continue
        functions: dict[str, list[int]] = {}
        for at, anchor in _FILLED if rows.code else _EMPTY:
            if not anchor.holds(rows):
                continue
            if anchor.places:
                for place in anchor.places:
                    functions.setdefault(place, []).append(at)
            else:
                index, address, _ = rows.first
                matches.append((address, index, at, rows.number, rows.how_many))
        for index, address, _ in _places(kernel, group, rows) if functions else ():
            for at in functions.get(names.function(address) or "", ()):
                matches.append((address, index, at, rows.number, 1))
    found: dict[str, tuple[Counter[int], str]] = {}
    if calls:
        found[_DIRECT[0]] = (calls, _DIRECT[1])
    for _, _, at, number, many in sorted(matches):
        numbers, _ = found.setdefault(ANCHORS[at].feature, (Counter(), ANCHORS[at].what))
        numbers[number] += many
    return {
        feature: Anchored(next(iter(numbers)), sum(numbers.values()), what)
        for feature, (numbers, what) in found.items()
        if len(numbers) == 1
    }


def _places(kernel: KernelView, group: int, rows: Alike) -> list[tuple[int, int, int]]:
    """Index, address of the site and of the replacement of each row."""
    return [rows.first] if rows.how_many == 1 else kernel.tables.alternatives_of(group)


class _Names:
    """Names of the places that rows lead to. Thousands of rows go to functions that no anchor is about: only those of
    anchors are looked up, by name; and each function that a site is in once."""

    def __init__(self, kernel: KernelView) -> None:
        self._kernel = kernel
        self._mask = (1 << kernel.bits) - 1
        # A name that another is preferred to at its address does not name the function.
        self._targets = {
            address: at
            for name, at in _BY_TARGET.items()
            for address in kernel.image.addresses_of(name)
            if kernel.symbol_at(address) == name
        }
        self._functions: dict[int, str | None] = {}

    def anchor(self, rows: Alike, replacement: int) -> int | None:
        """Which anchor the function has that a replacement of one call or jump goes to."""
        goes = replacement + 5 + int.from_bytes(rows.code[1:], "little", signed=True)
        return self._targets.get(goes & self._mask)

    def function(self, address: int) -> str | None:
        """The function that a site is in."""
        if address not in self._functions:
            found = self._kernel.image.symbol_at(address)
            self._functions[address] = found[0] if found else None
        return self._functions[address]
