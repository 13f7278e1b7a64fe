"""What several commands do first: open the kernel, the machine, the backends."""

from __future__ import annotations

import argparse
import os

from pvops.cli.output import error_document, hold, json_text, note, one_line, remark
from pvops.cli.streams import standard_input
from pvops.errors import InputError, OpsError, UsageError
from pvops.image.view import MAY_LACK
from pvops.kernel import Kernel, open, open_stdin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.places import Place
    from pvops.machine.machine import Machine
    from pvops.plan.plan import Plan


#: The least CONFIG_PHYSICAL_ALIGN (arch/x86/Kconfig): i386's; x86-64's is 0x200000.
_SLIDES_BY = 0x2000


def opened(args: argparse.Namespace) -> Kernel:
    """The kernel of the command line; ``-`` is standard input. What is wrong with other words is said before."""
    _check_words(args)
    words = (getattr(args, name, None) for name in ("machine", "a", "b"))
    asked = [args.kernel, *words, *(getattr(args, "memory", None) or [])]
    if asked.count("-") > 1:
        raise OpsError("standard input is one file, and more than one is to be read from it")
    _say_if_cut(args)
    try:
        kernel = open_stdin() if args.kernel == "-" else open(args.kernel)
    except InputError as error:
        place = getattr(args, "where", None) or getattr(args, "function", None)
        if place is not None and os.path.isfile(place) and not os.path.exists(args.kernel):
            raise InputError(f"{error} (the kernel comes first, then the place)", file=error.file) from None
        raise
    if args.verbose:
        note(f"{kernel.name}: {kernel.arch}, {kernel.image.container}, release {kernel.release or 'unknown'}")
    if unknown := kernel.image.unknown_sections():
        what = f"{'sections' if len(unknown) > 1 else 'section'} {', '.join(unknown)}"
        hold(f"{kernel.name}: {what}: lists code, and no pass here goes by it; what the kernel writes there is missing")
    if kernel.shuffled:
        what = f"{kernel.shuffled} functions have sections of their own, which a boot may shuffle (FG-KASLR)"
        hold(f"{kernel.name}: {what}; this is the text of one with `nokaslr` or `nofgkaslr`")
    # Of another table that is asked for alone nothing is missing, and no symbol need be read.
    if getattr(args, "table", None) in (None, *MAY_LACK) and (missing := kernel.tables_not_found):
        why = "no symbol says where they lie, and nothing looks like more than a few of their rows"
        hold(f"{kernel.name}: {', '.join(missing)}: {why}; if there are any, what the kernel writes there is missing")
    # A table that is asked for alone goes by no rules.
    if getattr(args, "table", None) is None:
        if doubt := _doubt(kernel):
            hold(f"{kernel.name}: {doubt}; rules and names of {kernel.era} are taken")
        if args.verbose:
            _say_rules(kernel)
    return kernel


def _say_rules(kernel: Kernel) -> None:
    """Says which rules a kernel patches by, and why; where nothing tells them, those who need them say so."""
    try:
        rules = kernel.rules
        note(f"rules of {rules.passes}: {rules.reason}")
        for said in kernel.by_release():
            note(said)
    except OpsError:
        return


def _say_if_cut(args: argparse.Namespace) -> None:
    """Has the process say so where the kernel's file is cut short while it is read, of which no error tells."""
    from pvops._core import words_of_cut_files

    why = "was cut short while it was read"
    error = InputError(f"{args.kernel}: {why}", reason=why, file=args.kernel)
    document = f"{json_text(error_document(error))}\n" if args.format_ == "json" else ""
    words_of_cut_files(f"pvops: {one_line(str(error))}\n".encode(), document.encode())


def _doubt(kernel: Kernel) -> str:
    """What speaks against the release of an image, in words; nothing tells where it has no rules."""
    try:
        return kernel.rules.doubt
    except OpsError:
        return ""


def _check_words(args: argparse.Namespace) -> None:
    """Refuses a backend that no kernel has, and reads the machine: a kernel takes the most time to open."""
    if (count := getattr(args, "jobs", None)) is not None and count < 1:
        raise UsageError(f"--jobs {count}: at least one is wanted")
    if named := getattr(args, "backend", None):
        from pvops import backends

        for name in [named] if isinstance(named, str) else named:
            backends.check(name)
    if getattr(args, "machine", None) not in (None, "-"):
        args.machine_read = machine_of(args)


def jobs(args: argparse.Namespace) -> int:
    """How many threads may work at once: ``--jobs``, or without it the CPUs this process may use."""
    from pvops.cpus import usable_cpus

    return args.jobs or len(usable_cpus())


def machine_of(args: argparse.Namespace) -> Machine | str | None:
    """The machine of ``--machine``, as `Kernel.plan` takes it: None without one, and the word ``baseline`` as it is."""
    if getattr(args, "machine_read", None) is not None:
        read: Machine | str = args.machine_read
        return read
    if args.machine is None:
        return None
    from pvops.machine.presets import BASELINE

    if args.machine not in (BASELINE, "-") and not os.path.exists(args.machine):
        from pvops import backends

        name, _, machine = args.machine.partition(":")
        if name.casefold() in backends.names():
            instead = f"--backend {name.casefold()}{' --machine ' + machine if machine else ''}"
            raise UsageError(f"--machine {args.machine}: {name} is a backend: {instead}")
    return args.machine if args.machine == BASELINE else machine_in(args.machine)


def machine_in(path: str) -> Machine:
    """The machine that a file describes, or standard input for ``-``, or a preset's name; facts that exclude each other
    are said."""
    from pvops.machine.contradictions import contradiction
    from pvops.machine.machine import LIMIT, Machine

    machine = Machine.load(path) if path != "-" else Machine.parse(standard_input().read(LIMIT + 1), name="<stdin>")
    if why := contradiction(machine):
        hold(f"{machine.name}: its facts contradict each other: {why}; no boot of one kernel is so")
    return machine


def say_assumed(args: argparse.Namespace, machine: Machine | None, text: str = "") -> None:
    """Says which machine was taken without ``--machine``; with one, how to tell what the text says is assumed.

    Once, beside the text: JSON documents name the machine, and their reasons what is assumed.
    """
    if args.machine is not None and "assumed" in text:
        remark("facts of the machine itself settle what is assumed: `pvops machine --collect`")
    if args.machine is None and machine is not None and args.format_ == "text":
        usual = f"{machine.name}, a usual CPU of that kernel's time"
        remark(f"no --machine: {usual}, is assumed (--machine baseline: none)")


def told_machine(args: argparse.Namespace) -> Machine | None:
    """The machine of ``--machine``, or None where there is none: for what is inferred then."""
    machine = machine_of(args)
    return None if isinstance(machine, str) else machine


def slide_of(args: argparse.Namespace, kernel: Kernel) -> int:
    """How far the kernel of the addresses slid: ``--slide``, or where ``--slide-of`` finds it; 0 without either.

    Below 0 where it runs below where it was linked, as i386's kernels may.
    """
    if args.slide_of is not None:
        from pvops.image import memory

        slide = memory.open(args.slide_of).find(kernel).slide
        return slide - (1 << 64) if slide >> 63 else slide
    slide = args.slide or 0
    if slide < 0 and kernel.bits == 64:
        raise UsageError(f"--slide {slid(slide)} is no slide: kernels slide up, but for those of 32 bits")
    if slide % _SLIDES_BY:
        why = f"--slide {slide:#x} is no slide: kernels slide by multiples of {_SLIDES_BY:#x} and more"
        raise UsageError(f"{why}; /proc/kallsyms' address of _text, less that of the image, is one")
    return slide


def slid(slide: int) -> str:
    """A slide as documents carry it, modulo 2**64."""
    return f"{slide & (1 << 64) - 1:#x}"


def places_of(kernel: Kernel, text: str, slide: int) -> list[Place]:
    """The places that a text means; what speaks against one is said."""
    places = kernel.places(text, slide=slide)
    for doubt in dict.fromkeys(place.doubt for place in places if place.doubt):
        remark(doubt)
    return places


def backend_of(kernel: Kernel, machine: Machine | str | None) -> str:
    """The backend that a kernel takes on a machine; where its description does not tell, that is said."""
    from pvops.decide.backend import chosen

    described = None if isinstance(machine, str) else machine
    choice = chosen(kernel, described)
    if described is not None and choice.name == "native" and described.backend.value != "native":
        remark(f"{described.name}: {choice.why}; taken as native")
    return choice.name


def backends_of(args: argparse.Namespace, kernel: Kernel, machine: Machine | str | None) -> list[str]:
    """The backends of ``--backend``; without any that of the machine, which is said where it is not native."""
    if args.backend:
        return list(dict.fromkeys(args.backend))
    name = backend_of(kernel, machine)
    if name != "native" and machine is not None and not isinstance(machine, str) and args.format_ == "text":
        remark(f"no --backend: {machine.name} runs on {name} (--backend native: on none)")
    return [name]


def planned(
    args: argparse.Namespace,
    kernel: Kernel,
    backend: str,
    machine: Machine | str | None,
    places: list[Place] | None = None,
) -> Plan:
    """The plan under a backend, or of some places; with ``--verbose`` what was found and assumed goes to stderr."""
    from pvops.decide.slots import NATIVE

    plan = kernel.plan(backend, machine=machine, places=places)
    if args.verbose:
        note(f"ops named by {kernel.ops.named_by}; {kernel.ops.where}")
        note(f"nops {plan.nops.table}: {plan.nops.why}")
        note(f"lock prefixes {'patched away' if plan.setup.uniprocessor[0] else 'stay'}: {plan.setup.uniprocessor[1]}")
        for slot in plan.slots.values():
            if slot.why != NATIVE:
                note(f"{backend}: {slot.op} = {slot.symbol or 'NULL'}: {slot.why}")
    return plan
