"""``pvops lock bench``: the locks, measured on this machine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, fields

from pvops.cli import output
from pvops.cpus import usable_cpus
from pvops.lock import bench
from pvops.lock.paired import one_mode
from pvops.render import terminal


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    measured = bench.measure(
        _cases(args), args.lock, rounds=args.rounds, seconds=args.seconds, report=_reporter(args.verbose)
    )
    if args.format_ == "json":
        output.print_json(measured.to_dict())
    elif args.format_ != "text":
        columns = [column.name for column in fields(bench.Row)]
        output.print_rows(args.format_, map(asdict, measured.rows), columns)
    else:
        output.print_lines(_page(measured, terminal.Style(args.color)))
    return 0


def _cases(args: argparse.Namespace) -> list[bench.Case] | None:
    if args.threads is None and args.cpus is None and (args.section_ns, args.pause_ns) == (100, 100):
        return None
    cpus = min(2, len(usable_cpus())) if args.cpus is None else args.cpus
    return [bench.Case(n, cpus, args.section_ns, args.pause_ns) for n in args.threads or (2, 4, 8, 16)]


def _reporter(verbose: bool) -> bench.Report:
    if verbose or sys.stderr.isatty():
        return output.note
    return lambda _: None


def _page(measured: bench.Measured, style: terminal.Style) -> list[str]:
    lines = [style.bold("Limits of this machine")]
    rows = [["", "ns", "quartiles"]]
    for name, limit in measured.limits.items():
        spread = f"{limit.low:.1f}-{limit.high:.1f}" + ("" if limit.steady else "  not steady: worth repeating")
        rows.append(
            [f"  {_LIMITS[name]}", f"{limit.minimum:.1f}" if name == "raw_pair" else f"{limit.median:.0f}", spread]
        )
    lines += terminal.table(rows, right=[1])
    fence = "membarrier: a release has no locked instruction" if measured.asymmetric else "none: each release fences"
    lines += [f"  asymmetric fence: {fence}", "", style.bold("Uncontended: lock and unlock")]
    alone = [row for row in measured.rows if row.uncontended_ns is not None]
    best = min(row.uncontended_ns or 0.0 for row in alone)
    rows = [["", "ns", "median", "to the best"]]
    for row in alone:
        ns = row.uncontended_ns or 0.0
        rows.append([f"  {row.lock}", f"{ns:.2f}", f"{row.uncontended_median_ns:.2f}", f"{ns / best:.2f}"])
    lines += terminal.table(rows, right=[1, 2, 3])
    shared = [row for row in measured.rows if row.uncontended_ns is None]
    for case in dict.fromkeys((row.threads, row.cpus, row.section_ns, row.pause_ns) for row in shared):
        lines += ["", *_case(case, [r for r in shared if (r.threads, r.cpus, r.section_ns, r.pause_ns) == case], style)]
    return lines


def _case(case: tuple[int, int, int, int], rows: list[bench.Row], style: terminal.Style) -> list[str]:
    threads, cpus, section, pause = case
    on = "one CPU" if cpus == 1 else f"{cpus} CPUs"
    title = f"{threads} threads on {on}: hold {section} ns, pause {pause} ns"
    heading = [
        "",
        "ops/s",
        "quartiles",
        "fairness",
        "wait p50",
        "p99.9",
        "longest (us)",
        "x plain",
        "x best peer",
        "rounds",
    ]
    table = [heading]
    for row in rows:
        table.append(
            [
                f"  {row.lock}",
                f"{row.ops_per_second:,.0f}",
                f"{row.ops_low:,.0f}-{row.ops_high:,.0f}",
                f"{row.fairness:.2f}",
                f"{row.wait_p50_us:.1f}",
                f"{row.wait_p999_us:.1f}",
                f"{row.wait_max_us:,.0f}",
                _ratio(row.of_plain),
                _ratio(row.of_best_peer),
                f"{row.rounds}",
            ]
        )
    return [style.bold(title), *terminal.table(table, right=range(1, len(heading))), *_modes(rows)]


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2f}"


def _modes(rows: list[bench.Row]) -> list[str]:
    """What is said where ratios are of some of the rounds only."""
    lows = [row.line_low_ns for row in rows if row.line_low_ns is not None]
    highs = [row.line_high_ns for row in rows if row.line_high_ns is not None]
    changes, all_runs = sum(row.mode_changes for row in rows), sum(row.rounds for row in rows)
    compared, rounds = min(row.paired_rounds for row in rows), max(row.rounds for row in rows)
    if not lows or one_mode((min(lows), max(highs))):
        return []
    return [
        f"  the machine changed its mode (a cache line's way from CPU to CPU: {min(lows):.0f} to {max(highs):.0f} ns),"
        f" in {changes} of {all_runs} measurements while it was measured; ratios to the best peer are of {compared} of"
        f" {rounds} rounds"
    ]


_LIMITS = {
    "raw_pair": "locked xadd and store",
    "futex_same_cpu": "futex hand-over, same CPU",
    "futex_cross_cpu": "futex hand-over, other CPU",
}
