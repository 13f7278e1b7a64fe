"""Virtual CPUs on physical ones as a picture of characters: what each did around a preempted holder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.smp.job import LockResult
    from pvops.emulate.smp.record import Span

#: What a virtual CPU does, as a character.
_MARKS = {"useful": "=", "spin": "~", "overhead": "+", "blocked": "z", "idle": "."}
LEGEND = "= runs  H has the lock  P has it and no CPU  ~ spins  + the hypervisor works for it  z sleeps  . wants a CPU"


def window(result: LockResult) -> tuple[int, int]:
    """Cycles around the first time that a holder lost its physical CPU; around everything where none did."""
    end = max((span.end for span in result.spans), default=1)
    for start, stop in holds(result):
        for span in result.spans:
            if span.state == "idle" and span.vcpu == stop[0] and start < span.start < stop[1]:
                long = span.end - span.start
                return max(span.start - max(long // 2, 60), 0), min(stop[1] + max(long, 120), end)
    return 0, end


def holds(result: LockResult) -> Iterator[tuple[int, tuple[int, int]]]:
    """(start, (virtual CPU, end)) of each time that one held the lock."""
    since: dict[int, int] = {}
    for event in result.events:
        if event.kind == "mark" and event.what == "enter":
            since[event.vcpu] = event.at
        elif event.kind == "mark" and event.what == "leave" and event.vcpu in since:
            yield since.pop(event.vcpu), (event.vcpu, event.at)


def picture(result: LockResult, columns: int = 100) -> Iterator[str]:
    """The picture under its name, and where every CPU stands when it begins."""
    yield f"{result.protocol}, {result.bits} bits, {result.backend}, {'patched' if result.patched else 'as built'}"
    yield from gantt(result, columns)
    start, _ = window(result)
    for vcpu in range(result.vcpus):
        span = next((s for s in result.spans if s.vcpu == vcpu and s.start <= start < s.end), None)
        if span is not None:
            yield f"  at {start:,} CPU {vcpu} stands at {result.image.place(span.pc)}"


def gantt(result: LockResult, columns: int = 100) -> Iterator[str]:
    """A line a virtual CPU, and below it the physical one it is on."""
    start, end = window(result)
    width = max(columns - 8, 10)
    scale = max((end - start) / width, 1)
    held = [(vcpu, since, until) for since, (vcpu, until) in holds(result)]
    yield f"cycles {start:,} to {end:,}, {scale:.1f} a character"
    for vcpu in range(result.vcpus):
        spans = [s for s in result.spans if s.vcpu == vcpu]
        states, places = "", ""
        for column in range(round((end - start) / scale)):
            at = start + column * scale
            span = _at(spans, at)
            mark = " " if span is None else _MARKS.get(span.state, " ")
            if any(v == vcpu and since <= at < until for v, since, until in held):
                mark = {"=": "H", ".": "P"}.get(mark, mark)
            states += mark
            places += " " if span is None or span.pcpu is None else str(span.pcpu % 10)
        yield f"  CPU {vcpu:<2}{states}"
        yield f"    on  {places}".rstrip()
    yield f"  {LEGEND}"


def _at(spans: Sequence[Span], at: float) -> Span | None:
    """The span at a time."""
    return next((span for span in spans if span.start <= at < span.end), None)
