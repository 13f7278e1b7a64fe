"""Locks on several virtual CPUs as a page: what each cost, who ran when, and every step to go through by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvops.render import html
from pvops.render.locks_text import holds, window
from pvops.render.run_locks import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.smp.job import LockResult
    from pvops.emulate.smp.record import Event

#: Steps of one run that a page goes through; more would make it too large to send.
_STEPS = 400
#: Runs whose steps a page has.
_RUNS = 6
_WIDTH, _LEFT, _ROW = 960, 70, 26
_COLORS = {"useful": "#3a9d5d", "spin": "#d98a1f", "overhead": "#7a7f87", "blocked": "#4a7fc1", "idle": "none"}
_STYLE = """<style>
.step { display: none; } .step:target { display: block; }
.steps:not(:has(.step:target)) > .step:first-of-type { display: block; }
.step nav a { margin-right: 1rem; } .who { font-weight: 600; }
</style>"""


def page(results: Sequence[LockResult], wrong: Sequence[str], made: html.Made | None = None) -> str:
    """The whole page."""
    return html.page("Locks that contended", _body(results, wrong), made)


def _body(results: Sequence[LockResult], wrong: Sequence[str]) -> Iterator[str]:
    yield _STYLE
    yield "<h1>Locks that contended</h1>"
    yield (
        "<p class='soft'>Virtual CPUs on fewer physical ones; each takes the lock, adds one to a counter, and lets go. "
        "Cycles are a model: an instruction is one.</p>"
    )
    if wrong:
        yield f"<p class='warn'>{html.bullets(wrong)}</p>"
    yield _costs(results)
    drawn = 0
    for n, result in enumerate(results):
        if result.events and drawn < _RUNS:
            drawn += 1
            yield f"<h2>{html.text(_name(result))}</h2>"
            yield html.wide(_gantt(result), "what each virtual CPU did")
            yield from _steps(result, f"r{n}")


def _name(result: LockResult) -> str:
    bug = f", mutant {result.mutant}" if result.mutant else ""
    how = "patched" if result.patched else "as built"
    return f"{result.protocol}, {result.bits} bits, {result.backend}, {how}, seed {result.setting.seed}{bug}"


def _costs(results: Sequence[LockResult]) -> str:
    headings = ("lock", "backend", "bits", "patched", "instructions", "acquired", "slow", "kicks", "polls", "verdict")
    rows = []
    for r in results:
        counts = (r.instructions, r.acquisitions, r.slow_paths, r.kicks, r.polls)
        bug = f", mutant {r.mutant}" if r.mutant else ""
        cells = [html.text(r.protocol + bug), html.text(r.backend), str(r.bits), "yes" if r.patched else "no"]
        rows.append([*cells, *(f"{n:,}" for n in counts), html.text(verdict(r))])
    return html.table(headings, rows, ("key", "key", "n", "", "n", "n", "n", "n", "n", ""))


# Who ran


def _gantt(result: LockResult) -> str:
    """Each virtual CPU a row: what it did, the lock it held, the physical CPU it was on."""
    start, end = window(result)
    scale = (_WIDTH - _LEFT) / max(end - start, 1)
    height = _ROW * result.vcpus + 24
    out = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" font-size="12" font-family="sans-serif" '
        'fill="currentColor" stroke="none"><title>What each virtual CPU did</title>'
    ]

    def place(at: int) -> float:
        return round(_LEFT + (min(max(at, start), end) - start) * scale, 1)

    for vcpu in range(result.vcpus):
        top = _ROW * vcpu + 4
        out.append(f'<text x="0" y="{top + 13}">CPU {vcpu}</text>')
        for span in result.spans:
            if span.vcpu != vcpu or span.end <= start or span.start >= end:
                continue
            x, width = place(span.start), round(place(span.end) - place(span.start), 1)
            where = html.text(result.image.place(span.pc))
            on = f", physical CPU {span.pcpu}" if span.pcpu is not None else ""
            told = f"{span.state}{on}, to cycle {span.end:,}, at {where}"
            dash = ' stroke="currentColor" stroke-opacity=".4" stroke-dasharray="2 3"' if span.state == "idle" else ""
            color = _COLORS.get(span.state, "none")
            out.append(
                f'<rect x="{x}" y="{top}" width="{width}" height="16" fill="{color}"{dash}><title>{told}</title></rect>'
            )
        for since, (who, until) in holds(result):
            if who == vcpu and until > start and since < end:
                x = place(since)
                out.append(
                    f'<rect x="{x}" y="{top + 17}" width="{round(place(until) - x, 1)}" height="4" fill="#c0392b">'
                    f"<title>holds the lock, cycles {since:,} to {until:,}</title></rect>"
                )
    out.append(f'<text x="{_LEFT}" y="{height - 4}" opacity=".65">cycle {start:,}</text>')
    out.append(f'<text x="{_WIDTH}" y="{height - 4}" text-anchor="end" opacity=".65">{end:,}</text></svg>')
    legend = (
        "<p class='soft'>Green runs, orange spins, grey the hypervisor works for it, blue sleeps, dashed wants a "
        "physical CPU; red below: it holds the lock.</p>"
    )
    return "\n".join(out) + legend


# Step by step


def _steps(result: LockResult, prefix: str) -> Iterator[str]:
    """Every step a section, of which the page shows one; links go from one to the next."""
    start, _ = window(result)
    groups = _joined([e for e in result.events if e.at >= start])[:_STEPS]
    yield f"<h3>Step by step <span class='soft'>{len(groups)} of them</span></h3><div class='steps'>"
    state = _State(result, [e for e in result.events if e.at < start])
    for n, group in enumerate(groups):
        state.take(group)
        yield _step(result, group, state, prefix, n, len(groups))
    yield "</div>"


def _joined(events: Sequence[Event]) -> list[list[Event]]:
    """Events of one instruction together."""
    groups: list[list[Event]] = []
    for event in events:
        last = groups[-1][-1] if groups else None
        if last is not None and (last.vcpu, last.pc, last.at) == (event.vcpu, event.pc, event.at):
            groups[-1].append(event)
        else:
            groups.append([event])
    return groups


class _State:
    """What is known of the lock and its CPUs, event by event."""

    def __init__(self, result: LockResult, before: Sequence[Event]) -> None:
        self.variables: dict[str, int] = {}
        self.ticket: dict[int, int] = {}
        self.stage = ["thinks"] * result.vcpus
        self.at = [0] * result.vcpus
        for group in _joined(before):
            self.take(group)

    def take(self, group: Sequence[Event]) -> None:
        """Takes the next events of one moment into the state that is shown."""
        for event in group:
            self.variables |= event.variables
            self.at[event.vcpu] = event.pc
            if event.what == "arrive":
                self.ticket[event.vcpu] = self.variables.get("tail", 0)
                self.stage[event.vcpu] = "waits"
            elif event.what == "enter":
                self.stage[event.vcpu] = "holds the lock"
            elif event.what == "leave":
                self.ticket.pop(event.vcpu, None)
                self.stage[event.vcpu] = "thinks"


def _step(result: LockResult, group: Sequence[Event], state: _State, prefix: str, n: int, count: int) -> str:
    first = group[0]
    links = [f'<a href="#{prefix}s{m}">{word}</a>' for m, word in ((n - 1, "back"), (n + 1, "on")) if 0 <= m < count]
    what = "; ".join(html.text(e.what if e.kind != "wake" else f"woken {e.what}") for e in group)
    code = result.code.get(first.pc, "")
    shared = {name: value for name, value in state.variables.items() if "." not in name}
    lock = " · ".join(f"{html.text(name)} {value}" for name, value in shared.items())
    rows = []
    for vcpu in range(result.vcpus):
        span = next((s for s in result.spans if s.vcpu == vcpu and s.start <= first.at < s.end), None)
        ran = "" if span is None else {"idle": "wants a physical CPU", "blocked": "sleeps"}.get(span.state, "runs")
        on = "" if span is None or span.pcpu is None else str(span.pcpu)
        spins = ", spins" if span is not None and span.state == "spin" else ""
        own = " ".join(
            f"{name.partition('.')[2]} {value}"
            for name, value in state.variables.items()
            if name.startswith(f"T{vcpu}.")
        )
        ticket = str(state.ticket.get(vcpu, ""))
        stands = html.code(result.image.place(state.at[vcpu])) if state.at[vcpu] else ""
        name = f'<span class="who">CPU {vcpu}</span>' if vcpu == first.vcpu else f"CPU {vcpu}"
        rows.append([name, on, ran + spins, html.text(state.stage[vcpu]), ticket, html.text(own), stands])
    headings = ("", "on", "", "the lock", "ticket", "its own", "last seen at")
    label = f"step {n + 1} of run {prefix.removeprefix('r')}"
    return (
        f'<section class="step card" id="{prefix}s{n}"><nav aria-label="{html.text(label)}">{" ".join(links)} '
        f'<span class="soft">{n + 1} of {count}, cycle {first.at:,}</span></nav>'
        f'<p><span class="who">CPU {first.vcpu}</span>: {what}</p>'
        f"<p>{html.code(f'{result.image.place(first.pc)}  {code}', 'asm')}</p>"
        f"<p>Before it: {lock}</p>{html.table(headings, rows)}</section>"
    )
