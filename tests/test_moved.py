"""Modules of 0.1 are found by their old names, with a warning that names the new one."""

import sys
from importlib import import_module

import pytest

from pvops._moved import MOVED, new_name


@pytest.mark.parametrize("old", sorted({*MOVED, "asm.x86", "ops.structs", "run.hosts.kvm"}))
def test_an_old_name_gives_the_new_module(old: str) -> None:
    sys.modules.pop(f"pvops.{old}", None)
    with pytest.warns(DeprecationWarning, match="now"):
        module = import_module(f"pvops.{old}")
    assert module is import_module(f"pvops.{new_name(old)}")


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("pvops.asm.nothing_of_this_name")
