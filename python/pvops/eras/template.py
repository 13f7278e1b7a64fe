"""The template that numbers ops, and the array that is laid out like it.

Source: ``struct paravirt_patch_template``, arch/x86/include/asm/paravirt_types.h (2007: include/asm-x86/paravirt.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pvops.eras.structs import Config, Op, OpsStruct, Pointer, both
from pvops.errors import OpsError, nearest


class TemplateOp(NamedTuple):
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

    struct: str
    name: str
    field: str
    type: int
    offset: int
    op: Op
    c_name: str

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
            f"{s.__name__}.{field}": both(s.config, op.config) for s in structs for field, op in s.ops.items()
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
                    name, c_name = f"{struct.__name__}.{field}", ".".join((*path, field))
                    self.ops.append(TemplateOp(struct.__name__, name, field, n, n * self.word, op, c_name))
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


class Array(NamedTuple):
    """One array of ops: a template, and the variable that is laid out like it.

    Args:
        struct: what C calls its type, ``paravirt_patch_template``.
        structs: its structures in order.
        symbol: the variable, ``pv_ops``; empty where each structure is a variable of its own (2.6.24 to 4.19).
        config: condition under which there is one.
        export: ``EXPORT_SYMBOL`` or ``EXPORT_SYMBOL_GPL`` of the variable, or empty.
    """

    struct: str
    structs: tuple[type[OpsStruct], ...]
    symbol: str = ""
    config: str = ""
    export: str = ""


class PatchTemplate:
    """A template with structures in it: goes back from an op's number to what its structure holds *now*.

    "Neat trick to map patch type back to the call within the corresponding structure" (Russell 2007). It keeps the
    structures themselves and no copy: change one, and the answer changes.

    Raises:
        OpsError: if a structure of the template is missing, given twice, or of another era.
    """

    def __init__(self, template: Template, *structs: OpsStruct) -> None:
        self.template = template
        self.structs: dict[str, OpsStruct] = {}
        for struct in structs:
            name = type(struct).__name__
            if name in self.structs:
                raise OpsError(f"{name} is given twice")
            self.structs[name] = struct
        for wanted in template.structs:
            held = self.structs.get(wanted.__name__)
            if held is None:
                raise OpsError(f"{template.name or 'the template'} is filled without {wanted.__name__}")
            if type(held) is not wanted:
                raise OpsError(f"{wanted.__name__} is not that of {template.name or 'the template'}")

    def get_call_destination(self, type: int) -> Pointer:
        """What the op of this number points to; None for NULL.

        NULL too where the kernel was built not to see the structure (pv_lock_ops without CONFIG_PARAVIRT_SPINLOCKS).
        """
        op = self.template[type]
        struct = self.structs[op.struct]
        return struct[op.field] if self.template.config.holds(struct.called) else None

    def pointers(self) -> dict[str, Pointer]:
        """All ops in order, name → destination."""
        return {op.name: self.get_call_destination(op.type) for op in self.template}
