"""What type checkers know from `typing`, where a program makes classes of it: nothing of that is imported to run.

Annotations are text (PEP 563), so only what a class is made of, or called when a file is imported, needs to be there at
all. `typing` itself takes as long to import as all commands' grammar.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic as Generic
    from typing import Protocol as Protocol
    from typing import TypedDict as TypedDict
    from typing import TypeVar as TypeVar
    from typing import dataclass_transform as dataclass_transform
else:

    class Generic:
        """A base without anything: ``Rows[int]`` is ``Rows``."""

        def __class_getitem__(cls, _):
            return cls

    class Protocol:
        """A base without anything."""

    class TypedDict(dict):
        """A dictionary."""

        def __init_subclass__(cls, total=True):
            pass

    class TypeVar:
        """The name of a type."""

        def __init__(self, name, **_):
            self.__name__ = name

    def dataclass_transform(**_):
        """What a decorator makes of a class: the class."""
        return lambda made: made
