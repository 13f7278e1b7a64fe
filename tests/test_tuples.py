"""`pvops.tuples.NamedTuple`: what classes are made of it."""

from __future__ import annotations

import pickle
import typing

import pytest

from pvops.tuples import NamedTuple


class Ours(NamedTuple):
    """Two numbers."""

    first: int
    second: int = 2

    @property
    def sum(self) -> int:
        """Both."""
        return self.first + self.second


class Theirs(typing.NamedTuple):
    """Two numbers."""

    first: int
    second: int = 2


def test_a_class_is_what_typing_makes_of_it() -> None:
    assert Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults
    assert (Ours.__doc__, Ours.__module__, Ours.__qualname__) == (Theirs.__doc__, __name__, "Ours")
    assert tuple(Ours(1)) == tuple(Theirs(1)) == (1, 2)
    assert repr(Ours(1)) == "Ours(first=1, second=2)"
    assert Ours(1, second=4).sum == 5
    assert Ours(1)._replace(first=3).sum == 5
    assert pickle.loads(pickle.dumps(Ours(1))) == Ours(1)
    assert typing.get_type_hints(Ours) == typing.get_type_hints(Theirs)


def test_what_typing_refuses_is_refused() -> None:
    with pytest.raises(TypeError, match="without a default follows"):
        exec("class Wrong(NamedTuple):\n first: int = 1\n second: int", {"NamedTuple": NamedTuple, "__name__": "x"})
    with pytest.raises(TypeError, match="no other base"):
        exec("class Wrong(NamedTuple, dict):\n first: int", {"NamedTuple": NamedTuple, "__name__": "x"})
