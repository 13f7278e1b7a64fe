"""`NamedTuple` as `typing` has it, whose classes are made without looking at their annotations.

Those are text here (PEP 563), which `typing` compiles, field by field: a third of what importing a command takes.
"""

from __future__ import annotations

from collections import namedtuple

from pvops.types_only import Generic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Made(type):
        """Makes a tuple's class of a class that names `NamedTuple` as its only base."""

        def __new__(cls, name, bases, body):
            if bases[1:] not in ((), (Generic,)):
                raise TypeError(f"{name}: a NamedTuple has no other base, but that it may be generic")
            fields = body.get("__annotations__", {})
            given = [field in body for field in fields]
            if given != sorted(given):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            defaults = [body[field] for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            made.__annotations__ = made.__new__.__annotations__ = dict(fields)
            for key, value in body.items():
                if key not in fields and key not in ("__module__", "__annotations__"):
                    setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_Made, "NamedTuple", (), {})
