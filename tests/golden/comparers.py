"""Which goldens we can reproduce: kind of line → function.

A comparer takes a line and returns the fields of it that we compute, as we compute them; the runner compares each with
the line's own. It returns None for a line that it does not speak about. To support another kind, write such a function
in a ``comparers_*.py`` and add it to the dict there; to add a file, merge its dict here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from golden import comparers_boot, comparers_ops, comparers_patching
from golden.data import Line

Comparer = Callable[[Line], dict[str, Any] | None]

COMPARERS: dict[str, Comparer] = {
    **comparers_boot.COMPARERS,
    **comparers_ops.COMPARERS,
    **comparers_patching.COMPARERS,
}

# Without the assembler's encoder (extra `run`) its kinds are printed as not compared.
if find_spec("iced_x86"):
    from golden import comparers_asm

    COMPARERS |= comparers_asm.COMPARERS
