"""The grammar of `pvops run`."""

from __future__ import annotations

import argparse

from pvops.cli.grammar.common import Commands, command, formats, html

#: What takes a number, for locks: name, what stands for the number, help.
_NUMBERS = (
    ("pcpus", "P", "physical CPUs (default: half of the virtual ones)"),
    ("seed", "SEED", "of the schedule (default 1)"),
    ("schedules", "N", "run so many, with seeds from --seed on (default 1)"),
    ("bits", "32|64", "only kernels of this width"),
    ("turns", "N", "acquisitions of each CPU (default 4)"),
    ("think", "LOOPS", "between two acquisitions (default 4)"),
    ("hold", "LOOPS", "in one (default 4)"),
    ("threshold", "LOOKS", "looks at the lock before a waiter blocks (default 16)"),
    ("quantum", "INSTRUCTIONS", "at a stretch, on the average (default 6)"),
    ("slice", "CYCLES", "of the scheduler (default 400)"),
    ("tick", "CYCLES", "from one timer interrupt of a CPU to the next, whose handler takes a lock (default: none)"),
)
#: What is for locks alone, beside ``--vcpus``, as the parsed arguments have it.
LOCK_OPTIONS = (
    *(name for name, _, _ in _NUMBERS),
    *("scheduler", "user", "tick_sleepers", "store_buffers", "gantt", "mutant"),
)


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "run",
        "Runs guests whose kernel calls ops, natively and below lguest, Xen and KVM, in an emulator: what each run "
        "costs, as built and patched, with lazy mode and without; and whether all end in the same state. Without "
        "arguments, everything. Needs the extra `run`. Exit status 1 where a run ends badly or the states differ.",
    )
    parser.add_argument(
        "guest",
        metavar="GUEST",
        nargs="*",
        help="boot, switch, lock, tour, tour64 (x86-64), or a Python file that defines `program` (default: the five); "
        "with --vcpus a lock: ticket-2.6.25, pv-ticket-3.12, … (default: every lock)",
    )
    parser.add_argument(
        "--era",
        metavar="ERA",
        action="append",
        default=[],
        help="seed or 2.6.33, for tour64 2.6.33 or 3.12 (default: all)",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="native, lguest, xen, kvm; for locks hyperv, hyperv-spin; may be repeated (default: all that there are)",
    )
    patched = parser.add_mutually_exclusive_group()
    patched.add_argument("--patched", dest="patched", action="store_true", default=None, help="patched runs only")
    patched.add_argument("--as-built", dest="patched", action="store_false", help="runs without patching only")
    lazy = parser.add_mutually_exclusive_group()
    lazy.add_argument("--lazy", dest="lazy", action="store_true", default=None, help="runs with lazy mode only")
    lazy.add_argument("--not-lazy", dest="lazy", action="store_false", help="runs without lazy mode only")
    parser.add_argument("--trace", action="store_true", help="show each op as it is called, with arguments")
    parser.add_argument("--nops", metavar="TABLE", help="k8 (default), k7, generic or (not in the seed) p6")
    parser.add_argument(
        "--without",
        metavar="CLASS",
        action="append",
        default=[],
        help="configure a class of ops out: misc, time, cpu, irq, apic, mmu; may be repeated",
    )
    parser.add_argument(
        "--length", type=int, default=0, metavar="BYTES", help="pad each site to at least so many bytes (default: none)"
    )
    parser.add_argument(
        "--instructions", type=int, default=5_000_000, metavar="N", help="stop a run after so many (default 5,000,000)"
    )
    parser.add_argument("--image", metavar="FILE", help="write the guest's kernel, an ELF file, and run nothing")
    _locks(parser)
    html(parser, "tables and timelines")
    formats(parser, rows=True)


def _locks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "locks on several virtual CPUs",
        "With --vcpus the guests are locks: every CPU takes one, and a hypervisor puts virtual CPUs on physical ones. "
        "A run is decided by its seed; cycles are a model (an instruction is one) and no time.",
    )
    group.add_argument("--vcpus", type=int, metavar="N", help="virtual CPUs, up to 32")
    for name, metavar, what in _NUMBERS:
        group.add_argument(f"--{name}", type=int, metavar=metavar, help=what)
    group.add_argument("--scheduler", metavar="NAME", help="round-robin or credit (default)")
    group.add_argument(
        "--user",
        action="store_true",
        default=None,
        help="each turn is a system call of a program in user space, out of which the kernel came by sysret (x86-64)",
    )
    group.add_argument(
        "--tick-sleepers",
        action="store_true",
        default=None,
        help="the timer interrupts CPUs that sleep too (default: not, so that it does not repair what a lock lost)",
    )
    group.add_argument(
        "--store-buffers",
        action="store_true",
        default=None,
        help="CPUs have store buffers, as x86's: the others see a store late, unless a locked instruction or a fence "
        "drains it (default: at once)",
    )
    group.add_argument(
        "--gantt", action="store_true", help="draw who ran, around the first holder that lost its physical CPU"
    )
    group.add_argument(
        "--mutant",
        metavar="NAME",
        help="plant a known bug (missing-fence, …) in each lock that has it, or all, or none (default); what it breaks "
        "is the result",
    )
