"""Locks on several virtual CPUs as text and as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pvops.render.run_figures import figures
from pvops.render.terminal import Style, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.smp.job import LockResult

COLUMNS = (
    *("guest", "era", "backend", "bits", "patched", "vcpus", "pcpus", "scheduler", "seed", "schedules", "mutant"),
    *("verdict", "instructions", "indirect_calls", "acquisitions", "slow_paths", "kicks", "polls", "final_state"),
)


def document(results: Iterable[LockResult], wrong: Sequence[str]) -> Mapping[str, object]:
    """The JSON document, ``pvops.run/1``; `wrong` is what must not be."""
    return {"schema": "pvops.run/1", "runs": [_run(r) for r in results], "wrong": list(wrong)}


def verdict(result: LockResult) -> str:
    """``kept``, or the promise that some schedule broke."""
    return "kept" if not result.failures else result.failures[0].kind


def _run(result: LockResult) -> dict[str, object]:
    setting, waits = result.setting, result.waits
    lock = {
        "protocol": result.protocol,
        "slots": result.image.protocol.slots(result.mutant),
        "acquisitions": result.acquisitions,
        "slow_paths": result.slow_paths,
        "kicks": result.kicks,
        "polls": result.polls,
        "waits": {
            "p50_cycles": waits[len(waits) // 2] if waits else None,
            "p999_cycles": waits[len(waits) * 999 // 1000] if waits else None,
            "max_cycles": waits[-1] if waits else None,
        },
    }
    out: dict[str, object] = {
        "guest": result.protocol,
        "era": result.era,
        "backend": result.backend,
        "bits": result.bits,
        "patched": result.patched,
        "lazy": False,
        "vcpus": result.vcpus,
        "pcpus": setting.pcpus,
        "scheduler": setting.scheduler,
        "seed": setting.seed,
        "schedules": result.schedules,
        "mutant": result.mutant,
        "verdict": verdict(result),
        "broken": [{"seed": f.seed, "kind": f.kind, "why": f.why} for f in result.failures],
        "locks": [lock],
        "setting": setting._asdict(),
        "cycles": {**result.parts, "last": result.first.cycles},
        "preempted": {"any": result.preempted[0], "holders": result.preempted[1]},
        **figures(result, hypercalls=result.calls, queued={}, batches=0, traps=sum(result.calls.values())),
    }
    if result.events:
        out["trace"] = [
            {"at": e.at, "vcpu": e.vcpu, "pc": f"{e.pc:#x}", "kind": e.kind, "what": e.what, "lock": dict(e.variables)}
            for e in result.events
        ]
    return out


def rows(results: Iterable[LockResult]) -> Iterator[Mapping[str, object]]:
    """A row a run, with the lock's figures in it."""
    for result in results:
        row = _run(result)
        locks = row["locks"]
        assert isinstance(locks, list)
        yield {column: (row | locks[0]).get(column) for column in COLUMNS}


def lines(results: Sequence[LockResult], style: Style) -> Iterator[str]:
    """What each lock costs below each hypervisor, and what was broken."""
    groups: dict[tuple[str, str | None], list[LockResult]] = {}
    for result in results:
        groups.setdefault((result.protocol, result.mutant), []).append(result)
    for number, ((name, _), group) in enumerate(groups.items()):
        if number:
            yield ""
        first = group[0]
        setting = first.setting
        what = f"{first.vcpus} virtual CPUs on {setting.pcpus}, {setting.scheduler}, seed {setting.seed}"
        more = f" to {setting.seed + first.schedules - 1}" if first.schedules > 1 else ""
        yield f"{style.bold(name)}  {what}{more}" + (f", mutant {first.mutant}" if first.mutant else "")
        heads = ("  backend", "bits", "patched", "instructions", "indirect calls", "acquired", "slow", "kicks", "polls")
        cells = [[*heads, "preempted", "holding", "spin", "verdict"]]
        for r in group:
            busy = r.parts.get("useful", 0) + r.parts.get("spin", 0) + r.parts.get("overhead", 0)
            counts = (r.instructions, r.indirect_calls, r.acquisitions, r.slow_paths, r.kicks, r.polls, *r.preempted)
            row = [f"  {r.backend}", str(r.bits), "yes" if r.patched else "no", *(f"{n:,}" for n in counts)]
            cells.append([*row, f"{r.parts.get('spin', 0) / busy:.0%}" if busy else "", _verdict(r)])
        yield from table(cells, right=range(3, 12))
        for r in group:
            if r.failures:
                yield f"  {r.backend}, {r.bits} bits, seed {r.failures[0].seed}: {r.failures[0].why}"


def _verdict(result: LockResult) -> str:
    if not result.failures:
        return "kept"
    return f"{result.failures[0].kind} in {len(result.failures):,} of {result.schedules:,}"


def trace_lines(result: LockResult) -> Iterator[str]:
    """Everything that happened in the first schedule: when, on which CPU, at which instruction, and the lock then."""
    yield f"{result.protocol}, {result.bits} bits, {result.backend}, {'patched' if result.patched else 'as built'}"
    for e in result.events:
        held = " ".join(f"{name}={value}" for name, value in e.variables.items() if "." not in name)
        yield f"  {e.at:>7}  CPU {e.vcpu}  {result.image.place(e.pc):<34} {e.kind:<5} {e.what:<44} {held}"
