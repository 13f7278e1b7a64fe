"""A class that `dataclasses` takes for one of its own, and that is made without it: importing it takes as long as
importing half of a command.
"""

from __future__ import annotations

from pvops.types_only import dataclass_transform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field
    from typing import Any, ClassVar, NoReturn, Self


class _Fields:
    """``__dataclass_fields__``, made when `dataclasses.replace`, `fields` or `asdict` ask for it."""

    def __get__(self, _: object, owner: type[Frozen]) -> Mapping[str, Field[Any]]:
        from dataclasses import field, fields, make_dataclass

        compared = owner._uncompared.__contains__
        made = make_dataclass(
            owner.__name__, [(name, kind, field(compare=not compared(name))) for name, kind in owner._kinds().items()]
        )
        return {one.name: one for one in fields(made)}


@dataclass_transform(frozen_default=True)
class Frozen:
    """A base whose instances do not change; its class's annotations are its fields, which its ``__init__`` sets by
    `_set`. Two are equal whose fields are, but for those of `_uncompared`."""

    _uncompared: ClassVar[frozenset[str]] = frozenset()
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    else:
        __dataclass_fields__ = _Fields()

    @classmethod
    def _kinds(cls) -> Mapping[str, str]:
        """The fields, each with its annotation."""
        return cls.__annotations__

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        names = (name for name in self._kinds() if name not in self._uncompared)
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def _replace(self, **changes: Any) -> Self:
        """The same with other values, as `dataclasses.replace` makes it."""
        return self.__class__(**{name: getattr(self, name) for name in self._kinds()} | changes)

    __replace__ = _replace
