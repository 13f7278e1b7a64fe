"""Locks as machine code, one description each for i386 and x86-64: the spinlocks of Linux, and what became of them."""

from __future__ import annotations

from typing import Final

from pvops.errors import RunError, there_are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.locks.code import Protocol

#: Where each protocol is.
_WHERE = {
    "ticket-2.6.25": ("ticket_2_6_25", "PROTOCOL"),
    "xen-byte-2.6.27": ("xen_byte", "PROTOCOL"),
    "ticket-callout-2010": ("callout", "PROTOCOL"),
    "pv-ticket-3.12": ("pv_tickets", "V3_12"),
    "pv-ticket-4.0": ("pv_tickets", "V4_0"),
    "pv-ticket-sym": ("pv_ticket", "PROTOCOL"),
}

#: Their names, oldest first.
NAMES = tuple(_WHERE)
#: The sound protocol and every mutant of it.
ALL: Final = "all"


def protocol(name: str) -> Protocol:
    """A protocol by name; `RunError` where there is none."""
    from importlib import import_module

    if name not in _WHERE:
        raise RunError(f"no lock {name}{there_are(name, NAMES)}")
    module, attribute = _WHERE[name]
    found: Protocol = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found


def having(mutant: str) -> tuple[str, ...]:
    """The protocols with this mutant, oldest first; `RunError` where none has it."""
    mutants = {name: protocol(name).mutants for name in NAMES}
    found = tuple(name for name in NAMES if mutant in mutants[name])
    if not found:
        every = dict.fromkeys(each for of_one in mutants.values() for each in of_one)
        raise RunError(f"no lock has a mutant {mutant}{there_are(mutant, (*every, ALL, 'none'))}")
    return found
