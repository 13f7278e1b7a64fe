"""Bare hardware: nothing traps, and the state is the CPU's own."""

from __future__ import annotations

from pvops.emulate.hosts.host import HostModel


class Native(HostModel):
    """The guest's kernel runs in ring 0 and does everything itself."""

    name = "native"
