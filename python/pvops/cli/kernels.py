"""What several commands do first: open the kernel, the machine, the backends."""

from __future__ import annotations

import argparse

from pvops.cli.output import note
from pvops.kernel import Kernel, open, open_stdin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine
    from pvops.plan.plan import Plan


def opened(args: argparse.Namespace) -> Kernel:
    """The kernel of the command line; ``-`` is standard input."""
    kernel = open_stdin() if args.kernel == "-" else open(args.kernel)
    if args.verbose:
        note(f"{kernel.name}: {kernel.arch}, {kernel.image.container}, release {kernel.release or 'unknown'}")
    return kernel


def machine_of(args: argparse.Namespace) -> Machine | None:
    """The machine of ``--machine``, or None."""
    if args.machine is None:
        return None
    from pvops.machine.machine import Machine

    return Machine.load(args.machine)


def backend_of(kernel: Kernel, machine: Machine | None) -> str:
    """The backend that a kernel takes on a machine."""
    from pvops.decide.backend import backend_for

    return backend_for(kernel, machine).name


def planned(args: argparse.Namespace, kernel: Kernel, backend: str, machine: Machine | None) -> Plan:
    """The plan under a backend; with ``--verbose`` what was found and assumed goes to stderr."""
    from pvops.decide.slots import NATIVE

    plan = kernel.plan(backend, machine=machine)
    if args.verbose:
        note(f"ops named by {kernel.ops.named_by}; {kernel.ops.where}")
        note(f"rules of {plan.rules.passes}: {plan.rules.told}")
        note(f"nops {plan.nops.table}: {plan.nops.why}")
        note(f"lock prefixes {'patched away' if plan.setup.uniprocessor[0] else 'stay'}: {plan.setup.uniprocessor[1]}")
        for slot in plan.slots.values():
            if slot.why != NATIVE:
                note(f"{backend}: {slot.op} = {slot.symbol or 'NULL'}: {slot.why}")
    return plan
