"""Armv8's memory model: which executions of some threads there are, by its axioms.

A thread is a generator: it yields what it does and is sent what it reads. Every value that any thread writes to a place
is tried for each read, so that a load may have the value of a store that is executed after it. What the axioms allow of
all these is what may happen (W. Deacon's `aarch64.cat`; C. Pulte et al., *Simplifying ARM Concurrency*, POPL 2018):

- internal: `po-loc | rf | co | fr` has no cycle; atomic: nothing comes between the two halves of an atomic instruction;
- external: `obs | dob | aob | bob` has no cycle.

Of dependencies one kind is taken: a store waits for the loads before it, since the threads here branch on all of them.
Others would only forbid more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, permutations, product
from typing import NamedTuple


class Do(NamedTuple):
    """What a thread does next.

    Attributes:
        kind: ``read``, ``write``, ``update`` (an atomic instruction), ``fence`` (DMB ISH) or ``note`` (of no effect).
        place: where.
        value: what is written; of an update, from what was read (None: nothing is written then).
        order: ``A`` (acquire: LDAR, LDADDA), ``Q`` (LDAPR), ``L`` (release), in any number.
    """

    kind: str
    place: str = ""
    value: int | Callable[[int], int | None] = 0
    order: str = ""


Thread = Callable[[], Generator[Do, int, str]]


class Event(NamedTuple):
    """An access or a fence. `half`: the number of the read of the same atomic instruction."""

    thread: int
    kind: str
    place: str
    value: int
    order: str
    half: int | None = None


class Run(NamedTuple):
    """What a thread does if it reads what it is sent: its events, and how it ends."""

    events: tuple[Event, ...]
    end: str


def runs(thread: Thread, number: int, values: Mapping[str, Iterable[int]]) -> Iterator[Run]:
    """What a thread may do, whatever it reads of the values that a place may have, in the order in which it gets them.

    Values of a place come in rising order, so that the axioms forbid to read one after a later one: it is not tried.
    """
    guesses: list[list[int]] = [[]]
    while guesses:
        sent = guesses.pop()
        going, events, at = thread(), [], 0
        least = dict.fromkeys(values, 0)
        try:
            do = next(going)
            while True:
                if do.kind in ("fence", "note"):
                    events.append(Event(number, do.kind, do.place, 0, ""))
                    do = next(going)
                elif do.kind == "write":
                    assert isinstance(do.value, int)
                    events.append(Event(number, "write", do.place, do.value, do.order))
                    least[do.place] = max(least[do.place], do.value)
                    do = next(going)
                elif at == len(sent):
                    guesses.extend([*sent, value] for value in values[do.place] if value >= least[do.place])
                    break
                else:
                    read, at = sent[at], at + 1
                    least[do.place] = read
                    events.append(Event(number, "read", do.place, read, do.order.replace("L", "")))
                    if do.kind == "update":
                        assert callable(do.value)
                        written = do.value(read)
                        if written is not None:
                            least[do.place] = written
                            half, order = len(events) - 1, "L" if "L" in do.order else ""
                            events.append(Event(number, "write", do.place, written, order, half))
                    do = going.send(read)
        except StopIteration as ended:
            if ended.value != "impossible":
                yield Run(tuple(events), ended.value)


def _cyclic(count: int, edges: Iterable[tuple[int, int]]) -> bool:
    after: list[set[int]] = [set() for _ in range(count)]
    for one, other in edges:
        after[one].add(other)
    before = [0] * count
    for following in after:
        for event in following:
            before[event] += 1
    free = [event for event in range(count) if not before[event]]
    done = 0
    while free:
        done += 1
        for event in after[free.pop()]:
            before[event] -= 1
            if not before[event]:
                free.append(event)
    return done < count


def _order_kept(events: Sequence[Event], halves: Mapping[int, int]) -> set[tuple[int, int]]:
    """`dob`, `aob` and `bob`, but for what hangs on who reads whom: edges between the events of each thread."""
    kept = {(read, write) for write, read in halves.items()}
    for a, first in enumerate(events):
        fenced = False
        for b in range(a + 1, len(events)):
            second = events[b]
            if second.thread != first.thread:
                break
            fenced = fenced or second.kind == "fence"
            waits = first.kind == "read" and second.kind == "write"  # it has branched on what it read
            acquires = first.kind == "read" and first.order != ""
            release = "L" in first.order and second.kind == "read" and "A" in second.order
            if fenced or waits or acquires or "L" in second.order or release:
                kept.add((a, b))
    return kept


class _Read(NamedTuple):
    """Of one place: who reads whom (None: what was there at first), and the order of the writes."""

    of: dict[int, int | None]
    writes: tuple[int, ...]

    def before(self, read: int) -> Iterator[int]:
        """`fr`: the writes that come after the one read."""
        of = self.of[read]
        yield from self.writes if of is None else self.writes[self.writes.index(of) + 1 :]


def _of_place(events: Sequence[Event], numbers: Sequence[int], halves: Mapping[int, int]) -> Iterator[_Read]:
    """What the axioms that look at one place allow there."""
    reads = [n for n in numbers if events[n].kind == "read"]
    writes = [n for n in numbers if events[n].kind == "write"]
    sources: list[list[int | None]] = []
    for read in reads:
        at_first: list[int | None] = [None] if events[read].value == 0 else []
        sources.append([*at_first, *(w for w in writes if events[w].value == events[read].value)])
    local = [(a, b) for a in numbers for b in numbers if a < b and events[a].thread == events[b].thread]
    for order in permutations(writes):
        for chosen in product(*sources):
            found = _Read(dict(zip(reads, chosen, strict=True)), order)
            edges = [*local, *pairwise(order)]
            edges += [(of, read) for read, of in found.of.items() if of is not None]
            edges += [(read, write) for read in reads for write in found.before(read)]
            whole = all(next(found.before(halves[w]), None) == w for w in writes if w in halves)
            if whole and not _cyclic(len(events), edges):
                yield found


def _told(run: Run) -> tuple[set[tuple[str, int]], set[tuple[str, int]], set[tuple[str, int]]]:
    """Places with values that a thread reads, writes, and changes by atomic instructions."""
    read = {(e.place, e.value) for e in run.events if e.kind == "read" and e.value != 0}
    written = {(e.place, e.value) for e in run.events if e.kind == "write"}
    updates = [(run.events[e.half], e) for e in run.events if e.half is not None]
    return read, written, {(was.place, was.value) for was, now in updates if was.value != now.value}


def executions(
    threads: Sequence[Thread], values: Mapping[str, Iterable[int]]
) -> Iterator[tuple[tuple[Run, ...], dict[str, int]]]:
    """The executions that there are: what each thread did, and what each place has in the end."""
    each_thread = [[(run, *_told(run)) for run in runs(thread, n, values)] for n, thread in enumerate(threads)]
    for found_runs in product(*each_thread):
        written = set[tuple[str, int]]().union(*(written for _, _, written, _ in found_runs))
        # Two atomic instructions that change a value do not both find it: values do not come again.
        twice = len(set().union(*(changed for *_, changed in found_runs))) < sum(len(c) for *_, c in found_runs)
        if twice or not all(read <= written for _, read, _, _ in found_runs):
            continue
        together = tuple(run for run, *_ in found_runs)
        events = [event for run in together for event in run.events]
        starts = [sum(len(run.events) for run in together[:n]) for n in range(len(together))]
        halves = {n: starts[e.thread] + e.half for n, e in enumerate(events) if e.half is not None}
        kept = _order_kept(events, halves)
        places = sorted({e.place for e in events if e.kind in ("read", "write")})
        each: list[list[_Read]] = []
        for place in places:
            there = [n for n, e in enumerate(events) if e.place == place and e.kind in ("read", "write")]
            each.append(list(_of_place(events, there, halves)))
            if not each[-1]:
                break
        for chosen in product(*each):
            edges = set(kept)
            for found in chosen:
                across = [(of, read) for read, of in found.of.items() if of is not None]
                for of, read in across:
                    # Who reads the write of an atomic instruction of its own thread, and acquires.
                    if of in halves and events[read].order:
                        edges.add((of, read))
                across += [(read, write) for read in found.of for write in found.before(read)]
                across += [(a, b) for n, a in enumerate(found.writes) for b in found.writes[n + 1 :]]
                edges.update((a, b) for a, b in across if events[a].thread != events[b].thread)
            if not _cyclic(len(events), edges):
                last = {p: events[f.writes[-1]].value if f.writes else 0 for p, f in zip(places, chosen, strict=True)}
                yield together, last
