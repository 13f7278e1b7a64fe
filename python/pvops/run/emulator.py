"""Unicorn, loaded when a guest runs; without it the command says what to install."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from pvops.errors import RunError

if TYPE_CHECKING:
    from unicorn import Uc

#: What to install for guests to run.
NEEDED = "running guests needs Unicorn: pip install 'linux-pvops[run]'"

_REGISTERS = (
    "eax ebx ecx edx esi edi ebp esp eip eflags cs ds es ss cr0 cr2 cr3 cr4 dr0 dr1 dr2 dr3 dr6 dr7 gdtr idtr ldtr tr"
)


def unicorn() -> tuple[ModuleType, dict[str, int], Uc]:
    """The library, its numbers of registers and hooked instructions by name, and a new 32-bit CPU.

    Raises:
        RunError: it is not installed.
    """
    library, numbers = _loaded()
    return library, numbers, library.Uc(library.UC_ARCH_X86, library.UC_MODE_32)


@cache
def _loaded() -> tuple[ModuleType, dict[str, int]]:
    try:
        import unicorn as library
        from unicorn import x86_const
    except ImportError:
        raise RunError(NEEDED) from None
    numbers = {name: getattr(x86_const, f"UC_X86_REG_{name.upper()}") for name in _REGISTERS.split()}
    numbers |= {name: getattr(x86_const, f"UC_X86_INS_{name.upper()}") for name in ("in", "out", "cpuid")}
    return library, numbers
