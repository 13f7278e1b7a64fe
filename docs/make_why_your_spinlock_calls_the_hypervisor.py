"""Write the tables and pictures of why-your-spinlock-calls-the-hypervisor.md from simulations:
``python docs/make_why_your_spinlock_calls_the_hypervisor.py``.

``--check`` writes nothing and says whether the page is current. Pictures need matplotlib; each carries a digest of what
it shows, so that checking needs none.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from marks import filled

from pvops.lock import published, sweeps, tables
from pvops.lock.simulate import Case, Result, around_preempted_holder, sweep

PAGE = Path(__file__).with_name("why-your-spinlock-calls-the-hypervisor.md")
PICTURES = PAGE.with_name("pictures")


class Picture(NamedTuple):
    """What a picture shows, and the function of `pvops.lock.pictures` that draws it."""

    function: str
    results: list[Result]

    @property
    def digest(self) -> str:
        """Of all that it shows."""
        shown = [
            (r.case, r.threshold_us, list(r.acquisitions), list(r.waits), list(r.spans), r.preempted)
            for r in self.results
        ]
        return hashlib.sha256(repr(shown).encode()).hexdigest()


class Made(NamedTuple):
    """All that is generated: tables by name, and pictures."""

    tables: Mapping[str, list[str]]
    pictures: Mapping[str, Picture]


def made() -> Made:
    """Runs the simulations of the page: the standard sweep of ``pvops lock simulate``."""
    sections, comparisons = sweeps.standard(), published.comparisons()
    cases = [case for section in sections for case in section.cases]
    cases += [case for comparison in comparisons for case in comparison.cases.values()]
    results = iter(sweep(cases))
    found = {section.name: list(islice(results, len(section.cases))) for section in sections}
    shown = {section.name: _table(tables.cells(section, found[section.name])) for section in sections}
    for comparison in comparisons:
        rows = published.compared(comparison, list(islice(results, len(comparison.cases))))
        notes = ["", f"Source: {comparison.source}.", f"What does not match: {comparison.differs}"]
        shown[comparison.name] = _table(tables.compared_cells(rows)) + notes
    twice = [r for r in found["one-lock"] if r.case.vcpus == 2 * r.case.pcpus]
    pictures = {
        "throughput": Picture("throughput", found["one-lock"]),
        "waits": Picture("waits", twice),
        "preempted-plain": Picture("gantt", [around_preempted_holder(Case("ticket-2.6.25", duration=0.05))]),
        "preempted-pv": Picture("gantt", [around_preempted_holder(Case("pv-ticket", duration=0.05))]),
    }
    return Made(shown, pictures)


def _table(rows: Iterable[Iterable[str]]) -> list[str]:
    head, *rest = [list(row) for row in rows]
    words = {"protocol", "scheduler", "direction", ""}
    line = ["---" if name in words else "--:" for name in head]
    return ["| " + " | ".join(row) + " |" for row in (head, line, *rest)]


def stale_pictures(pictures: Mapping[str, Picture]) -> list[str]:
    """The names of pictures that do not show what was simulated."""

    def shows(name: str, digest: str) -> bool:
        path = PICTURES / f"{name}.svg"
        return path.exists() and digest in path.read_text()

    return [name for name, picture in pictures.items() if not shows(name, picture.digest)]


def draw(pictures: Mapping[str, Picture]) -> None:
    """Writes the pictures."""
    from pvops.lock import pictures as drawn

    PICTURES.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        function: Callable[..., object] = getattr(drawn, picture.function)
        figure = function(*picture.results) if picture.function == "gantt" else function(picture.results)
        drawn.save(figure, str(PICTURES / f"{name}.svg"), description=picture.digest)  # type: ignore[arg-type]


def main(arguments: list[str]) -> int:
    """Writes the page, or with ``--check`` compares it."""
    old, found = PAGE.read_text(), made()
    new, stale = filled(old, found.tables), stale_pictures(found.pictures)
    if "--check" not in arguments:
        PAGE.write_text(new)
        draw({name: found.pictures[name] for name in stale})
    elif new != old or stale:
        print(f"{PAGE.name} is not what simulations say: run python docs/{Path(__file__).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
