"""What a guest does, in steps: calls of ops with their arguments, loops, lazy sections, faults.

A program names no era and no backend: it is built for each. So the same program ends in the same state everywhere, or a
backend is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pvops.assembler import Value
from pvops.assembler.statements import Body
from pvops.tuples import NamedTuple


class Call(NamedTuple):
    """An op is called.

    Attributes:
        op: its full name in the seed; later eras' names are found (`pvops.emulate.guest.calls`).
        arguments: numbers or addresses, a word each; `Entry` is a page table entry.
        record: what it returns is a result of the guest.
    """

    op: str
    arguments: tuple[Argument, ...] = ()
    record: bool = False


class Entry(NamedTuple):
    """A page table entry as an argument: one word, or two with PAE."""

    value: int


class Pmd(NamedTuple):
    """The address of the directory entry that refers to an mm's page table."""

    mm: int


class Pte(NamedTuple):
    """The address of the entry for a page in an mm's page table."""

    mm: int
    page: int


class Table(NamedTuple):
    """A directory entry as an argument: it refers to the page table of an mm."""

    mm: int


class Loop(NamedTuple):
    """Steps, so many times; up to three deep."""

    times: int
    steps: tuple[Step, ...]


class Lazy(NamedTuple):
    """Steps in lazy mode, ``mmu`` or ``cpu``: the hypervisor may be told of them at the end, at once."""

    mode: str
    steps: tuple[Step, ...]


class IrqSave(NamedTuple):
    """``local_irq_save``, steps, ``local_irq_restore``."""

    steps: tuple[Step, ...]


class Locked(NamedTuple):
    """Steps inside a spinlock."""

    steps: tuple[Step, ...]


class Touch(NamedTuple):
    """Reads user memory: the pages of an mm from the first on, one each time this is executed.

    Attributes:
        mm: whose, which must be the current one.
        stride: pages from one to the next.
    """

    mm: int
    stride: int = 1


class Switch(NamedTuple):
    """To another address space and thread: page table, stack, TLS, LDT, FPU."""

    mm: int


class Sysexit(NamedTuple):
    """The end of a guest as of a system call: interrupts on, and to user space, which is where guests end."""


class Raw(NamedTuple):
    """Instructions as they are."""

    body: tuple[Body, ...]


Argument = int | Value | Entry | Pmd | Pte | Table
Step = Call | Loop | Lazy | IrqSave | Locked | Touch | Switch | Sysexit | Raw


class Program(NamedTuple):
    """A guest's program.

    Attributes:
        name: as on the command line.
        doc: what it does, in a line.
        steps: in order.
        fault_around: how many pages its page fault handler maps at once, a power of two up to 64.
    """

    name: str
    doc: str
    steps: tuple[Step, ...]
    fault_around: int = 16


def walk(steps: Iterable[Step]) -> Iterable[Step]:
    """Every step, those inside others too."""
    for step in steps:
        yield step
        inner: Sequence[Step] = getattr(step, "steps", ())
        yield from walk(inner)
