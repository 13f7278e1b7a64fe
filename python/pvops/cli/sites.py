"""``pvops sites``: every site the kernel may rewrite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

from pvops.cli import output
from pvops.cli.kernels import jobs, opened, slid, slide_of
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pvops.image.sites import Sites
    from pvops.kernel import Kernel


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    output.refuse_summary_of_rows(args)
    kernel = opened(args)
    args.slid = slide_of(args, kernel)
    if args.table == "paravirt" and kernel.paravirt is None:
        from pvops.errors import TableError

        why = (
            "no .parainstructions: the kernel is built without CONFIG_PARAVIRT, or is 6.8 or later, where calls of ops"
        )
        why += " are direct-call rows of .altinstructions (--table alternatives)"
        raise TableError(f"{kernel.name}: {why}", reason=why, file=kernel.name)
    if args.format_ == "json":
        _print_json(kernel, args)
    elif args.format_ in ("jsonl", "csv"):
        _print_rows(kernel, args)
    else:
        _print_text(kernel, args)
    return 0


def _chosen(kernel: Kernel, args: argparse.Namespace) -> Sites:
    sites = kernel.sites if args.table is None else kernel.sites.of_table(args.table)
    return sites if args.op is None else sites.for_op(args.op)


def _written(sites: Sites, form: str, args: argparse.Namespace) -> Iterator[bytes]:
    """The sites in pieces of UTF-8, as the core writes them."""
    return sites.columns.written(form, sites.chosen, names=args.names, slide=args.slid & (1 << 64) - 1, jobs=jobs(args))


def _print_json(kernel: Kernel, args: argparse.Namespace) -> None:
    """The JSON document, ``pvops.sites/1``; with ``--summary`` all of it but the sites."""
    import json

    sites = _chosen(kernel, args)
    arrays = [
        {"symbol": array.symbol, "address": terminal.hex_address(array.address), "first": array.first}
        for array in kernel.ops.arrays
    ]
    head: dict[str, object] = {
        "schema": "pvops.sites/1",
        "kernel": kernel.name,
        "release": kernel.release,
        "arch": kernel.arch,
        "container": kernel.image.container,
        "slide": slid(args.slid),
        "layouts": layouts(kernel, args.table),
        "ops": {"arrays": arrays, "slots": len(kernel.ops), "named_by": kernel.ops.named_by} if arrays else None,
        "summary": counts(sites),
    }
    text = json.dumps(head, indent=1)
    if args.summary:
        sys.stdout.write(text + "\n")
        return
    pieces = _written(sites, "json", args)
    sys.stdout.write(text.removesuffix("\n}") + ',\n "sites": [')
    output.print_pieces(pieces)
    sys.stdout.write("\n ]\n}\n" if len(sites) else "]\n}\n")


def _print_rows(kernel: Kernel, args: argparse.Namespace) -> None:
    """A row a line, as JSON lines or CSV with a heading."""
    sites = _chosen(kernel, args)
    pieces = _written(sites, args.format_, args)
    if args.format_ == "csv":
        slid = ["runtime_address"] if args.slid else []
        sys.stdout.write(",".join([*sites.columns.csv_columns(), *slid]) + "\n")
    output.print_pieces(pieces)


def layouts(kernel: Kernel, table: str | None = None) -> dict[str, str]:
    """The record layout found for each table that has had several."""
    out = {}
    if kernel.paravirt is not None and table in (None, "paravirt"):
        out["paravirt"] = kernel.paravirt.layout
    if table in (None, "alternatives") and (layout := kernel.tables.alternatives_layout) is not None:
        out["alternatives"] = layout
    return out


def counts(sites: Sites) -> dict[str, object]:
    """Rows by table, addresses, and how many addresses more than one table names."""
    found = sites.counts()
    return {
        "rows": found.rows,
        "addresses": len(sites),
        "sections": found.sections,
        "claimed_by_several": sum(found.shared.values()),
        "shared": found.shared,
        "ops": found.ops,
    }


# Text


def _print_text(kernel: Kernel, args: argparse.Namespace) -> None:
    style = terminal.Style(args.color)
    head = f"{style.bold(kernel.release or kernel.name)}  {kernel.arch}  {kernel.image.container}"
    lines: Iterable[bytes]
    if args.table == "paravirt" and args.op is None and not args.slid:
        summary, lines = paravirt_summary(kernel), [_paravirt_listing(kernel, args).encode()]
    else:
        sites = _chosen(kernel, args)
        summary, lines = (
            full_summary(kernel, sites, args.table),
            [] if args.summary else _written(sites, "text", args),
        )
    # All of it is made before any of it is printed: trouble leaves nothing on standard output.
    output.print_lines([head, *summary])
    if not args.summary:
        sys.stdout.write("\n")
        output.print_listing(lines)


def _paravirt_listing(kernel: Kernel, args: argparse.Namespace) -> str:
    if args.summary or kernel.paravirt is None:
        return ""
    return kernel.paravirt.listing(kernel.ops.names, args.names)


def _ops_lines(kernel: Kernel, by_op: Sequence[tuple[str, int]]) -> list[str]:
    structs: dict[str, int] = {}
    for op, n in by_op:
        structs[op.partition(".")[0]] = structs.get(op.partition(".")[0], 0) + n
    most = sorted(structs.items(), key=lambda struct: -struct[1])
    return [
        f"  ops           {kernel.ops.where}: {len(kernel.ops)} slots, named by {kernel.ops.named_by}",
        "  structures    " + " · ".join(f"{name} {n}" for name, n in most),
        "  busiest       " + " · ".join(f"{op} {n}" for op, n in by_op[:4]),
    ]


def paravirt_summary(kernel: Kernel) -> list[str]:
    """What a person wants to read first of ``.parainstructions``."""
    paravirt = kernel.paravirt
    if paravirt is None:
        return []
    sections = ", ".join(f"{name} {n}" for name, n in paravirt.by_section())
    names = kernel.ops.names
    by_op = [(names[type] if type < len(names) else f"type {type}", n) for type, n in paravirt.by_type()]
    return [f"  paravirt      {len(paravirt)} rows ({paravirt.layout}): {sections}", *_ops_lines(kernel, by_op)]


def full_summary(kernel: Kernel, sites: Sites, table: str | None) -> list[str]:
    """What a person wants to read first of all tables."""
    found = sites.counts()
    shapes = layouts(kernel, table)
    body = [["mechanism", "rows", ""], *([name, str(n), shapes.get(name, "")] for name, n in found.rows.items())]
    lines = [f"  {line}" for line in terminal.table(body, right=[1], before=2)]
    lines.append(f"  {len(sites)} addresses, {sum(found.shared.values())} of them claimed by more than one mechanism")
    lines += [f"    {n:>6}  {pair}" for pair, n in list(found.shared.items())[:6]]
    if found.ops:
        lines += _ops_lines(kernel, list(found.ops.items()))
    return lines
