"""The lock protocols, model-checked: every state that threads on x86-TSO can reach, seen.

>>> from pvops.lock import check
>>> for row in check("pv-ticket", None, threads=2, slots=1):     # no violation in any state
...     print(row.scenario, row.finished, row.violation)
plain True None
timeouts True None
>>> [row] = check("pv-ticket", "missing-fence")
>>> row.violation, len(row.trace)
('lost-kick', 10)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import pvops._core as _core
from pvops.errors import LockError, nearest

#: States after which a search gives up unfinished: some 600 MB of memory at most.
STATES: Final = 10_000_000

#: As often as a thread can be told to acquire, where it is told.
MOST_ACQUISITIONS: Final = 7

#: Bugs that need waiters who share a slot. With S slots, those share one whose tickets are S apart: each slot more
#: takes a thread more.
_OF_SHARED_SLOTS: Final = frozenset(("wrong-hand-clears", "one-slot-for-all"))

#: Every mutant of the protocols asked for, and the protocols themselves.
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Event:
    """One action of a run, and what it left.

    Attributes:
        thread: who acts.
        drains: its oldest buffered store reaches memory; else its program takes a step.
        choice: which of the ways on that the program leaves open: three bits for each place that has several, the
            first lowest, from 0.
        text: what it did, and what it read.
        memory: every variable afterwards; those that each thread has are ``T0.kicked``.
        buffers: each thread's store buffer afterwards, (place, value), the oldest first.
    """

    thread: int
    drains: bool
    choice: int
    text: str
    memory: Mapping[str, int]
    buffers: Sequence[Sequence[tuple[str, int]]]

    def document(self) -> dict[str, object]:
        """The object of the JSON document."""
        return {
            "thread": self.thread,
            "drains": self.drains,
            "choice": self.choice,
            "text": self.text,
            "memory": dict(self.memory),
            "buffers": [[list(store) for store in buffer] for buffer in self.buffers],
        }


@dataclass(frozen=True, slots=True)
class Check:
    """A case, and what came of it.

    Attributes:
        protocol: the protocol's name.
        mutant: the bug that is planted, None in the sound protocol.
        scenario: what happens besides threads that acquire: ``plain`` is nothing.
        threads: how many.
        slots: parking slots, None where waiters have none.
        acquisitions: how often each thread acquires, None: as often as it likes.
        states: how many were seen, after reduction.
        finished: every reachable state was seen, or a violation found; of a mutant that holds with so few acquisitions,
            how many its bug needs was found too.
        violation: what is broken, None if nothing was found.
        what: the same in words.
        trace: the shortest run that breaks it.
        needs: the fewest threads that show the mutant's bug on these slots; None in the sound protocol.
        needs_acquisitions: how often each thread must acquire to show the mutant's bug, where it held for fewer: found
            by searches with more, and 8 where 7 are not enough and no bound is. None where the bug showed.
    """

    protocol: str
    mutant: str | None
    scenario: str
    threads: int
    slots: int | None
    acquisitions: int | None
    states: int = 0
    finished: bool = False
    violation: str | None = None
    what: str | None = None
    trace: Sequence[Event] = ()
    needs: int | None = None
    needs_acquisitions: int | None = None

    @property
    def too_few_threads(self) -> bool:
        """The mutant's bug needs more threads than there are."""
        return self.needs is not None and self.threads < self.needs

    @property
    def too_few(self) -> bool:
        """The mutant's bug needs more threads than there are, or more acquisitions of each."""
        return self.too_few_threads or self.needs_acquisitions is not None

    @property
    def caught(self) -> bool:
        """A violation was found."""
        return self.violation is not None

    @property
    def as_expected(self) -> bool:
        """The sound protocol was seen whole and holds; the mutant is caught, or had too few threads or acquisitions."""
        return self.finished and self.caught == (self.mutant is not None and not self.too_few)

    @property
    def case(self) -> tuple[str, str | None, str, int, int | None, int | None]:
        """What was checked."""
        return (self.protocol, self.mutant, self.scenario, self.threads, self.slots, self.acquisitions)

    def document(self) -> dict[str, object]:
        """The object of the JSON document."""
        return {
            "protocol": self.protocol,
            "mutant": self.mutant,
            "tool": "tso",
            "scenario": self.scenario,
            "threads": self.threads,
            "slots": self.slots,
            "acquisitions": self.acquisitions,
            "bound": None,
            "states": self.states,
            "finished": self.finished,
            "caught": self.caught,
            "violation": self.violation,
            "what": self.what,
            "needs_threads": self.needs,
            "needs_acquisitions": self.needs_acquisitions,
            "trace": [event.document() for event in self.trace] or None,
        }


def protocols() -> dict[str, list[str]]:
    """Each protocol's mutants."""
    return {name: mutants for name, mutants, _ in _core.lock_protocols()}


def uncatchable() -> dict[str, str]:
    """Known bugs that are no mutants here, and why."""
    return dict(_core.lock_uncatchable())


def _needs(row: Check, slots: int | None) -> int | None:
    """The fewest threads that show the bug of a standard case, on so many slots."""
    if row.mutant is None:
        return None
    if row.mutant not in _OF_SHARED_SLOTS or row.slots is None or slots is None:
        return row.threads
    return row.threads + slots - row.slots


def cases(
    protocol: str | None = None,
    mutant: str | Literal["all"] | None = ALL,
    *,
    threads: int | None = None,
    slots: int | None = None,
    acquisitions: int | None = None,
) -> list[Check]:
    """What :func:`check` would check: the standard cases, of these; with numbers, each case once, with those."""
    for name, number in (("threads", threads), ("parking slots", slots), ("acquisitions a thread", acquisitions)):
        # The core checks the ranges; it takes bytes, and other numbers cannot be passed to it.
        if number is not None and not 0 <= number < 256:
            raise LockError(f"{number} {name} cannot be checked")
    known = protocols()
    if protocol is not None and protocol not in known:
        raise LockError(f"there is no protocol {protocol}{nearest(protocol, known)}: there are {', '.join(known)}")
    if mutant not in (None, ALL):
        having = [name for name, mutants in known.items() if mutant in mutants]
        if not having:
            every = dict.fromkeys(name for mutants in known.values() for name in mutants)
            near = nearest(mutant, (*every, ALL, "none"))
            raise LockError(f"there is no mutant {mutant}{near}: there are {', '.join(every)}")
        if protocol is not None and protocol not in having:
            raise LockError(f"{protocol} has no mutant {mutant}; it has {', '.join(known[protocol])}")
    found: dict[tuple[object, ...], Check] = {}
    for case in _core.lock_standard():
        row = Check(*case)
        row = replace(row, needs=_needs(row, row.slots if slots is None else slots))
        if protocol not in (None, row.protocol) or mutant not in (ALL, row.mutant):
            continue
        if slots is not None and row.slots is None:
            if protocol is not None:
                raise LockError(f"the waiters of {protocol} do not park on slots")
            continue
        row = replace(
            row,
            threads=row.threads if threads is None else threads,
            slots=row.slots if slots is None else slots,
            acquisitions=acquisitions,
        )
        found[row.case] = row
    return list(found.values())


def check(
    protocol: str | None = None,
    mutant: str | Literal["all"] | None = ALL,
    *,
    threads: int | None = None,
    slots: int | None = None,
    acquisitions: int | None = None,
    states: int = STATES,
) -> list[Check]:
    """Checks protocols and mutants; everything in the standard sizes if nothing is named.

    Args:
        protocol: one protocol, or None for each.
        mutant: one mutant, None for the sound protocols, ``"all"`` for both.
        threads: how many, 1 to 6; None: as the standard case has it.
        slots: parking slots, 1, 2, 4 or 8; None: as the standard case has it.
        acquisitions: how often each thread acquires, 1 to 7; None: as often as it likes.
        states: how many to see at most in one case; a search that meets more is not finished.

    Raises:
        LockError: there is no such protocol or mutant, or the numbers make no sense.
    """
    chosen = cases(protocol, mutant, threads=threads, slots=slots, acquisitions=acquisitions)
    return list(checked(chosen, states))


def checked(chosen: Sequence[Check], states: int = STATES) -> Iterator[Check]:
    """Checks these cases, one after the other."""
    if not 0 <= states < 2**32:
        raise LockError(f"a limit of {states} states makes no sense")
    for case in chosen:
        row = _searched(case, states)
        if row.mutant is not None and row.finished and not row.caught and not row.too_few_threads:
            row = _with_need(row, states)
        yield row


def _searched(case: Check, states: int) -> Check:
    """The case with what one search found."""
    seen, finished, violation, what, run = _core.lock_check(case.case, states)
    trace = [
        Event(thread, drains, choice, text, dict(memory), buffers)
        for thread, drains, choice, text, memory, buffers in run
    ]
    return replace(case, states=seen, finished=finished, violation=violation, what=what, trace=trace)


def _with_need(row: Check, states: int) -> Check:
    """A mutant that holds, with how often each thread must acquire to show its bug: the least that a search finds."""
    if row.acquisitions is None:
        return row
    for acquisitions in range(row.acquisitions + 1, MOST_ACQUISITIONS + 2):
        bound = acquisitions if acquisitions <= MOST_ACQUISITIONS else None
        more = _searched(replace(row, acquisitions=bound), states)
        if more.caught:
            return replace(row, needs_acquisitions=acquisitions)
        if not more.finished:
            return replace(row, finished=False)
    return row


def replay(row: Mapping[str, Any]) -> str:
    """Takes the trace of a row of ``pvops lock check --json`` again: what it breaks, in words.

    Raises:
        LockError: the row is not one, its trace cannot be taken, or it does not end in the violation it names.
    """
    try:
        case = Check(
            *(row["protocol"], row["mutant"], row.get("scenario", "plain")),
            *(row["threads"], row.get("slots"), row["acquisitions"]),
        )
        run = [(e["thread"], e["drains"], e["choice"], e["text"]) for e in row["trace"] or []]
        if not run:
            raise LockError("the row has no trace", section="trace")
        violation, what = _core.lock_replay(case.case, run)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise LockError(f"not a row of `pvops lock check --json`: {error}", section="trace") from None
    if row.get("violation") not in (None, violation):
        raise LockError(f"the trace ends in {violation}, not in {row['violation']}", section="trace")
    return what


def follow(
    protocol: str,
    mutant: str | None,
    threads: int,
    run: Sequence[tuple[int, str, Mapping[str, int]]],
    *,
    slots: int | None = None,
    buffers: bool = False,
    scenario: str = "plain",
) -> str | None:
    """Takes a run that something else made, machine code for one, in the model of a protocol.

    Args:
        protocol, mutant: which model.
        threads: how many there are.
        run: (thread, line of the model's program, variables before it) of each step. Of a variable only the bits count
            that the model has, as all threads see them.
        slots: parking slots, where waiters have some.
        buffers: stores wait in store buffers; the line ``(drain)`` says that the oldest of a thread is seen. Without,
            a store is seen at once.
        scenario: what else happens: ``interrupts-anywhere``, where handlers take locks.

    Returns:
        What its last step breaks, by name, or ``lost-kick`` where nobody can go on behind it and someone waits; None
        where it is a run that breaks nothing.

    Raises:
        LockError: a step cannot be taken in the model, or memory is another there; the error names its row.
    """
    case = Check(protocol, mutant, scenario, threads, slots, None)
    taken = [(thread, text, [(name, value & 0xFF) for name, value in seen.items()]) for thread, text, seen in run]
    _, broken = _core.lock_follow(case.case, taken, buffers)
    return None if broken is None else broken[0]
