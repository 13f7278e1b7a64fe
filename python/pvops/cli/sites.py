"""``pvops sites``: every site the kernel may rewrite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping

from pvops.cli import output
from pvops.cli.kernels import opened, slide_of
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pvops.image.sites import Site
    from pvops.kernel import Kernel

_COLUMNS = (
    "address",
    "section",
    "symbol",
    "table",
    "index",
    "type",
    "op",
    "len",
    "clobbers",
    "feature",
    "inverted",
    "direct_call",
    "key",
    "target",
    "constant",
    "bytes",
    "runtime_address",
)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
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
        output.print_json(document(kernel, args))
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, _rows(kernel, args), _COLUMNS)
    else:
        _print_text(kernel, args)
    return 0


def _chosen(kernel: Kernel, args: argparse.Namespace) -> Sequence[Site]:
    sites = kernel.sites if args.table is None else kernel.sites.of_table(args.table)
    if args.op is None:
        return sites
    if args.op not in kernel.ops.names:
        from pvops.errors import OpsError, nearest

        raise OpsError(f"{kernel.name}: no op {args.op}{nearest(args.op, kernel.ops.names)}", file=kernel.name)
    return [site for site in sites if site.op == args.op]


def document(kernel: Kernel, args: argparse.Namespace) -> dict[str, object]:
    """The JSON document, ``pvops.sites/1``."""
    sites = _chosen(kernel, args)
    arrays = [
        {"symbol": array.symbol, "address": terminal.hex_address(array.address), "first": array.first}
        for array in kernel.ops.arrays
    ]
    found: dict[str, object] = {
        "schema": "pvops.sites/1",
        "kernel": kernel.name,
        "release": kernel.release,
        "arch": kernel.arch,
        "container": kernel.image.container,
        "slide": terminal.hex_address(args.slid),
        "layouts": layouts(kernel, args.table),
        "ops": {"arrays": arrays, "slots": len(kernel.ops), "named_by": kernel.ops.named_by} if arrays else None,
        "summary": counts(sites),
        "sites": [_site(site, args.names, args.slid) for site in sites],
    }
    return found


def layouts(kernel: Kernel, table: str | None = None) -> dict[str, str]:
    """The record layout found for each table that has had several."""
    out = {}
    if kernel.paravirt is not None and table in (None, "paravirt"):
        out["paravirt"] = kernel.paravirt.layout
    if table in (None, "alternatives") and (layout := kernel.tables.alternatives_layout) is not None:
        out["alternatives"] = layout
    return out


def counts(sites: Sequence[Site]) -> dict[str, object]:
    """Rows by table, addresses, and how many addresses more than one table names."""
    rows: dict[str, int] = {}
    sections: dict[str, int] = {}
    ops: dict[str, int] = {}
    shared: dict[str, int] = {}
    several = 0
    for site in sites:
        tables = list(dict.fromkeys(row.table for row in site.rows))
        for row in site.rows:
            rows[row.table] = rows.get(row.table, 0) + 1
        sections[site.section] = sections.get(site.section, 0) + 1
        if site.op is not None:
            ops[site.op] = ops.get(site.op, 0) + 1
        if len(tables) > 1:
            several += 1
            pair = " + ".join(tables)
            shared[pair] = shared.get(pair, 0) + 1
    most = dict(sorted(ops.items(), key=lambda op: -op[1]))
    return {
        "rows": rows,
        "addresses": len(sites),
        "sections": dict(sorted(sections.items(), key=lambda section: -section[1])),
        "claimed_by_several": several,
        "shared": dict(sorted(shared.items(), key=lambda pair: -pair[1])),
        "ops": most,
    }


def _site(site: Site, names: bool, slide: int) -> Mapping[str, object]:
    return {
        **_address(site, slide),
        "section": site.section,
        "symbol": site.symbol if names else None,
        "bytes": site.bytes.hex(),
        "rows": [row.to_dict() for row in site.rows],
    }


def _address(site: Site, slide: int) -> dict[str, object]:
    out: dict[str, object] = {"address": terminal.hex_address(site.address)}
    return out | ({"runtime_address": terminal.hex_address(site.address + slide)} if slide else {})


def _rows(kernel: Kernel, args: argparse.Namespace) -> Iterator[Mapping[str, object]]:
    for site in _chosen(kernel, args):
        for row in site.rows:
            yield {
                **_address(site, args.slid),
                "section": site.section,
                "symbol": site.symbol if args.names else None,
                **row.to_dict(),
                "bytes": site.bytes.hex(),
            }


# Text


def _print_text(kernel: Kernel, args: argparse.Namespace) -> None:
    style = terminal.Style(args.color)
    head = f"{style.bold(kernel.release or kernel.name)}  {kernel.arch}  {kernel.image.container}"
    lines: Iterable[str]
    if args.table == "paravirt" and args.op is None and not args.slid:
        summary, lines = paravirt_summary(kernel), [_paravirt_listing(kernel, args)]
    else:
        sites = _chosen(kernel, args)
        summary, lines = (
            full_summary(kernel, sites, args.table),
            [] if args.summary else list(_lines(kernel, sites, args.names, args.slid)),
        )
    # All of it is made before any of it is printed: trouble leaves nothing on standard output.
    sys.stdout.write("\n".join([head, *summary]) + "\n")
    if not args.summary:
        sys.stdout.write("\n")
        for line in lines:
            sys.stdout.write(line)


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


def full_summary(kernel: Kernel, sites: Sequence[Site], table: str | None) -> list[str]:
    """What a person wants to read first of all tables."""
    found = counts(sites)
    rows, shared, ops = found["rows"], found["shared"], found["ops"]
    assert isinstance(rows, dict)
    assert isinstance(shared, dict)
    assert isinstance(ops, dict)
    shapes = layouts(kernel, table)
    body = [["mechanism", "rows", ""], *([name, str(n), shapes.get(name, "")] for name, n in rows.items())]
    lines = [f"  {line}" for line in terminal.table(body, right=[1])]
    lines.append(
        f"  {found['addresses']} addresses, {found['claimed_by_several']} of them claimed by more than one mechanism"
    )
    lines += [f"    {n:>6}  {pair}" for pair, n in list(shared.items())[:6]]
    if ops:
        lines += _ops_lines(kernel, list(ops.items()))
    return lines


def _lines(kernel: Kernel, sites: Sequence[Site], names: bool, slide: int) -> Iterator[str]:
    for site in sites:
        what = ", ".join(dict.fromkeys(row.table for row in site.rows))
        code = "; ".join(text for _, _, text in kernel.image.disassemble(site.address, site.bytes, names))
        place = f"  # {site.symbol}" if names and site.symbol else ""
        op = f"  {site.op}" if site.op else ""
        yield f"{site.address + slide:016x}  {what}{op}  {terminal.spaced(site.bytes)}  {code}{place}\n"
