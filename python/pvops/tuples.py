"""`NamedTuple` as `typing` has it, whose classes are made without looking at their annotations, and without compiling.

Those are text here (PEP 563), which `typing` compiles, field by field: a third of what importing a command takes. What
`collections.namedtuple` compiles for each class differs in the names of its parameters alone, so it is made once for
each number of fields.
"""

from __future__ import annotations

from collections import namedtuple

from pvops.types_only import Generic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Tuple(tuple):
        """What all of them have beside their fields."""

        __slots__ = ()

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, /, **values):
            made = self._make(map(values.pop, self._fields, self))
            if values:
                raise ValueError(f"Got unexpected field names: {list(values)!r}")
            return made

        __replace__ = _replace

        def __repr__(self):
            fields = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({fields})"

        def __getnewargs__(self):
            return tuple(self)

    def _pattern(count):
        """A class of so many fields, whose `__new__` and whose fields serve all that have as many."""
        if count not in _PATTERNS:
            _PATTERNS[count] = namedtuple("_Pattern", [f"field_{number}" for number in range(count)])
        return _PATTERNS[count]

    _PATTERNS = {}

    class _Made(type):
        """Makes a tuple's class of a class that names `NamedTuple` as its only base."""

        def __new__(cls, name, bases, body):
            if bases[1:] not in ((), (Generic,)):
                raise TypeError(f"{name}: a NamedTuple has no other base, but that it may be generic")
            annotations = body.get("__annotations__", {})
            fields = tuple(annotations)
            given = [field in body for field in fields]
            if given != sorted(given):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            defaults = {field: body[field] for field in fields if field in body}
            pattern = _pattern(len(fields))
            new = pattern.__new__
            code = new.__code__.replace(co_varnames=("_cls", *fields))
            made = type(new)(code, new.__globals__, "__new__", tuple(defaults.values()))
            made.__qualname__ = f"{body['__qualname__']}.__new__"
            made.__annotations__ = annotations
            body |= {field: getattr(pattern, of) for field, of in zip(fields, pattern._fields, strict=True)}
            body |= {"_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            body.setdefault("__doc__", f"{name}({', '.join(fields)})")
            return type(name, (_Tuple,), {**body, "__new__": made, "__slots__": ()})

    NamedTuple = type.__new__(_Made, "NamedTuple", (), {})
