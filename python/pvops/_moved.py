"""Modules of 0.1 that have moved: importing one by its old name gives the new one, with a `DeprecationWarning`.

The old names go with version 0.3.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

#: Old name below ``pvops`` → new one; what lies below an old name lies below the new one too, unless it is listed.
MOVED = {
    "asm": "assembler",
    "asm.alternatives": "emulate.macros.alternatives",
    "asm.calls": "emulate.macros.calls",
    "asm.entry": "emulate.macros.entry",
    "asm.natives": "emulate.macros.natives",
    "asm.paravirt": "emulate.macros.paravirt",
    "asm.site": "emulate.macros.site",
    "facts": "machine.facts",
    "memory": "image.memory",
    "ops": "eras",
    "ops.seed": "eras.v2_6_24_rc1",
    "presets": "machine.presets",
    "report": "verify.report",
    "run": "emulate",
    "sites": "image.sites",
}


def new_name(old: str) -> str | None:
    """``assembler.x86`` for ``asm.x86``; None for a name that has not moved."""
    if old in MOVED:
        return MOVED[old]
    head, dot, tail = old.rpartition(".")
    moved = new_name(head) if dot else None
    return f"{moved}.{tail}" if moved else None


class _Alias:
    """Puts the new module where the old name is looked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> None:
        """None: the import system makes an empty module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Replaces the empty module of the old name."""
        from importlib import import_module

        sys.modules[module.__name__] = import_module(self._name)


class Finder:
    """Finds what lies below ``pvops`` by an old name; asked first, since a moved package would find its own again."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's specification, or None where the name is no old one."""
        if not fullname.startswith("pvops."):
            return None
        moved = new_name(fullname.removeprefix("pvops."))
        if moved is None:
            return None
        from importlib.machinery import ModuleSpec
        from importlib.util import find_spec

        try:
            if find_spec(f"pvops.{moved}") is None:
                return None
        except ModuleNotFoundError:
            return None
        import warnings

        warnings.warn(f"{fullname} is pvops.{moved} now", DeprecationWarning, stacklevel=2)
        return ModuleSpec(fullname, _Alias(f"pvops.{moved}"))  # type: ignore[arg-type]  # a loader by its methods


def install() -> None:
    """Has the old names found."""
    sys.meta_path.insert(0, Finder())
