"""Pictures of simulations that explain themselves (needs matplotlib: the extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pvops._core as _core
from pvops.errors import InputError, LockError
from pvops.lock.simulate import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours that people who confuse red and green can tell apart (Okabe and Ito).
_COLOURS = ("#d55e00", "#e69f00", "#cc79a7", "#0072b2", "#009e73", "#56b4e9", "#000000")
_MARKERS = "os^Dv<>"

#: How each state is drawn, and what the legend says.
_STATES = {
    "think": ("#dceaf5", "thinks"),
    "hold": ("#009e73", "holds the lock"),
    "spin": ("#d55e00", "spins"),
    "overhead": ("#999999", "switch, exit or kick"),
}

#: Ticks of the picture of waits: times in µs, and shares.
_TIMES = {0.01: "10 ns", 0.1: "100 ns", 1: "1 µs", 10: "10 µs", 100: "100 µs", 1e3: "1 ms", 1e4: "10 ms", 1e5: "0.1 s"}
_SHARES = {1.0: "all", 0.1: "1 in 10", 1e-2: "1 in 100", 1e-3: "1 in 1000", 1e-4: "1 in 10⁴", 1e-6: "1 in 10⁶"}

_NOBODY = "duration: nobody had a lock in it, so there is nothing to show"

_FORMATS = ("svg", "png", "pdf")


def kind_of(path: str) -> str:
    """What a file of that name is drawn as.

    Raises:
        InputError: nothing that can be drawn.
    """
    kind = path.rpartition(".")[2].lower()
    if kind not in _FORMATS:
        raise InputError(f"{path}: a picture is one of .svg, .png, .pdf", file=path)
    return kind


def save(figure: Figure, path: str, *, description: str | None = None) -> None:
    """Writes a figure to a file, which appears whole or not at all; the same figure gives the same bytes.

    Raises:
        InputError: the name ends in nothing that can be drawn, or the file cannot be written.
    """
    kind = kind_of(path)
    out = io.BytesIO()
    import matplotlib

    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    if description is not None and kind == "svg":
        metadata["Description"] = description
    with matplotlib.rc_context({"svg.hashsalt": "pvops", "svg.fonttype": "none", "path.simplify": True}):
        figure.savefig(out, format=kind, metadata=metadata, dpi=150)
    _core.write_file(path, out.getvalue())


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("pictures need matplotlib: the extra `plot`") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _label(result: Result) -> str:
    if result.threshold_us is None:
        return result.case.protocol
    return f"{result.case.protocol}, {result.threshold_us:g} µs"


def _lines(results: Sequence[Result]) -> dict[str, list[Result]]:
    lines: dict[str, list[Result]] = {}
    for result in results:
        lines.setdefault(_label(result), []).append(result)
    return lines


def _setting(result: Result) -> str:
    case = result.case
    locks = "one lock" if case.locks == 1 else f"{case.locks} locks"
    machines = "" if case.vms == 1 else f", {case.vms} virtual machines"
    program = f"think {case.think} µs, hold {case.hold} µs"
    return f"{locks}, {case.pcpus} physical CPUs{machines}, {case.scheduler} scheduler; {program}"


def throughput(results: Sequence[Result]) -> Figure:
    """Acquisitions a second against over-commitment, a line a protocol and threshold.

    Raises:
        LockError: nobody had a lock.
    """
    best = max(result.throughput for result in results)
    if not best:
        raise LockError(_NOBODY)
    figure, axes = _figure(8, 4.6)
    for i, (label, line) in enumerate(_lines(results).items()):
        line = sorted(line, key=lambda r: r.case.vcpus / r.case.pcpus)
        x = [r.case.vcpus / r.case.pcpus for r in line]
        y = [max(r.throughput, 1e-9) for r in line]
        axes.plot(x, y, color=_COLOURS[i % 7], marker=_MARKERS[i % 7], linewidth=max(3 - i / 2, 1.2), label=label)
    axes.set_yscale("log")
    least = min((r.throughput for r in results if r.throughput > 0), default=1.0)
    axes.set_ylim(least / 2, best * 2)
    axes.set_xticks(sorted({r.case.vcpus / r.case.pcpus for r in results}))
    axes.set_xticklabels([f"{x:g}x" for x in axes.get_xticks()])
    axes.set_xlabel("virtual CPUs for each physical one")
    axes.set_ylabel("locks taken a second, all CPUs")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_title("What a lock still gives when its virtual CPUs share physical ones", loc="left", fontweight="bold")
    figure.supxlabel(_setting(results[0]), fontsize=8, color="#555555")
    return figure


def waits(results: Sequence[Result]) -> Figure:
    """How long was waited for the lock: the share of acquisitions that waited longer than a time.

    Raises:
        LockError: nobody had a lock.
    """
    if not any(result.waits for result in results):
        raise LockError(_NOBODY)
    figure, axes = _figure(8, 4.6)
    for i, (label, line) in enumerate(_lines(results).items()):
        rows = line[0].waits
        total = sum(count for _, count in rows)
        if not total:
            continue
        x, y, longer = [1e-3], [1.0], total
        for upper, count in rows:
            longer -= count
            x.append(max(upper / 1e6, 1e-3))
            y.append(max(longer / total, 1e-12))
        axes.step(x, y, where="post", color=_COLOURS[i % 7], linewidth=max(3 - i / 2, 1.2), label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(1e-6, 1.3)
    axes.set_xlim(1e-2, None)
    shown = {x: text for x, text in _TIMES.items() if x <= axes.get_xlim()[1]}
    axes.set_xticks(list(shown), list(shown.values()))
    axes.set_yticks(list(_SHARES), list(_SHARES.values()))
    axes.set_xlabel("waited longer than")
    axes.set_ylabel("so many acquisitions")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    case = results[0].case
    title = f"How long one waits: {case.vcpus} virtual CPUs on {case.pcpus}"
    axes.set_title(title, loc="left", fontweight="bold")
    figure.supxlabel(_setting(results[0]), fontsize=8, color="#555555")
    return figure


def gantt(result: Result) -> Figure:
    """What ran on each physical CPU around the holder that was preempted.

    Raises:
        LockError: nothing was recorded.
    """
    found, spans = result.preempted, [span for span in result.spans if span.pcpu is not None]
    if found is None or not spans:
        raise LockError("protocol: no lock holder was preempted, so there is nothing to show")
    figure, axes = _figure(10, 1.6 + 0.45 * result.case.pcpus)
    start, end = min(s.start for s in spans), max(s.end for s in spans)
    name, unit = ("ms", 1e9) if end - start > 2e9 else ("µs", 1e6)
    for state, (colour, _) in _STATES.items():
        for pcpu in range(result.case.pcpus):
            stretches = [(s.start, s.end) for s in spans if s.state == state and s.pcpu == pcpu]
            bars = [((a - found.at) / unit, (b - a) / unit) for a, b in _merged(stretches, (end - start) // 800)]
            axes.broken_barh(bars, (pcpu - 0.4, 0.8), facecolors=colour, linewidth=0)
    _stays(axes, result, found.vcpu, unit, end - start)
    axes.axvline(0, color="black", linewidth=1)
    back = min((s.start for s in spans if s.vcpu == found.vcpu and s.start > found.at), default=None)
    text = f"virtual CPU {found.vcpu} loses its physical CPU, with the lock"
    axes.annotate(text, (0, -0.55), xytext=(4, 6), textcoords="offset points", fontsize=9, annotation_clip=False)
    if back is not None:
        x = (back - found.at) / unit
        axes.axvline(x, color="black", linewidth=1, linestyle="--")
        label = f"it is back, {x:.2g} {name} later"
        axes.annotate(label, (x, -1.0), xytext=(4, 6), textcoords="offset points", fontsize=9, annotation_clip=False)
    axes.set_xlim((start - found.at) / unit, (end - found.at) / unit)
    axes.set_ylim(result.case.pcpus - 0.5, -1.6)
    axes.set_yticks(range(result.case.pcpus), [f"CPU {p}" for p in range(result.case.pcpus)])
    axes.set_xlabel(f"{name} since then; the numbers are those of the virtual CPUs")
    from matplotlib.patches import Patch

    legend = [Patch(facecolor=colour, label=label) for colour, label in _STATES.values()]
    legend.append(Patch(facecolor="none", edgecolor="black", label="that virtual CPU"))
    legend.append(Patch(facecolor="white", edgecolor="#cccccc", label="nobody"))
    axes.legend(handles=legend, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=8)
    title = f"{_label(result)}: {result.case.vcpus} virtual CPUs on {result.case.pcpus}, one holder preempted"
    axes.set_title(title, loc="left", fontweight="bold")
    return figure


def _merged(stretches: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Stretches with what is too narrow to be seen joined, so that a picture stays small."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if out and start - out[-1][1] <= gap:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _stays(axes: Any, result: Result, special: int, unit: float, width: int) -> None:
    """The number of the virtual CPU on each of its stays on a physical one, and a frame around those of one of them."""
    assert result.preempted is not None
    stays: list[list[int]] = []
    current: dict[int, list[int]] = {}
    for span in sorted(result.spans, key=lambda s: s.start):
        if span.pcpu is None:
            continue
        stay = current.get(span.pcpu)
        if stay is not None and stay[0] == span.vcpu and stay[3] == span.start:
            stay[3] = span.end
        else:
            current[span.pcpu] = [span.vcpu, span.pcpu, span.start, span.end]
            stays.append(current[span.pcpu])
    for vcpu, pcpu, start, end in stays:
        left, length = (start - result.preempted.at) / unit, (end - start) / unit
        if end - start > width / 40:
            axes.text(left + length / 2, pcpu, str(vcpu), ha="center", va="center", fontsize=8)
        if vcpu == special:
            axes.broken_barh([(left, length)], (pcpu - 0.4, 0.8), facecolors="none", edgecolors="black", linewidth=1.5)
