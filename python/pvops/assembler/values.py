"""Values that are known only when everything has its place: addresses of labels, and differences of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from pvops.errors import AssemblyError
from pvops.tuples import NamedTuple

_serials = count()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Local:
    """A label that only the one who holds it can refer to, like the assembler's ``771:``; names may repeat."""

    name: str
    serial: int = field(default_factory=_serials.__next__, init=False)

    def __repr__(self) -> str:
        return f"<label {self.name}>"


#: What a label is called.
Name = str | Local


class Value(NamedTuple):
    """``plus - minus + addend``, as the assembler's expressions; either label may be absent."""

    plus: Name | None
    addend: int = 0
    minus: Name | None = None

    def __add__(self, other: object) -> Value:
        if not isinstance(other, int):
            return NotImplemented
        return self._replace(addend=self.addend + other)

    def __sub__(self, other: Value | int) -> Value:
        if isinstance(other, int):
            return self._replace(addend=self.addend - other)
        if self.minus is not None or other.minus is not None:
            raise AssemblyError(f"({self}) - ({other}) is no difference of two addresses")
        return Value(self.plus, self.addend - other.addend, other.plus)

    def resolve(self, places: Mapping[Name, int]) -> int:
        """The number, once every label has its address; `AssemblyError` for one that is nowhere defined."""
        total = self.addend
        for name, sign in ((self.plus, 1), (self.minus, -1)):
            if name is None:
                continue
            if name not in places:
                raise AssemblyError(f"undefined label {name_of(name)}")
            total += sign * places[name]
        return total

    def __str__(self) -> str:
        text = "" if self.plus is None else name_of(self.plus)
        if self.minus is not None:
            text += f"-{name_of(self.minus)}"
        if self.addend or not text:
            text += f"{self.addend:+#x}" if text else f"{self.addend:#x}"
        return text


def name_of(name: Name) -> str:
    """What a label is called in a message or in source: a `Local` is ``.L771_4``, as the assembler hides them."""
    return name if isinstance(name, str) else f".L{name.name}_{name.serial}"


def addr(name: Name) -> Value:
    """The address of a label: ``$irq_enabled`` of AT&T syntax as an operand, ``.long irq_enabled`` as data."""
    return Value(name)


def number(value: Value | int) -> Value:
    """A value, from a number too."""
    return Value(None, value) if isinstance(value, int) else value
