"""Guests for tests: built once, run often."""

from __future__ import annotations

from functools import cache

from pvops.emulate import GuestImage, Limits, Result, hosts, run
from pvops.emulate.guest import shipped, tour
from pvops.emulate.guest.image import ERAS
from pvops.emulate.guest.program import Program, Raw, Step

#: Every era with each of its backends.
PAIRS = [(era, backend) for era in ERAS for backend in hosts.BACKENDS[era]]


@cache
def image(name: str, era: str) -> GuestImage:
    """A shipped guest, or ``tour-BACKEND``."""
    if name.startswith("tour-"):
        return GuestImage(tour.tour(name.removeprefix("tour-"), era), era)
    return GuestImage(shipped.program(name), era)


def ran(
    guest: GuestImage,
    backend: str = "native",
    *,
    patched: bool = True,
    lazy: bool = True,
    nops: str = "k8",
    trace: bool = False,
    limits: Limits | None = None,
) -> Result:
    """One run."""
    host = hosts.of(backend, guest.era)(guest)
    return run(guest, host, patched=patched, lazy=lazy, nops=nops, trace=trace, limits=limits)


def built(*steps: Step | Raw, era: str = "seed", name: str = "test", **options: object) -> GuestImage:
    """A guest of these steps."""
    return GuestImage(Program(name, "for a test", tuple(steps)), era, **options)  # type: ignore[arg-type]
