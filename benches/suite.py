"""Runs every benchmark of this folder and prints one table: our figure, what it is compared with, the ratio.

    python benches/suite.py [NAME …] [--json RUN] [--page PAGE] [--against RUN]

Benchmarks are found, not listed: each ``*.rs`` here is a bench target of the crate (criterion), each other ``*.py`` a
script. Of criterion's groups a row named ``pvops…`` is ours, ``limit…`` is what no program can beat, any other a peer.
Scripts say so themselves (`support.rounds.report`). What is compared was measured in the same run: scripts go round
their commands in turn, criterion times the rows of a group one after the other. Nothing fails because a figure is
high. A run can be saved, drawn as a page, and held against another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from support.rounds import LIMIT, OURS, PEER, shown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Row(NamedTuple):
    """One figure: what was done, by whom, in how many seconds."""

    job: str
    name: str
    seconds: float
    role: str


class Pair(NamedTuple):
    """Our figure beside another; the other is None where a job has no other."""

    job: str
    ours: Row
    other: Row | None

    @property
    def ratio(self) -> float | None:
        """How many times as long as the other we take."""
        return self.ours.seconds / self.other.seconds if self.other is not None and self.other.seconds else None


# Running


def rust(name: str) -> list[Row]:
    """Runs a bench target and reads what criterion wrote meanwhile."""
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    words = ["cargo", "bench", "--locked", "--bench", name]
    if "peers" in cargo.get("features", {}):
        words += ["--features", "peers"]
    began = time.time()
    print(f"$ {' '.join(words)}", flush=True)
    if subprocess.run(words, cwd=ROOT, stdout=sys.stderr).returncode:
        raise SystemExit(f"the benchmark {name} failed")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return list(criterion(target / "criterion", began))


def criterion(folder: Path, since: float) -> Iterator[Row]:
    """What criterion measured since a time: the median of each function."""
    for path in sorted(folder.rglob("new/benchmark.json")):
        estimates = path.with_name("estimates.json")
        if not estimates.exists() or estimates.stat().st_mtime < since:
            continue
        about = json.loads(path.read_text())
        name = " ".join(filter(None, (about["function_id"], about["value_str"]))) or about["group_id"]
        nanoseconds = json.loads(estimates.read_text())["median"]["point_estimate"]
        yield Row(about["group_id"], name, nanoseconds / 1e9, role(name))


def role(name: str) -> str:
    """Whose a row of criterion is, by its name."""
    return OURS if name.startswith("pvops") else LIMIT if name.startswith("limit") else PEER


def script(path: Path) -> list[Row]:
    """Runs a script and reads the rows it reports."""
    print(f"$ python {path.relative_to(ROOT)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows")
        env = {**os.environ, "PVOPS_BENCH_ROWS": str(rows)}
        done = subprocess.run([sys.executable, path], cwd=ROOT, env=env, stdout=sys.stderr)
        if done.returncode:
            print(f"{path.name}: exit status {done.returncode}", file=sys.stderr)
        return [Row(**json.loads(line)) for line in rows.read_text().splitlines()] if rows.exists() else []


def benchmarks(wanted: Iterable[str]) -> Iterator[tuple[str, list[Row]]]:
    """Runs what was asked for; all there is where nothing was."""
    names = set(wanted)
    found = sorted(
        path for path in HERE.iterdir() if path.suffix in (".rs", ".py") and path != Path(__file__).resolve()
    )
    unknown = names - {path.stem for path in found} - {path.name for path in found}
    if unknown:
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))} (there are {', '.join(p.name for p in found)})")
    for path in found:
        if not names or path.stem in names or path.name in names:
            yield path.name, rust(path.stem) if path.suffix == ".rs" else script(path)


# What a run says


def pairs(rows: list[Row]) -> list[Pair]:
    """Our figure of each job beside every other of it; a job without ours or without another is listed as it is."""
    jobs: dict[str, list[Row]] = {}
    for row in rows:
        jobs.setdefault(row.job, []).append(row)
    out = []
    for job, found in jobs.items():
        ours = [row for row in found if row.role == OURS]
        others = [row for row in found if row.role != OURS]
        if ours and others:
            out += [Pair(job, one, other) for one in ours for other in others]
        else:
            out += [Pair(job, row, None) for row in found]
    return out


def table(found: list[Pair], before: dict[tuple[str, str], float]) -> list[list[str]]:
    """The rows of the table; with another run's figures, how ours has changed."""
    out = []
    for job, ours, other in found:
        ratio = Pair(job, ours, other).ratio
        line = [
            job if ours.name == job else f"{job}: {ours.name}",
            shown(ours.seconds),
            ""
            if other is None
            else f"{other.name}" + (" (limit)" if other.role == LIMIT and "limit" not in other.name else ""),
            "" if other is None else shown(other.seconds),
            "" if ratio is None else f"{ratio:.3g}",
        ]
        if before:
            old = before.get((ours.job, ours.name))
            line.append("new" if old is None else f"{ours.seconds / old - 1:+.0%}")
        out.append(line)
    return out


HEADINGS = ["job", "ours", "compared with", "theirs", "ours / theirs"]


def printed(lines: list[list[str]]) -> str:
    """The table as text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def page(run: dict[str, Any], lines: list[list[str]], found: list[Pair]) -> str:
    """The run as one page: the table, and for each comparison a bar as long as the ratio, on a logarithmic scale."""
    from math import log10

    compared = [(pair, pair.ratio) for pair in found if pair.ratio]
    bars, width, middle = [], 420, 210
    for row, (pair, ratio) in enumerate(compared):
        assert pair.other is not None
        length = max(-middle, min(middle, log10(ratio) * 70))
        x, color = (middle, "#c8553d") if length > 0 else (middle + length, "#1f6f8b")
        label = escape(f"{pair.job} / {pair.other.name}")
        bars.append(f'<rect x="{x:.1f}" y="{row * 18 + 3}" width="{abs(length):.1f}" height="12" fill="{color}"/>')
        bars.append(f'<text x="{width + 6}" y="{row * 18 + 13}" font-size="11">{ratio:.3g}  {label}</text>')
    height = 18 * len(compared) + 6
    axis = f'<line x1="{middle}" y1="0" x2="{middle}" y2="{height}" stroke="#888"/>'
    cells = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in line) + "</tr>" for line in lines[1:])
    head = "".join(f"<th>{escape(c)}</th>" for c in lines[0])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Benchmarks of pvops</title><style>'
        "body{font:14px/1.5 system-ui,sans-serif;margin:2rem}td,th{text-align:left;padding:.15rem .8rem .15rem 0;"
        "border-bottom:1px solid #ddd}</style></head><body><h1>Benchmarks of pvops</h1>"
        f"<p>{escape(run['cpu'])}, {escape(run['date'])}, Python {escape(run['python'])}</p>"
        "<h2>How many times as long as the others</h2>"
        "<p>Left of the line we are faster. A factor of ten is 70 pixels.</p>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="1100" height="{height}">{axis}{"".join(bars)}</svg>'
        f"<h2>All figures</h2><table><tr>{head}</tr>{cells}</table></body></html>\n"
    )


def cpu_model() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown CPU"


def main() -> None:
    """Runs, prints, saves."""
    parser = argparse.ArgumentParser(description="Runs the benchmarks and prints one table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these: sites, sites.rs, peers.py, …")
    parser.add_argument("--json", type=Path, metavar="RUN", help="save the run")
    parser.add_argument("--page", type=Path, metavar="PAGE", help="write the run as a page with plots")
    parser.add_argument("--against", type=Path, metavar="RUN", help="say what changed since a saved run")
    options = parser.parse_args()
    before: dict[tuple[str, str], float] = {}
    if options.against:
        old = json.loads(options.against.read_text())
        before = {(row["job"], row["name"]): row["seconds"] for row in old["rows"]}
    rows = [row for _, found in benchmarks(options.names) for row in found]
    if not rows:
        raise SystemExit("nothing was measured: most benchmarks need PVOPS_KERNELS")
    run = {
        "schema": "pvops.benchmarks/1",
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": cpu_model(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "rows": [row._asdict() for row in rows],
    }
    lines = [HEADINGS + (["ours since"] if before else []), *table(pairs(rows), before)]
    print(f"{run['cpu']}, {run['date']}, load {run['load']:.1f}")
    print(printed(lines))
    if options.json:
        options.json.write_text(json.dumps(run, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(run, lines, pairs(rows)))


if __name__ == "__main__":
    main()
