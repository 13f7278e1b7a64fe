"""Ops structures that read like the kernel's C.

A structure is a class with its ops in declaration order::

    class pv_irq_ops(OpsStruct):
        init_IRQ = Op()
        save_fl = Op()

and a filled structure is an instance, one value per op, as the designated initialisers of the kernel's C::

    native = pv_irq_ops(init_IRQ="native_init_IRQ", save_fl="native_save_fl")

A value is the name of a function, or ``None`` for NULL. A misspelt, missing or unknown op is an `OpsError` when the
instance is made, as the C compiler would have said for the first and the last, and should have for the second.

The kernel's ``#ifdef`` is `ifdef`, and reads the same way::

    with ifdef("X86_PAE"):
        set_pte_atomic = Op()

A later era's structure is a subclass that says what changed: `gone` for a member that went, and where a new one came::

    class pv_mmu_ops(v6_1.pv_mmu_ops):
        enter_mmap = Op(instead_of="activate_mm")
        dup_mmap = gone

Source: Russell 2007 (the split of ``struct paravirt_ops``), include/asm-i386/paravirt.h of that tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from types import MappingProxyType

from pvops.errors import OpsError, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The name of a function, or None for NULL.
Pointer = str | None


@cache
def _parts(condition: str) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    """What each part of a condition demands: symbols that are set, and symbols that are not."""
    terms = [[term.strip() for term in part.split("&")] for part in condition.split("|")]
    return tuple(
        (
            frozenset(term for term in part if not term.startswith("!")),
            frozenset(term[1:] for term in part if term.startswith("!")),
        )
        for part in terms
    )


class Unchanging:
    """What is made once and stays so: many tables, plans and images have the same one."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a {type(self).__name__} does not change; `{self._renewed}` gives another")

    #: The method that makes one with something changed.
    _renewed = "replace"


class Config(Unchanging):
    """The kernel configuration symbols that decide which ops exist: the ``#ifdef`` of the headers.

    Symbols are named without their ``CONFIG_`` prefix. A condition is a symbol, ``!`` for its absence, and ``&`` and
    ``|`` between them (``&`` binds tighter): ``"X86_PAE|X86_64"``.
    """

    __slots__ = ("symbols",)

    symbols: frozenset[str]

    _renewed = "with_"

    def __init__(self, *symbols: str) -> None:
        object.__setattr__(self, "symbols", frozenset(symbols))

    def __reduce__(self) -> tuple[object, ...]:
        return Config, tuple(sorted(self.symbols))

    def holds(self, condition: str) -> bool:
        """Whether a condition holds; the empty condition always does."""
        symbols = self.symbols
        return not condition or any(here <= symbols and not absent & symbols for here, absent in _parts(condition))

    @property
    def bits(self) -> int:
        """Pointer size in bits: 64 with X86_64, else 32."""
        return 64 if "X86_64" in self.symbols else 32

    def with_(self, *symbols: str) -> Config:
        """The same configuration with these symbols set too."""
        return Config(*self.symbols, *symbols)

    def without(self, *symbols: str) -> Config:
        """The same configuration with these symbols not set."""
        return Config(*(self.symbols - set(symbols)))

    def __repr__(self) -> str:
        return f"Config({', '.join(repr(s) for s in sorted(self.symbols))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and other.symbols == self.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)


class ifdef:
    """``#ifdef``: the ops declared inside the ``with`` exist only where the condition holds. Nests, as in C."""

    __slots__ = ("condition",)

    #: Conditions of the blocks now open, outermost first.
    stack: tuple[str, ...] = ()

    def __init__(self, condition: str) -> None:
        self.condition = condition

    def __enter__(self) -> None:
        ifdef.stack = (*ifdef.stack, self.condition)

    def __exit__(self, *exception: object) -> None:
        ifdef.stack = ifdef.stack[:-1]


class Op:
    """One function pointer of an ops structure.

    Args:
        config: condition under which the structure has this member (see `Config`); open `ifdef` blocks are added.
        jump: the call site is a ``jmp``, and is patched to one (iret, sysexit and their like never return).
        callee_save: ``struct paravirt_callee_save``: the callee preserves every register but the returned one, so that
            the site lets go only of that (clobbers ``CLBR_RET_REG``).
        doc: what the op does, in a few words.
        data: no function, but a word of data among them (2.6.22's struct paravirt_ops begins with four).
        after: in a subclass, the member of the older structure that it stands behind, wherever it stood; with an
            empty name it stands first. Without, it stands where it stood, or last.
        instead_of: in a subclass, the member whose place it takes.
    """

    __slots__ = ("after", "callee_save", "config", "data", "doc", "instead_of", "jump", "name")

    def __init__(
        self,
        *,
        config: str = "",
        jump: bool = False,
        callee_save: bool = False,
        doc: str = "",
        data: bool = False,
        after: str | None = None,
        instead_of: str = "",
    ) -> None:
        self.name = ""
        self.after = after
        self.instead_of = instead_of
        for condition in reversed(ifdef.stack):
            config = both(condition, config)
        self.config = config
        self.jump = jump
        self.callee_save = callee_save
        self.doc = doc
        self.data = data

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def copy(self, *, config: str) -> Op:
        """The same op under another condition, outside every `ifdef` block."""
        found = Op(jump=self.jump, callee_save=self.callee_save, doc=self.doc, data=self.data)
        found.name, found.config = self.name, config
        return found


class _Gone:
    """What `gone` is."""

    __slots__ = ()


#: In a subclass: a member, or a nested structure, that the older structure had.
gone: Any = _Gone()


class OpsStructMeta(type):
    """Collects the ops of a class body, nested structures (``lazy_mode = pv_lazy_ops``) flattened to dotted names.

    Ops of a base class come first: a structure that grew at its end is a subclass of what it was.
    """

    ops: dict[str, Op]
    config: str

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> None:
        super().__init__(name, bases, namespace)
        ops: dict[str, Op] = {}
        for base in bases:
            if isinstance(base, OpsStructMeta):
                ops.update(base.ops)
        for field, value in namespace.items():
            if isinstance(value, Op):
                ops = _placed(ops, field, value, name)
            elif isinstance(value, _Gone):
                kept = {known: op for known, op in ops.items() if known != field and not known.startswith(f"{field}.")}
                if len(kept) == len(ops):
                    raise OpsError(f"struct {name} had no op {field}{nearest(field, ops)}")
                ops = kept
            elif isinstance(value, OpsStructMeta):
                beside: str | None = None
                for inner, op in value.ops.items():
                    nested = op.copy(config=both(value.config, op.config))
                    # What a nested structure grew by stands behind the member it had before.
                    nested.after = beside if f"{field}.{inner}" not in ops else None
                    ops = _placed(ops, beside := f"{field}.{inner}", nested, name)
        cls.ops = ops


def _placed(ops: dict[str, Op], field: str, op: Op, struct: str) -> dict[str, Op]:
    """The ops with one more, where it says that it stands, or where the one of its name stood."""
    beside = op.instead_of or op.after
    if beside is None:
        return {**ops, field: op}
    ops = {known: value for known, value in ops.items() if known != field}
    if beside and beside not in ops:
        raise OpsError(f"struct {struct} had no op {beside}{nearest(beside, ops)}")
    placed: dict[str, Op] = {field: op} if not beside else {}
    for known, value in ops.items():
        if known != op.instead_of:
            placed[known] = value
        if known == beside:
            placed[field] = op
    return placed


class OpsStruct(Unchanging, metaclass=OpsStructMeta):
    """A filled ops structure: one value per op, made with one keyword per op (``lazy_mode={"enter": …}`` if nested).

    Members that the configuration leaves out are filled all the same; the template does not see them.
    """

    #: ``EXPORT_SYMBOL`` or ``EXPORT_SYMBOL_GPL``, or empty where modules cannot see the structure.
    export: str = ""
    #: Condition under which the kernel has the structure at all: without it neither slots nor sites.
    config: str = ""
    #: Condition under which the kernel fills and calls the structure. Without it the slots keep their numbers, read
    #: NULL and have no sites (pv_lock_ops without CONFIG_PARAVIRT_SPINLOCKS).
    called: str = ""
    #: The structure's member in the template, where that is not its own name (``irq`` since 4.20); None where the
    #: structure is itself the variable, and no member of a greater one.
    member: str | None = ""
    #: Leading members, a pointer's size each, that are not ops (2.6.23's struct paravirt_ops has four).
    leading: tuple[str, ...] = ()

    values: Mapping[str, Pointer]

    def __init__(self, **pointers: Pointer | Mapping[str, Pointer]) -> None:
        struct = type(self).__name__
        given = _flat(pointers)
        unknown = [name for name in given if name not in type(self).ops]
        if unknown:
            raise OpsError(f"struct {struct} has no op {_listed(unknown)}{nearest(unknown[0], type(self).ops)}")
        missing = [name for name in type(self).ops if name not in given]
        if missing:
            raise OpsError(f"struct {struct} is filled without {_listed(missing)} (write None for NULL)")
        values = {name: given[name] for name in type(self).ops}
        object.__setattr__(self, "values", MappingProxyType(values))

    def __getitem__(self, op: str) -> Pointer:
        try:
            return self.values[op]
        except KeyError:
            raise OpsError(f"struct {type(self).__name__} has no op {op}{nearest(op, type(self).ops)}") from None

    def replace(self, **pointers: Pointer | Mapping[str, Pointer]) -> OpsStruct:
        """A copy with some ops changed."""
        return type(self)(**{**self.values, **_flat(pointers)})


#: For how many configurations what an era's ``native()`` makes is kept.
_KEPT = 32


def made_once(
    native: Callable[[Config], tuple[OpsStruct, ...]],
) -> Callable[[Config], tuple[OpsStruct, ...]]:
    """Keeps what an era's ``native()`` makes: the eras after it refill its structures, one from the other."""
    return lru_cache(_KEPT)(native)


def renewed(structs: tuple[type[OpsStruct], ...], *newer: type[OpsStruct]) -> tuple[type[OpsStruct], ...]:
    """An older era's structures in their order, with these in the place of those of the same names.

    Raises:
        OpsError: there is none of that name.
    """
    by_name = {struct.__name__: struct for struct in newer}
    for name in by_name.keys() - {struct.__name__ for struct in structs}:
        raise OpsError(f"there was no structure {name}")
    return tuple(by_name.get(struct.__name__, struct) for struct in structs)


def refilled(
    structs: tuple[type[OpsStruct], ...],
    older: Iterable[OpsStruct],
    changes: Mapping[str, Pointer],
    *,
    renamed: Mapping[str, str] | None = None,
) -> tuple[OpsStruct, ...]:
    """An era's structures, filled as the older era's of the same names were, but for what changed.

    Args:
        structs: the era's structures.
        older: the older era's, filled.
        changes: full op name → function: what is new, and what holds something else.
        renamed: functions that have another name now: older name → newer.

    Raises:
        OpsError: an op that neither names, or a change of none there is.
    """
    names = renamed or {}
    held = {
        type(struct).__name__: {op: pointer and names.get(pointer, pointer) for op, pointer in struct.values.items()}
        for struct in older
    }
    known = {f"{struct.__name__}.{op}" for struct in structs for op in struct.ops}
    for op in changes:
        if op not in known:
            raise OpsError(f"no op {op} to change{nearest(op, known)}")
    filled = []
    for struct in structs:
        values = {op: pointer for op, pointer in held.get(struct.__name__, {}).items() if op in struct.ops}
        prefix = f"{struct.__name__}."
        values |= {op.removeprefix(prefix): pointer for op, pointer in changes.items() if op.startswith(prefix)}
        filled.append(struct(**values))
    return tuple(filled)


def _flat(pointers: Mapping[str, Pointer | Mapping[str, Pointer]]) -> dict[str, Pointer]:
    """Nested structures as dotted names: ``lazy_mode={"enter": …}`` is ``lazy_mode.enter``."""
    out: dict[str, Pointer] = {}
    for name, value in pointers.items():
        if isinstance(value, Mapping):
            out |= {f"{name}.{inner}": pointer for inner, pointer in value.items()}
        else:
            out[name] = value
    return out


def both(outer: str, inner: str) -> str:
    """The condition that both hold, in the grammar of `Config` (which has no parentheses)."""
    if not outer or not inner:
        return outer or inner
    return "|".join(f"{a}&{b}" for a in outer.split("|") for b in inner.split("|"))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
