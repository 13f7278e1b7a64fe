"""Many runs: every guest, era and backend, patched or not, lazy or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from pvops.emulate import hosts
from pvops.emulate.guest import wide
from pvops.emulate.guest.image import ERAS, GuestImage
from pvops.emulate.session import Result, run
from pvops.errors import RunError, there_are
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Limits
    from pvops.emulate.guest.built import BuiltGuest
    from pvops.emulate.guest.program import Program


class Job(NamedTuple):
    """What to run; every combination of it.

    Attributes:
        programs: the guests; one that is a name is the tour on x86-64.
        eras: which kernels; guests that an era does not have are left out. Empty: all that each has.
        backends: below them; those that an era does not have are left out. Empty: all.
        patched: with sites patched, without, or both.
        lazy: likewise for lazy sections.
        nops: the nop table.
        without: classes of ops configured out.
        length: the least length of a site in bytes.
        trace: note every call of an op.
        limits: what each run may take; the usual ones if None.
    """

    programs: Sequence[Program | str]
    eras: Sequence[str] = ()
    backends: Sequence[str] = ()
    patched: Sequence[bool] = (False, True)
    lazy: Sequence[bool] = (False, True)
    nops: str = "k8"
    without: Sequence[str] = ()
    length: int = 0
    trace: bool = False
    limits: Limits | None = None


def images(job: Job) -> Iterator[BuiltGuest]:
    """Each guest, built for each era that it has.

    Raises:
        RunError: none of the guests has one of the eras, or an option is none of the guest's.
    """
    there = {name: wide.ERAS if name == wide.NAME else ERAS for name in job.programs}
    known = {era for eras in there.values() for era in eras}
    for program, eras in there.items():
        for era in job.eras or eras:
            if era in eras or era not in known:
                yield _image(program, era, job)


def _image(program: Program | str, era: str, job: Job) -> BuiltGuest:
    if isinstance(program, str):
        from pvops.emulate.guest.wide.image import WideImage

        return WideImage(era, without=job.without, length=job.length)
    return GuestImage(program, era, without=job.without, length=job.length)


def results(job: Job) -> Iterator[Result]:
    """Every run, as it is done.

    Raises:
        RunError: as `images`; or there is no such backend, in any of the eras.
    """
    built = list(images(job))
    known = dict.fromkeys(name for image in built for name in hosts.below(image))
    for backend in job.backends:
        if built and backend not in known:
            eras = " or ".join(dict.fromkeys(image.era for image in built))
            raise RunError(f"no guest of {eras} runs under {backend}{there_are(backend, known)}")
    for image in built:
        for backend, host in hosts.below(image).items():
            if job.backends and backend not in job.backends:
                continue
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
