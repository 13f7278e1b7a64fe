"""The kernel's assembly macros in Python: paravirt sites, entry code, natives, alternatives."""
