"""Runs every benchmark of this folder and prints one table: our figure, what it is compared with, the ratio.

    python benches/suite.py [NAME …] [--json RUN] [--page PAGE] [--against RUN]

Benchmarks are found, not listed: each ``*.rs`` here is a bench target of the crate (criterion), each other ``*.py`` a
script. Of criterion's groups a row named ``pvops…`` is ours, ``limit…`` what no program can beat, any other a peer.
Scripts say so themselves (`support.rounds.Job`). What is compared was measured in the same run: scripts go round
their commands in turn, criterion times the rows of a group one after the other. Nothing fails because a figure is
high. A run can be saved, drawn as a page, and held against another. What was left out, because a peer or a kernel is
not at hand, stands below the table. `test_jobs.py` gives the scripts' jobs to pytest-benchmark, and says what for.
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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from support.figures import SCHEMA, Pair, Row, Since, criterion, pairs, saved
from support.page import change, figure, page
from support.rounds import LIMIT, shown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Suite:
    """One run: the rows, what was left out and what failed, by the names of the benchmarks.

    Attributes:
        rows: every figure.
        missing: what benchmarks said was missing or skipped, each once.
        failed: benchmarks that ended with an error.
        took: seconds on the wall of each.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.missing: list[str] = []
        self.failed: list[str] = []
        self.took: dict[str, float] = {}

    def run(self, path: Path) -> None:
        """Runs a benchmark; its figures are kept even where it fails in the end."""
        began = time.monotonic()
        found = self._rust(path) if path.suffix == ".rs" else self._script(path)
        self.took[path.name] = time.monotonic() - began
        self.rows += found
        if not found and path.name not in self.failed:
            self._miss(f"{path.name}: nothing was measured")

    def _rust(self, path: Path) -> list[Row]:
        cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
        words = ["cargo", "bench", "--locked", "--bench", path.stem]
        if "peers" in cargo.get("features", {}):
            words += ["--features", "peers"]
        began = time.time()
        self._watch(path, words, {"PVOPS_BENCH_PYTHON": sys.executable})
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        return list(criterion(target / "criterion", began))

    def _script(self, path: Path) -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder, "rows")
            self._watch(path, [sys.executable, str(path.relative_to(ROOT))], {"PVOPS_BENCH_ROWS": str(rows)})
            return [Row(**json.loads(line)) for line in rows.read_text().splitlines()] if rows.exists() else []

    def _watch(self, path: Path, words: Sequence[str], env: dict[str, str]) -> None:
        """Runs a command, its output passed on to stderr, and keeps what it says is missing."""
        print(f"$ {' '.join(words)}", file=sys.stderr, flush=True)
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
        with subprocess.Popen(
            words, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                sys.stderr.write(line)
                if line.startswith(("missing: ", "skipped: ")):
                    self._miss(f"{path.name}: {line.strip()}")
        if process.returncode:
            self.failed.append(path.name)
            self._miss(f"{path.name}: failed with status {process.returncode}")

    def _miss(self, what: str) -> None:
        if what not in self.missing:
            self.missing.append(what)


def benchmarks(wanted: Iterable[str]) -> Iterator[Path]:
    """What was asked for; all there is where nothing was."""
    names = set(wanted)
    others = ("suite.py", "test_jobs.py")
    found = sorted(path for path in HERE.iterdir() if path.suffix in (".rs", ".py") and path.name not in others)
    unknown = names - {path.stem for path in found} - {path.name for path in found}
    if unknown:
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))} (there are {', '.join(p.name for p in found)})")
    return (path for path in found if not names or path.stem in names or path.name in names)


HEADINGS = ["job", "ours", "compared with", "theirs", "ours / theirs"]
SINCE = ["ours since", "ratio before"]


def table(found: Iterable[Pair], since: Since | None = None) -> list[list[str]]:
    """The rows of the table; with an earlier run, how ours has changed, and what the ratio was."""
    out = []
    for pair in found:
        job, ours, other = pair
        line = [job if ours.name == job else f"{job}: {ours.name}", shown(ours.seconds), "", "", ""]
        if other is not None and pair.ratio is not None:
            limit = " (limit)" if other.role == LIMIT and "limit" not in other.name else ""
            line[2:] = [f"{other.name}{limit}", shown(other.seconds), figure(pair.ratio)]
        if since is not None:
            before = since.ratio(pair)
            line += [change(since.ours(pair)), "" if before is None else figure(before)]
        out.append(line)
    return out


def news(found: Iterable[Pair], since: Since) -> list[str]:
    """What got slower since an earlier run, a line each; one line where nothing did."""
    lines = []
    for pair, times in since.slower(found):
        beside = "" if pair.other is None else f", beside {pair.other.name}"
        lines.append(f"slower: {pair.job}: {pair.ours.name}{beside}: {change(times)}")
    return lines or ["slower: nothing by more than a tenth"]


def printed(lines: list[list[str]]) -> str:
    """The table as text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def cpu_model() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown CPU"


def main() -> None:
    """Runs, prints, saves; fails where a benchmark did, in the end."""
    parser = argparse.ArgumentParser(description="Runs the benchmarks and prints one table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these: sites, sites.rs, listing.py, …")
    parser.add_argument("--json", type=Path, metavar="RUN", help="save the run")
    parser.add_argument("--page", type=Path, metavar="PAGE", help="write the run as a page with plots")
    parser.add_argument("--against", type=Path, metavar="RUN", help="say what changed since a saved run")
    options = parser.parse_args()
    wanted = list(benchmarks(options.names))
    since = Since(saved(options.against)) if options.against else None
    suite, load = Suite(), os.getloadavg()[0]
    for path in wanted:
        suite.run(path)
    run = {
        "schema": SCHEMA,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": cpu_model(),
        "python": platform.python_version(),
        "load": load,
        "took": suite.took,
        "missing": suite.missing,
        "rows": [row._asdict() for row in suite.rows],
    }
    found = pairs(suite.rows)
    print(f"{run['cpu']}, {run['date']}, load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    if found:
        print(printed([HEADINGS + (SINCE if since else []), *table(found, since)]))
    for line in news(found, since) if since else ():
        print(line)
    for what in suite.missing:
        print(f"left out: {what}")
    print(f"{len(suite.took)} benchmarks in {sum(suite.took.values()):.0f} s")
    if options.json:
        options.json.write_text(json.dumps(run, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(run, found, since))
    if suite.failed:
        raise SystemExit(f"failed: {', '.join(suite.failed)}")
    if not found:
        raise SystemExit("nothing was measured: most benchmarks need PVOPS_KERNELS")


if __name__ == "__main__":
    main()
