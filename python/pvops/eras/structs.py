"""Ops structures that read like the kernel's C, and the template that numbers them.

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

Source: Russell 2007 (the split of ``struct paravirt_ops``), include/asm-i386/paravirt.h of that tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pvops.errors import OpsError

#: The name of a function, or None for NULL.
Pointer = str | None


class Config:
    """The kernel configuration symbols that decide which ops exist: the ``#ifdef`` of the headers.

    Symbols are named without their ``CONFIG_`` prefix. A condition is a symbol, ``!`` for its absence, and ``&`` and
    ``|`` between them (``&`` binds tighter): ``"X86_PAE|X86_64"``.
    """

    __slots__ = ("symbols",)

    def __init__(self, *symbols: str) -> None:
        self.symbols = frozenset(symbols)

    def holds(self, condition: str) -> bool:
        """Whether a condition holds; the empty condition always does."""
        if not condition:
            return True
        return any(all(self._term(t.strip()) for t in part.split("&")) for part in condition.split("|"))

    def _term(self, term: str) -> bool:
        return term[1:] not in self.symbols if term.startswith("!") else term in self.symbols

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
    """

    __slots__ = ("callee_save", "config", "doc", "jump", "name")

    def __init__(self, *, config: str = "", jump: bool = False, callee_save: bool = False, doc: str = "") -> None:
        self.name = ""
        for condition in reversed(ifdef.stack):
            config = _both(condition, config)
        self.config = config
        self.jump = jump
        self.callee_save = callee_save
        self.doc = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


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
                ops[field] = value
            elif isinstance(value, OpsStructMeta):
                for inner, op in value.ops.items():
                    config = _both(value.config, op.config)
                    ops[f"{field}.{inner}"] = Op(config=config, jump=op.jump, callee_save=op.callee_save, doc=op.doc)
        cls.ops = ops


class OpsStruct(metaclass=OpsStructMeta):
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

    values: dict[str, Pointer]

    def __init__(self, **pointers: Pointer | Mapping[str, Pointer]) -> None:
        struct = type(self).__name__
        given = _flat(pointers)
        unknown = [name for name in given if name not in type(self).ops]
        if unknown:
            raise OpsError(f"struct {struct} has no op {_listed(unknown)}{nearest(unknown[0], type(self).ops)}")
        missing = [name for name in type(self).ops if name not in given]
        if missing:
            raise OpsError(f"struct {struct} is filled without {_listed(missing)} (write None for NULL)")
        self.values = {name: given[name] for name in type(self).ops}

    def __getitem__(self, op: str) -> Pointer:
        try:
            return self.values[op]
        except KeyError:
            raise OpsError(f"struct {type(self).__name__} has no op {op}{nearest(op, type(self).ops)}") from None

    def __setitem__(self, op: str, pointer: Pointer) -> None:
        self[op]
        self.values[op] = pointer

    def replace(self, **pointers: Pointer | Mapping[str, Pointer]) -> OpsStruct:
        """A copy with some ops changed."""
        return type(self)(**{**self.values, **_flat(pointers)})


class TemplateOp:
    """One slot of the template: an op with its number.

    Attributes:
        struct: the structure's name, ``pv_irq_ops``.
        name: ``pv_irq_ops.irq_enable``, ``pv_mmu_ops.lazy_mode.enter``.
        field: the name inside the structure.
        type: its number, offset / pointer size.
        offset: in bytes from the start of the template.
        op: the declaration.
        c_name: how C spells the pointer: ``pv_irq_ops.irq_enable``, since 4.20 ``pv_ops.irq.irq_enable``.
    """

    __slots__ = ("c_name", "field", "name", "offset", "op", "struct", "type")

    def __init__(self, struct: str, field: str, type: int, offset: int, op: Op, c_name: str = "") -> None:
        self.struct = struct
        self.field = field
        self.name = f"{struct}.{field}"
        self.type = type
        self.offset = offset
        self.op = op
        self.c_name = c_name or self.name

    def __repr__(self) -> str:
        return f"<{self.name} type {self.type}>"


class Template:
    """``struct paravirt_patch_template``: all structures in order, which numbers their ops.

    "This contains all the paravirt structures: we get a convenient number for each function using the offset which we
    use to indicate what to patch." (Russell 2007). Structures and members whose condition does not hold are absent, and
    what stands behind them moves up.
    """

    def __init__(
        self, structs: tuple[type[OpsStruct], ...], config: Config, *, name: str = "", symbol: str = ""
    ) -> None:
        """Number the ops.

        Args:
            structs: the structures, in the order of the template's members.
            config: which of them, and of their members, exist.
            name: for messages: ``struct paravirt_patch_template of 2.6.24``.
            symbol: the variable that is the array (``pv_ops``); empty where each structure is its own variable.
        """
        self.name = name
        self.symbol = symbol
        self.config = config
        self.word = config.bits // 8
        self.structs = tuple(s for s in structs if config.holds(s.config))
        self.ops: list[TemplateOp] = []
        #: Offset in bytes of each structure, by its name.
        self.struct_offsets: dict[str, int] = {}
        self._absent = {
            f"{s.__name__}.{field}": _both(s.config, op.config) for s in structs for field, op in s.ops.items()
        }
        n = 0
        for struct in self.structs:
            self.struct_offsets[struct.__name__] = n * self.word
            n += len(struct.leading)
            path = [symbol] if symbol else []
            if struct.member is not None:
                path.append(struct.member or struct.__name__)
            for field, op in struct.ops.items():
                if config.holds(op.config):
                    c_name = ".".join((*path, field))
                    self.ops.append(TemplateOp(struct.__name__, field, n, n * self.word, op, c_name))
                    n += 1
        self._size = n * self.word
        self._by_name = {op.name: op for op in self.ops}
        self._by_type = {op.type: op for op in self.ops}

    @property
    def size(self) -> int:
        """``sizeof(struct paravirt_patch_template)`` in bytes."""
        return self._size

    def PARAVIRT_PATCH(self, op: str) -> int:  # noqa: N802 (the kernel's macro)
        """The number of an op: its offset in the template divided by the size of a pointer."""
        return self.op(op).offset // self.word

    def op(self, name: str) -> TemplateOp:
        """The slot of an op by its full name (``pv_irq_ops.irq_enable``); `OpsError` if there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            where = self.name or "this template"
            if name in self._absent:
                raise OpsError(f"no op {name} in {where}: configured out ({self._absent[name]})") from None
            raise OpsError(f"no op {name} in {where}{nearest(name, self._by_name)}") from None

    def offsetof(self, path: str) -> int:
        """Offset in bytes of a structure or an op, as C names it inside the template (``pv_irq_ops``, ``irq.save_fl``).

        `OpsError` if the template has no such member.
        """
        member, dot, field = path.partition(".")
        for struct in self.structs:
            if member == (struct.member or struct.__name__):
                if not dot:
                    return self.struct_offsets[struct.__name__]
                return self.op(f"{struct.__name__}.{field}").offset
        raise OpsError(f"{self.name or 'this template'} has no member {path}")

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, type: int) -> TemplateOp:
        try:
            return self._by_type[type]
        except KeyError:
            n = self._size // self.word
            raise OpsError(f"type {type} is outside {self.name or 'the template'}, which has {n} words") from None

    def __iter__(self) -> Iterator[TemplateOp]:
        return iter(self.ops)

    def __len__(self) -> int:
        return len(self.ops)


def _flat(pointers: Mapping[str, Pointer | Mapping[str, Pointer]]) -> dict[str, Pointer]:
    """Nested structures as dotted names: ``lazy_mode={"enter": …}`` is ``lazy_mode.enter``."""
    out: dict[str, Pointer] = {}
    for name, value in pointers.items():
        if isinstance(value, Mapping):
            out |= {f"{name}.{inner}": pointer for inner, pointer in value.items()}
        else:
            out[name] = value
    return out


def _both(outer: str, inner: str) -> str:
    """The condition that both hold, in the grammar of `Config` (which has no parentheses)."""
    if not outer or not inner:
        return outer or inner
    return "|".join(f"{a}&{b}" for a in outer.split("|") for b in inner.split("|"))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean …?)`` for a message, or nothing if no known name is like this one."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
