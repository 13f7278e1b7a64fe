"""The names of the tables of sites."""

from __future__ import annotations

#: Every table of sites, as the command line and JSON name them, the paravirt sites first.
TABLES = (
    "paravirt",
    "alternatives",
    "retpolines",
    "returns",
    "smp_locks",
    "static_calls",
    "trampolines",
    "jump_labels",
    "ibt",
    "mcount",
    "call_sites",
    "runtime_const",
)
