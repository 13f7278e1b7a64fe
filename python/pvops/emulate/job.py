"""Many runs: every guest, era and backend, patched or not, lazy or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from pvops.emulate import hosts
from pvops.emulate.guest.image import ERAS, GuestImage
from pvops.emulate.session import Result, run

if TYPE_CHECKING:
    from pvops.emulate.cpu import Limits
    from pvops.emulate.guest.program import Program


class Job(NamedTuple):
    """What to run; every combination of it.

    Attributes:
        programs: the guests.
        eras: which kernels.
        backends: below them; those that an era does not have are left out. Empty: all.
        patched: with sites patched, without, or both.
        lazy: likewise for lazy sections.
        nops: the nop table.
        without: classes of ops configured out.
        length: the least length of a site in bytes.
        trace: note every call of an op.
        limits: what each run may take; the usual ones if None.
    """

    programs: Sequence[Program]
    eras: Sequence[str] = ERAS
    backends: Sequence[str] = ()
    patched: Sequence[bool] = (False, True)
    lazy: Sequence[bool] = (False, True)
    nops: str = "k8"
    without: Sequence[str] = ()
    length: int = 0
    trace: bool = False
    limits: Limits | None = None


def images(job: Job) -> Iterator[GuestImage]:
    """Each guest, built for each era."""
    for program, era in product(job.programs, job.eras):
        yield GuestImage(program, era, without=job.without, length=job.length)


def results(job: Job) -> Iterator[Result]:
    """Every run, as it is done.

    Raises:
        RunError: there is no such backend, in any of the eras.
    """
    for backend in job.backends:
        if not any(backend in hosts.BACKENDS[era] for era in job.eras):
            hosts.of(backend, job.eras[0])
    for image in images(job):
        for backend in hosts.BACKENDS[image.era]:
            if job.backends and backend not in job.backends:
                continue
            host = hosts.of(backend, image.era)
            for patched, lazy in product(job.patched, job.lazy):
                yield run(
                    *(image, host(image)),
                    patched=patched,
                    lazy=lazy,
                    nops=job.nops,
                    trace=job.trace,
                    limits=job.limits,
                )


def differing(found: Iterable[Result]) -> list[str]:
    """What must not be: runs that ended badly, guests whose runs ended in different states; empty if all is well."""
    out = []
    states: dict[tuple[str, str], dict[str, list[str]]] = {}
    for result in found:
        what = f"{result.guest} ({result.era}) under {result.backend}"
        if result.stop.kind != "done":
            out.append(f"{what}: {result.stop.why}")
            continue
        by_state = states.setdefault((result.guest, result.era), {})
        by_state.setdefault(result.final_state, []).append(what)
    for (guest, era), by_state in states.items():
        if len(by_state) > 1:
            ends = "; ".join(sorted({runs[0] for runs in by_state.values()}))
            out.append(f"{guest} ({era}) ends in {len(by_state)} states: {ends}")
    return out
