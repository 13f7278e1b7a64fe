"""``pvops ops``: the ops structures, of a kernel or of an era's headers."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence

from pvops.cli import output
from pvops.cli.kernels import backends_of, machine_of, opened, say_assumed
from pvops.cli.streams import standard_input
from pvops.errors import InputError, OpsError
from pvops.render import terminal
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.definition import Era
    from pvops.eras.structs import Config

#: How many characters of a configuration file are read, or bytes of standard input: Debian's has 300,000.
_CONFIG_LIMIT = 16 << 20


class OpRow(NamedTuple):
    """One op and what each backend puts there: backend → function, None for NULL."""

    array: str
    type: int
    offset: int
    op: str
    doc: str
    held: Mapping[str, str | None]


class View(NamedTuple):
    """A table of ops with what stands above it."""

    title: str
    lines: Sequence[str]
    facts: Mapping[str, object]
    backends: Sequence[str]
    rows: Sequence[OpRow]


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops import backends

    if args.kernel is not None and args.era is None:
        if args.asm_offsets or args.config or args.bits:
            raise OpsError("--asm-offsets, --config and --bits are of an era's headers: give --era, and no KERNEL")
        view = _of_kernel(args)
    elif args.kernel is None and args.era is not None:
        if args.machine is not None:
            raise OpsError("--machine is for a KERNEL: an era's headers have no machine")
        if args.asm_offsets and args.backend:
            raise OpsError("--backend is not for --asm-offsets: offsets are the same for every backend")
        for name in args.backend:
            backends.check(name)
        if args.asm_offsets:
            return _asm_offsets(args)
        view = _of_era(args)
    else:
        raise OpsError("give a KERNEL, or an era's headers with --era")
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.ops/1",
                **view.facts,
                "backends": list(view.backends),
                "ops": [_data(r) for r in view.rows],
            }
        )
    elif args.format_ in ("jsonl", "csv"):
        flat = ({k: v for k, v in _data(r).items() if k != "backends"} | dict(r.held) for r in view.rows)
        output.print_rows(args.format_, flat, ("array", "type", "offset", "op", "doc", *view.backends))
    else:
        _print_text(view, args)
    return 0


def _data(row: OpRow) -> dict[str, object]:
    fields = row._asdict()
    return {**{name: fields[name] for name in fields if name != "held"}, "backends": dict(row.held)}


# Of a kernel


def _of_kernel(args: argparse.Namespace) -> View:
    kernel = opened(args)
    kernel.ops.require()
    machine = machine_of(args)
    names = list(dict.fromkeys(["native", *backends_of(args, kernel, machine)]))
    slots = {name: kernel.slots(name, machine=machine) for name in names}
    if args.backend:
        say_assumed(args, kernel.usual_machine("native") if machine is None else None)
    from pvops import eras
    from pvops.machine.machine import Machine

    era = kernel.ops.era
    rows = []
    for type, op in enumerate(kernel.ops.names):
        held = {
            name: held_by[op].symbol or terminal.hex_address(held_by[op].address or None)
            for name, held_by in slots.items()
        }
        rows.append(OpRow("pv_ops", type, type * kernel.word, op, eras.doc(era, op) if era else "", held))
    title = f"{kernel.release or kernel.name}  {kernel.arch}"
    lines = [f"{kernel.ops.where}, {len(rows)} slots, named by {kernel.ops.named_by}"]
    facts = {
        "kernel": kernel.name,
        "release": kernel.release,
        "era": era.name if era else None,
        "address": terminal.hex_address(kernel.ops.address),
        "named_by": kernel.ops.named_by,
        "machine": machine.name if isinstance(machine, Machine) else machine or kernel.usual_machine(names[-1]).name,
    }
    return View(title, lines, facts, names, rows)


# Of an era's headers


def _config(args: argparse.Namespace, era: Era) -> Config:
    settings: dict[str, bool] = {}
    bits = args.bits
    for item in args.config:
        key, equals, value = item.partition("=")
        if equals and os.sep not in key:
            if value not in ("y", "n"):
                raise OpsError(f"--config {item}: a symbol is set with =y or not with =n")
            settings[key.removeprefix("CONFIG_")] = value == "y"
            continue
        text = _read(item)
        if "CONFIG_" not in text:
            raise InputError(f"{item}: is no kernel configuration: no line has CONFIG_", file=item)
        read = era.read_config(text)
        bits = bits or read.bits
        settings = {o.symbol: o.symbol in read.symbols for o in era.configs} | settings
    return era.default_config(bits, **settings)


def _read(path: str) -> str:
    if path == "-":
        return standard_input().read(_CONFIG_LIMIT).decode("utf-8", "replace")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_CONFIG_LIMIT)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", file=path) from None


def _of_era(args: argparse.Namespace) -> View:
    from pvops import eras as ops
    from pvops.backends.headers import held_by

    era = ops.era(args.era)
    config = _config(args, era)
    names = list(dict.fromkeys(["native", *args.backend]))
    held = {name: held_by(name, era, config) for name in names}
    rows = [
        OpRow(
            t.symbol or t.name, op.type, op.offset, op.name, ops.doc(era, op.name), {n: held[n][op.name] for n in names}
        )
        for t in era.templates(config)
        for op in t
    ]
    exports = ", ".join(f"{name} ({macro})" for name, macro in era.exports.items())
    lines = [
        f"source    {era.source}",
        f"config    {config.bits} bits, {' '.join(sorted(config.symbols)) or 'nothing set'}",
        f"exported  {exports or 'nothing'}",
    ]
    facts: dict[str, object] = {
        "era": era.name,
        "source": era.source,
        "bits": config.bits,
        "config": sorted(config.symbols),
        "exports": dict(era.exports),
        "templates": [
            {"symbol": t.symbol, "name": t.name, "size": t.size, "structs": dict(t.struct_offsets)}
            for t in era.templates(config)
        ],
    }
    if era.name == "2.6.23":
        from pvops.eras.v2_6_23 import aliases

        lines.append("aliases   " + ", ".join(f"{n} = paravirt_ops+{at}" for n, at in aliases(config).items()))
        facts["aliases"] = aliases(config)
    return View(f"ops of {era.name}", lines, facts, names, rows)


def _asm_offsets(args: argparse.Namespace) -> int:
    from pvops import eras as ops

    era = ops.era(args.era)
    config = _config(args, era)
    offsets = era.asm_offsets(config)
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.asm-offsets/1",
                "era": era.name,
                "bits": config.bits,
                "config": sorted(config.symbols),
                "offsets": offsets,
            }
        )
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, ({"name": n, "value": v} for n, v in offsets.items()), ("name", "value"))
    else:
        lines = terminal.table([(name, str(value)) for name, value in offsets.items()], right=[1])
        output.print_lines(lines)
    return 0


# Text


def _print_text(view: View, args: argparse.Namespace) -> None:
    style = terminal.Style(args.color)
    out = [style.bold(view.title), *(f"  {line}" for line in view.lines), ""]
    arrays = {row.array for row in view.rows}
    table = [["type", "offset", "op", *view.backends, "what it does" if len(view.backends) == 1 else ""]]
    for row in view.rows:
        native = row.held[view.backends[0]] or "NULL"
        others = [row.held[name] or "NULL" for name in view.backends[1:]]
        cells = [native, *("=" if other == native else other for other in others)]
        number = str(row.type) if len(arrays) == 1 else f"{row.array} {row.type}"
        table.append([number, str(row.offset), row.op, *cells, row.doc if len(view.backends) == 1 else ""])
    lines = terminal.table(table, right=[0, 1])
    out.append(style.dim(lines[0]))
    out += lines[1:]
    output.print_lines(out)
