"""``pvops sites``: every site the kernel may rewrite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping

from pvops.cli import output
from pvops.cli.kernels import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.kernel import Kernel
    from pvops.sites import Site

_COLUMNS = ("address", "section", "symbol", "table", "index", "type", "op", "len", "clobbers", "bytes")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    kernel = opened(args)
    if args.format_ == "json":
        output.print_json(document(kernel, args))
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, _rows(kernel, args), _COLUMNS)
    else:
        _print_text(kernel, args)
    return 0


def _chosen(kernel: Kernel, args: argparse.Namespace) -> list[Site]:
    if args.op is None:
        return list(kernel.sites)
    if args.op not in kernel.ops.names:
        from pvops.errors import OpsError
        from pvops.ops.structs import nearest

        raise OpsError(f"{kernel.name}: no op {args.op}{nearest(args.op, kernel.ops.names)}", file=kernel.name)
    return [site for site in kernel.sites if site.op == args.op]


def document(kernel: Kernel, args: argparse.Namespace) -> dict[str, object]:
    """The JSON document, ``pvops.sites/1``."""
    sites = _chosen(kernel, args)
    return {
        "schema": "pvops.sites/1",
        "kernel": kernel.name,
        "release": kernel.release,
        "arch": kernel.arch,
        "container": kernel.image.container,
        "layouts": {"paravirt": kernel.sites.layout},
        "pv_ops": {
            "address": output.hex_address(kernel.ops.address),
            "slots": len(kernel.ops),
            "named_by": kernel.ops.named_by,
        },
        "summary": {
            "rows": {"paravirt": len(kernel.sites)},
            "sections": dict(kernel.sites.by_section()),
            "ops": dict(kernel.sites.by_op()),
        },
        "sites": [_site(site, args.names) for site in sites],
    }


def _site(site: Site, names: bool) -> Mapping[str, object]:
    return {
        "address": output.hex_address(site.address),
        "section": site.section,
        "symbol": site.symbol if names else None,
        "bytes": site.bytes.hex(),
        "rows": [row.to_dict() for row in site.rows],
    }


def _rows(kernel: Kernel, args: argparse.Namespace) -> Iterator[Mapping[str, object]]:
    for site in _chosen(kernel, args):
        for row in site.rows:
            yield {
                "address": output.hex_address(site.address),
                "section": site.section,
                "symbol": site.symbol if args.names else None,
                **row.to_dict(),
                "bytes": site.bytes.hex(),
            }


def _print_text(kernel: Kernel, args: argparse.Namespace) -> None:
    style = output.Style(args.color)
    parts = ["\n".join(summary(kernel, style)) + "\n"]
    if not args.summary:
        listing = kernel.sites.listing(names=args.names)
        if args.op is not None:
            chosen = {f"{site.address:016x}" for site in _chosen(kernel, args)}
            listing = "".join(line for line in listing.splitlines(keepends=True) if line[:16] in chosen)
        parts += ["\n", listing]
    # All of it is made before any of it is printed: trouble leaves nothing on standard output.
    for part in parts:
        sys.stdout.write(part)


def summary(kernel: Kernel, style: output.Style) -> list[str]:
    """The lines a person wants to read first."""
    sites, ops = kernel.sites, kernel.ops
    structs: dict[str, int] = {}
    for op, n in sites.by_op():
        structs[op.partition(".")[0]] = structs.get(op.partition(".")[0], 0) + n
    sections = ", ".join(f"{name} {n}" for name, n in sites.by_section())
    return [
        f"{style.bold(kernel.release or kernel.name)}  {kernel.arch}  {kernel.image.container}",
        f"  paravirt    {len(sites)} rows ({sites.layout}): {sections}",
        f"  pv_ops      {ops.address:#x}, {len(ops)} slots, named by {ops.named_by}",
        "  structures  " + " · ".join(f"{name} {n}" for name, n in sorted(structs.items(), key=lambda s: -s[1])),
        "  busiest     " + " · ".join(f"{op} {n}" for op, n in sites.by_op()[:4]),
    ]
