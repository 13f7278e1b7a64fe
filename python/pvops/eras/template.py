"""The template that numbers ops, and the array that is laid out like it.

Source: ``struct paravirt_patch_template``, arch/x86/include/asm/paravirt_types.h (2007: include/asm-x86/paravirt.h).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from types import MappingProxyType

from pvops.eras.structs import Config, Op, OpsStruct, Pointer, Unchanging, both
from pvops.errors import OpsError, nearest
from pvops.tuples import NamedTuple


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


class Template(Unchanging):
    """``struct paravirt_patch_template``: all structures in order, which numbers their ops.

    "This contains all the paravirt structures: we get a convenient number for each function using the offset which we
    use to indicate what to patch." (Russell 2007). Structures and members whose condition does not hold are absent, and
    what stands behind them moves up.

    Attributes:
        name: for messages.
        symbol: the variable that is the array, or empty.
        config: which ops exist.
        word: pointer size in bytes.
        structs: the structures that exist, in order.
        ops: their ops in order.
        struct_offsets: offset in bytes of each structure, by its name.
        size: ``sizeof(struct paravirt_patch_template)`` in bytes.
    """

    name: str
    symbol: str
    config: Config
    word: int
    structs: tuple[type[OpsStruct], ...]
    ops: tuple[TemplateOp, ...]
    struct_offsets: Mapping[str, int]
    size: int
    _absent: Mapping[str, str]
    _by_name: Mapping[str, TemplateOp]
    _by_type: Mapping[int, TemplateOp]
    _renewed = "Template()"

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
        word = config.bits // 8
        present = tuple(s for s in structs if config.holds(s.config))
        absent = {f"{s.__name__}.{field}": both(s.config, op.config) for s in structs for field, op in s.ops.items()}
        ops: list[TemplateOp] = []
        offsets: dict[str, int] = {}
        n = 0
        for struct in present:
            offsets[struct.__name__] = n * word
            n += len(struct.leading)
            path = [symbol] if symbol else []
            if struct.member is not None:
                path.append(struct.member or struct.__name__)
            for field, op in struct.ops.items():
                if config.holds(op.config):
                    full, c_name = f"{struct.__name__}.{field}", ".".join((*path, field))
                    ops.append(TemplateOp(struct.__name__, full, field, n, n * word, op, c_name))
                    n += 1
        vars(self).update(
            name=name,
            symbol=symbol,
            config=config,
            word=word,
            structs=present,
            ops=tuple(ops),
            struct_offsets=MappingProxyType(offsets),
            size=n * word,
            _absent=absent,
            _by_name={op.name: op for op in ops},
            _by_type={op.type: op for op in ops},
        )

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
            n = self.size // self.word
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
        numbered: types are numbers of their own and no places in it (2.6.20, 2.6.21): the sites say where slots lie.
    """

    struct: str
    structs: tuple[type[OpsStruct], ...]
    symbol: str = ""
    config: str = ""
    export: str = ""
    numbered: bool = False

    @lru_cache(64)  # noqa: B019 (arrays are few and stay)
    def template(self, config: Config, name: str) -> Template:
        """Its template under a configuration."""
        return Template(self.structs, config, name=name, symbol=self.symbol)


@cache
def conditions(arrays: tuple[Array, ...]) -> tuple[str, ...]:
    """All conditions that decide what the templates of these arrays are, and which of their structures are called."""
    found: dict[str, None] = {array.config: None for array in arrays}
    for struct in (struct for array in arrays for struct in array.structs):
        found |= dict.fromkeys((struct.config, struct.called, *(op.config for op in struct.ops.values())))
    return tuple(condition for condition in found if condition)


class PatchTemplate(Unchanging):
    """A template with structures in it: goes back from an op's number to what its structure holds.

    "Neat trick to map patch type back to the call within the corresponding structure" (Russell 2007).

    Raises:
        OpsError: if a structure of the template is missing, given twice, or of another era.
    """

    template: Template
    structs: Mapping[str, OpsStruct]
    _renewed = "PatchTemplate()"

    def __init__(self, template: Template, *structs: OpsStruct) -> None:
        by_name: dict[str, OpsStruct] = {}
        for struct in structs:
            name = type(struct).__name__
            if name in by_name:
                raise OpsError(f"{name} is given twice")
            by_name[name] = struct
        vars(self).update(template=template, structs=MappingProxyType(by_name))
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
