"""The names of the tables of sites."""

from __future__ import annotations

import pvops._core as _core

#: Every table of sites, as the command line and JSON name them, the paravirt sites first: those of the core's passes.
TABLES = tuple(name for name, table, _, _ in _core.passes() if table is not None)
