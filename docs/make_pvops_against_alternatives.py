"""Write the tables of pvops-against-alternatives.md: ``python docs/make_pvops_against_alternatives.py``.

``PVOPS_KERNELS`` names the folder with what they are made from: ``kernels/vmlinuz-RELEASE``, and
``boots/RELEASE~MODE.*``, what some of them held in memory. ``--check`` writes nothing and says whether the page is
current.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from marks import filled
from sites_counted import BACKENDS, Kernels, Measured, Outcome

import pvops
from pvops.corpus.boot import text_in_memory
from pvops.corpus.files import BootFiles
from pvops.image.tables import TABLES as TABLES_OF_SITES
from pvops.machine.machine import Machine

PAGE = Path(__file__).with_name("pvops-against-alternatives.md")

#: The kernels of the page, by the name of their era.
RELEASES = {
    "5.10": "5.10.0-46-amd64",
    "6.1": "6.1.0-56-amd64",
    "6.12": "6.12.117+deb12-amd64",
    "7.2": "7.2.13+deb14-amd64",
}

#: The boots that the outcomes are held to, by the first word of their mode.
MODES = {"native-max-smp2": "native", "kvm-max-smp2": "kvm", "xenpv-max-smp2": "xen"}

#: A cell that has nothing to say.
_NONE = "-"


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    head = list(head)
    lines = [head, *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
    out = ["| " + " | ".join(line) + " |" for line in lines]
    return [out[0], "|" + "---|" * len(head), *out[1:]]


def kernels_table(found: Kernels) -> list[str]:
    """The kernels, and how many sites they have."""
    rows = []
    for name, one in found.items():
        lengths = Counter(len(site.bytes) for site in one.sites)
        rows.append(
            [
                name,
                f"`{one.kernel.release}`",
                len(one.sites),
                ", ".join(f"{count:,} of {size}" for size, count in lengths.most_common()),
                len(one.kernel.paravirt) if one.kernel.paravirt is not None else _NONE,
                len(one.replacements),
            ]
        )
    return _table(
        ["", "release", "call sites of an op", "bytes a site", "`.parainstructions`", "`.altinstructions`"], rows
    )


def multiway_table(found: Kernels) -> list[str]:
    """How many sites have one, two, three outcomes under native, KVM and Xen PV."""
    rows = []
    for name, one in found.items():
        count = Counter(one.distinct)
        three = Counter(_short(s.op) for s, n in zip(one.sites, one.distinct, strict=True) if n == 3)
        named = ", ".join(f"`{op}` {n:,}" for op, n in sorted(three.items()))
        rows.append([name, len(one.sites), count[1], count[2], count[3], named or _NONE])
    return _table(["", "sites", "1 outcome", "2 outcomes", "3 outcomes", "those with 3, by op"], rows)


def by_op_table(found: Kernels) -> list[str]:
    """Sites by op and number of outcomes."""
    cells: dict[str, dict[str, Counter[int]]] = {}
    for name, one in found.items():
        for site, n in zip(one.sites, one.distinct, strict=True):
            cells.setdefault(_short(site.op), {}).setdefault(name, Counter())[n] += 1
    rows: list[list[object]] = []
    for op in sorted(cells):
        row: list[object] = [f"`{op}`"]
        for name in found:
            count = cells[op].get(name)
            row.append("" if count is None else ", ".join(f"{n}: {sites:,}" for n, sites in sorted(count.items())))
        rows.append(row)
    return _table(["op", *found], rows)


def _short(op: str | None) -> str:
    assert op is not None
    return op.removeprefix("pv_").replace("_ops.", ".")


def save_table(found: Kernels) -> list[str]:
    """The callee-save ops, and which of the functions behind them are generated thunks."""
    rows = []
    for name, one in found.items():
        sites = Counter(site.op for site in one.sites)
        row: list[object] = [name, len(one.callee_save), sum(sites[op] for op in one.callee_save)]
        for backend in BACKENDS:
            slots = one.kernel.plan(backend).slots
            thunks = {
                op for op in one.callee_save if op in slots and (slots[op].symbol or "").startswith("__raw_callee_save")
            }
            row.append(f"{len(thunks)}: " + ", ".join(f"`{_short(op)}`" for op in sorted(thunks)) if thunks else "0")
        rows.append(row)
    return _table(["", "callee-save ops", "their sites", *(f"thunks, {b}" for b in BACKENDS.values())], rows)


_KINDS = {
    "inlined": ("inlined", "moved"),
    "nops": ("nopped",),
    "direct call": ("called",),
    "jump": ("jumped",),
    "call of `BUG`": ("bug-called", "trapped"),
    "left indirect": ("kept",),
}


def kinds_table(found: Kernels) -> list[str]:
    """What the sites are in the end, by backend."""
    rows = []
    for name, one in found.items():
        for backend, shown in BACKENDS.items():
            kinds = Counter(outcome.kind for outcome in one.outcomes[backend])
            known = {kind for group in _KINDS.values() for kind in group}
            assert set(kinds) <= known, (name, backend, kinds)
            short = [o.used for o in one.outcomes[backend] if o.kind in _KINDS["inlined"]]
            longest = max(short, default=0)
            counts = [sum(kinds[kind] for kind in group) for group in _KINDS.values()]
            rows.append([name, shown, *counts, longest or _NONE])
    return _table(["", "backend", *_KINDS, "longest inlined, bytes"], rows)


def classes_table(found: Kernels) -> list[str]:
    """On bare hardware, what each class costs: inlined, nops, direct calls."""
    rows: dict[str, list[object]] = {}
    for name, one in found.items():
        groups: dict[str, Counter[str]] = {}
        for site, outcome in zip(one.sites, one.outcomes["native"], strict=True):
            groups.setdefault(_short(site.op).partition(".")[0], Counter())[outcome.kind] += 1
        for group in sorted(groups):
            kinds = groups[group]
            inlined, called = kinds["inlined"] + kinds["moved"], kinds["called"] + kinds["jumped"]
            assert inlined + called + kinds["nopped"] == kinds.total()
            row = rows.setdefault(group, [f"`{group}`", *[""] * len(found)])
            row[1 + list(found).index(name)] = f"{inlined:,} / {kinds['nopped']:,} / {called:,}"
    return _table(["class", *found], [rows[group] for group in sorted(rows)])


def forms_table(found: Kernels) -> list[str]:
    """The inlined forms on bare hardware, and how many sites have them."""
    counts: dict[bytes, Counter[str]] = {}
    text: dict[bytes, str] = {}
    which: dict[bytes, set[str]] = {}
    for name, one in found.items():
        for site, outcome in zip(one.sites, one.outcomes["native"], strict=True):
            if outcome.kind in _KINDS["inlined"]:
                code = outcome.code[: outcome.used]
                counts.setdefault(code, Counter())[name] += 1
                which.setdefault(code, set()).add(_short(site.op))
                if code not in text:
                    shown = one.kernel.image.disassemble(site.address, code, False)
                    text[code] = "; ".join(" ".join(line.split()) for _, _, line in shown)
    rows = []
    for code, count in sorted(counts.items(), key=lambda item: -item[1].total()):
        named = sorted(which[code])
        label = ", ".join(f"`{op}`" for op in named) if len(named) < 4 else f"{len(named)} ops, `{named[0]}` …"
        rows.append([f"`{code.hex(' ')}`", f"`{text[code]}`", label, *(count[name] for name in found)])
    return _table(["bytes", "instructions", "of", *found], rows)


def rows_table(found: Kernels) -> list[str]:
    """The rows of .altinstructions by what the format can say."""

    def sites(one: Measured) -> Counter[int]:
        return Counter(row[1] for row in one.kernel.tables.rows("alternatives"))

    def inverted(one: Measured) -> int:
        return sum(bool(row[4]) for row in one.kernel.tables.rows("alternatives"))

    def direct(one: Measured) -> int:
        return sum(bool(row[5]) for row in one.kernel.tables.rows("alternatives"))

    def literal(one: Measured) -> int:
        return sum(not (r.call_first or r.jump_first or r.branch_later or r.rip) for r in one.replacements)

    lines: dict[str, Callable[[Measured], int]] = {
        "rows": lambda one: len(one.replacements),
        "that ask for the absence of a feature": inverted,
        "that make an indirect call direct": direct,
        "addresses they name": lambda one: len(sites(one)),
        "… with two rows": lambda one: sum(n == 2 for n in sites(one).values()),
        "… with three or more": lambda one: sum(n > 2 for n in sites(one).values()),
        "replacements of which any copy will do": literal,
        "replacements that begin with a call": lambda one: sum(r.call_first for r in one.replacements),
        "… of five bytes, what the fix of 2009 covers": lambda one: sum(
            r.call_first and r.length == 5 for r in one.replacements
        ),
        "replacements that begin with a jump elsewhere, all of five bytes": lambda one: sum(
            r.jump_first and r.length == 5 for r in one.replacements
        ),
        "replacements with a branch elsewhere behind the first instruction": lambda one: sum(
            r.branch_later for r in one.replacements
        ),
        "replacements with a `%rip`-relative operand": lambda one: sum(r.rip for r in one.replacements),
    }
    rows = [[line, *(count(one) for one in found.values())] for line, count in lines.items()]
    return _table(["`.altinstructions`", *found], rows)


def last_word_table(found: Kernels) -> list[str]:
    """Sites of ops that both mechanisms name, and whose bytes stand there in the end."""
    rows = []
    for name, one in found.items():
        both = []
        for index, site in enumerate(one.sites):
            literal = any(row.table == "alternatives" and not row.direct_call for row in site.rows)
            pointer = any(row.table == "paravirt" or row.direct_call for row in site.rows)
            if literal and pointer:
                both.append(index)
        for backend, shown in BACKENDS.items():
            last = Counter(one.outcomes[backend][index].kind in _KINDS["inlined"] for index in both)
            rows.append([name, shown, len(one.sites), len(both), last[True], last[False]])
    head = ["", "backend", "sites", "named by both", "the feature's row has the last word", "the pointer has it"]
    return _table(head, rows)


def locks_table(found: Kernels) -> list[str]:
    """The lock ops: sites, and what they become."""
    rows = []
    for name, one in found.items():
        groups: dict[str, list[int]] = {}
        for index, site in enumerate(one.sites):
            if _short(site.op).startswith("lock."):
                groups.setdefault(_short(site.op), []).append(index)
        for op, indices in sorted(groups.items()):
            row: list[object] = [name, f"`{op}`", len(indices)]
            for backend in BACKENDS:
                forms = Counter(_form(one, index, one.outcomes[backend][index]) for index in indices)
                row.append(", ".join(form for form, _ in forms.most_common()))
            rows.append(row)
    return _table(["", "op", "sites", *BACKENDS.values()], rows)


def _form(one: Measured, index: int, outcome: Outcome) -> str:
    if outcome.kind == "called":
        return f"call `{outcome.function}`"
    if outcome.kind == "nopped":
        return "nops"
    shown = one.kernel.image.disassemble(one.sites[index].address, outcome.code[: outcome.used], False)
    return "`" + "; ".join(" ".join(line.split()) for _, _, line in shown) + "`"


def fast_path_table(found: Kernels) -> list[str]:
    """The sites in the functions that take and give back a spinlock."""
    rows = []
    for name, one in found.items():
        for function in ("_raw_spin_lock", "_raw_spin_unlock"):
            start = one.kernel.address_of(function)
            if start is None:
                rows.append([name, f"`{function}`", "no such function: its callers have it inline", _NONE])
                continue
            sites = [s for s in one.sites if one.kernel.place(s.address) == f"{function}+{s.address - start:#x}"]
            before = _NONE
            if sites:
                code = one.kernel.image.read(start, sites[0].address - start)
                assert code is not None
                lines = [line for _, _, line in one.kernel.image.disassemble(start, code, False)]
                before = "yes" if any("cmpxchg" in line for line in lines) else "no"
            rows.append([name, f"`{function}`", ", ".join(f"`{_short(s.op)}`" for s in sites) or "none", before])
    return _table(["", "function", "its sites", "`cmpxchg` before the first"], rows)


def passes_table(found: Kernels) -> list[str]:
    """The tables by which a kernel rewrites itself: rows, and how many writes change something on bare hardware."""
    counts: dict[str, dict[str, str]] = {table: {} for table in TABLES_OF_SITES}
    for name, one in found.items():
        writes = dict(one.kernel.plan("native").by_pass())
        for table, cells in counts.items():
            if table == "runtime_const":
                rows = sum(len(addresses) for _, _, addresses in one.kernel.tables.constants())
            elif table == "paravirt":
                rows = len(one.kernel.paravirt or ())
            else:
                rows = len(one.kernel.tables.rows(table))
            if rows:
                cells[name] = f"{rows:,} / {writes.get(table, 0):,}"
    rows_of = [[f"`{table}`", *(cells.get(name, _NONE) for name in found)] for table, cells in counts.items()]
    return _table(["table", *found], rows_of)


def memory_table(found: Kernels, folder: Path) -> list[str]:
    """The outcomes, predicted for the machines of real boots, against what those held in memory."""
    rows = []
    for name, one in found.items():
        address, size = next((a, s) for section, a, s, _ in one.kernel.image.sections() if section == ".text")
        for mode, backend in MODES.items():
            boot = folder / "boots" / f"{one.kernel.release}~{mode}"
            memory = text_in_memory(
                BootFiles(boot.name, f"{boot}.json"), one.kernel.image.read(address, size) or b"", address
            )
            plan = one.kernel.plan(backend, machine=Machine.from_facts(f"{boot}.facts"))
            inside = equal = 0
            for site, outcome in zip(one.sites, one._outcomes(plan), strict=True):
                at = site.address - address
                if 0 <= at < size:
                    inside += 1
                    equal += memory[at : at + len(outcome.code)] == outcome.code
            rows.append([name, BACKENDS[backend], inside, equal])
    return _table(["", "booted as", "sites in `.text`", "as predicted in memory"], rows)


TABLES = {
    "kernels": kernels_table,
    "multiway": multiway_table,
    "save": save_table,
    "kinds": kinds_table,
    "classes": classes_table,
    "forms": forms_table,
    "rows": rows_table,
    "last-word": last_word_table,
    "locks": locks_table,
    "fast-path": fast_path_table,
    "passes": passes_table,
    "by-op": by_op_table,
}


def current(page: str, folder: Path) -> str:
    """The page with its tables as they should be.

    Raises:
        InputError: a kernel of the page is not in the folder.
    """
    found = {name: Measured(pvops.open(folder / "kernels" / f"vmlinuz-{r}")) for name, r in RELEASES.items()}
    tables = {name: table(found) for name, table in TABLES.items()} | {"memory": memory_table(found, folder)}
    return filled(page, tables)


def main(arguments: list[str]) -> int:
    """Writes the page, or with ``--check`` compares it."""
    folder = os.environ.get("PVOPS_KERNELS")
    if not folder:
        print("PVOPS_KERNELS is not set: it names the folder with the kernels", file=sys.stderr)
        return 2
    old = PAGE.read_text()
    new = current(old, Path(folder))
    if "--check" not in arguments:
        PAGE.write_text(new)
    elif new != old:
        print(f"{PAGE.name} is not what the kernels say: run python docs/{Path(__file__).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
