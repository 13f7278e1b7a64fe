"""``pvops machine``: describes this machine, or another from its facts."""

from __future__ import annotations

import argparse
import os
import sys

from pvops.cli import output
from pvops.errors import UsageError
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import pvops._core as _core

    if (args.collect or args.presets) and args.output is not None:
        what = "--collect" if args.collect else "--presets"
        raise UsageError(f"-o is for the description of a machine; what {what} prints goes to a file by >")
    if args.collect and args.format_ == "json":
        raise UsageError("--collect prints a shell script, and no document")
    if args.collect:
        from pvops.machine.collect import script

        sys.stdout.write(script())
        return 0
    if args.presets:
        return _presets(args)
    if args.output is not None:
        output.writable(args.output)
    machine = _described(args)
    document = machine.to_dict()
    if args.output == "-":
        output.print_json(document)
        return 0
    if args.output is not None:
        import json

        _core.write_file(args.output, (json.dumps(document, indent=1) + "\n").encode())
    if args.format_ == "json":
        output.print_json(document)
    else:
        style = terminal.Style(args.color)
        title = style.bold(terminal.printable(os.path.basename(machine.name) or machine.name))
        told = described(machine)
        left = max(len(name) for name, _ in told) + 4
        rows = []
        for name, text in told:
            first, *more = terminal.fitted(text, "  ", left=left)
            rows += [[f"  {style.dim(name)}", first], *([f"  {style.dim('')}", line] for line in more)]
        output.print_lines([title, *terminal.table(rows)])
    if args.output is not None:
        output.note(f"{machine.name} -> {args.output}")
    return 0


def _presets(args: argparse.Namespace) -> int:
    from pvops.machine import presets

    machines = [presets.machine(name) for name in presets.NAMES]
    if args.format_ == "json":
        output.print_json({"schema": "pvops.presets/1", "presets": {m.name: m.to_dict() for m in machines}})
        return 0
    style = terminal.Style(args.color)
    left = max(len(m.name) for m in machines) + 2
    below = 2 * left > terminal.columns()  # in a narrow terminal, a line for the name
    for m in machines:
        told = terminal.fitted(_cpu(m), "", left=4 if below else left)
        lines = [" " * (4 if below else left) + line for line in told]
        name = style.bold(m.name)
        lines = [name, *lines] if below else [name + lines[0][len(m.name) :], *lines[1:]]
        output.print_lines(lines)
    return 0


def _described(args: argparse.Namespace) -> Machine:
    if args.facts is not None:
        from pvops.cli.kernels import machine_in

        return machine_in(args.facts)
    from pvops.machine import host

    refused = host.log_refused()
    if refused:
        output.hold(f"the kernel's log cannot be read ({refused}); what only it tells is assumed")
    return host.machine()


def described(machine: Machine) -> list[tuple[str, str]]:
    """What a person wants to know of a machine: (what, value and its source)."""
    backend = machine.backend
    rows = [
        ("CPU", _cpu(machine)),
        ("CPUs", _cpus(machine)),
        ("hypervisor", f"{machine.hypervisor.value or 'not known'} ({machine.hypervisor.source})"),
        ("backend", backend.value or "not known; commands take native"),
        ("kernel", machine.kernel.split(" (")[0] if machine.kernel else "not known"),
        ("command line", machine.cmdline if machine.cmdline is not None else "not known"),
        ("clock source", machine.clocksource or "not known"),
        ("features", "not known" if machine.flags is None else f"{len(machine.flags)} named by /proc/cpuinfo"),
        *((("features given", _given(machine)),) if machine.features else ()),
        ("bugs", "not known" if machine.bugs is None else " ".join(sorted(machine.bugs)) or "none"),
        ("cpuid", f"{len(machine.cpuid)} leaves" if machine.cpuid else "no leaves"),
        ("log", _log(machine)),
    ]
    rows += [("mitigations" if not i else "", text) for i, text in enumerate(_mitigations(machine))]
    return [(name, terminal.printable(text)) for name, text in rows]


def _given(machine: Machine) -> str:
    return " ".join(f"{name}={'on' if there else 'off'}" for name, there in sorted(machine.features.items()))


def _cpu(machine: Machine) -> str:
    numbers = [
        f"{name} {value:#x}"
        for name, value in (("family", machine.family), ("model", machine.model), ("stepping", machine.stepping))
        if value is not None
    ]
    return ", ".join([machine.model_name or "not named", machine.vendor or "vendor not known", *numbers])


def _cpus(machine: Machine) -> str:
    possible = machine.possible_cpus
    parts = [f"{possible.value} possible ({possible.source})" if possible.value is not None else possible.source]
    if machine.online_cpus is not None:
        parts.append(f"{machine.online_cpus} online")
    if machine.siblings is not None and machine.cores is not None:
        parts.append("SMT" if machine.siblings > machine.cores else "no SMT")
    return ", ".join(parts)


def _log(machine: Machine) -> str:
    if not machine.dmesg:
        return "none: what only the log tells is assumed"
    lines = machine.dmesg.count("\n") + 1
    return f"{lines} lines, {'from the start of the boot' if machine.log_is_whole else 'its start is missing'}"


def _mitigations(machine: Machine) -> list[str]:
    if not machine.vulnerabilities:
        return ["not known"]
    affected = {name: text for name, text in machine.vulnerabilities.items() if text != "Not affected"}
    free = len(machine.vulnerabilities) - len(affected)
    lines = terminal.table([[name, text] for name, text in sorted(affected.items())])
    return [*lines, f"not affected by {free} more" if lines else f"not affected by any of {free}"]
