"""Steps: instructions that the model checker's program has a line for, and the marks by which an acquisition is told.

A step is one instruction and the text of that line in ``src/lock/check/protocols``. So a run of the guest can be taken
again in the model, step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pvops.assembler.statements import Body, Label
from pvops.tuples import NamedTuple

#: Where an acquisition is.
ARRIVE, ENTER, LEAVE, DONE = "arrive", "enter", "leave", "done"


class At(Protocol):
    """A CPU that is about to execute a step.

    Attributes:
        number: its number, from 0.
    """

    number: int

    def get(self, register: str) -> int:
        """A register."""

    def number_at(self, address: int, size: int) -> int:
        """Memory as a number."""


#: Which lines of the model an instruction is, given the CPU in front of it; none where it is not one this time.
Texts = Callable[[At], tuple[str, ...]]


class Step(NamedTuple):
    """An instruction with a meaning.

    Attributes:
        name: label of the instruction.
        lock: of which lock.
        texts: lines of the model.
        mark: what it means for the acquisition.
        when: where that depends on the CPU.
        kicks: it asks the hypervisor for a kick, which is the line; between the two a handler may run, or another CPU.
    """

    name: str
    lock: str
    texts: tuple[str, ...]
    mark: str = ""
    when: Texts | None = None
    kicks: bool = False


class Steps:
    """Collects the steps of a guest while its code is written."""

    def __init__(self) -> None:
        self.all: list[Step] = []

    def __call__(
        self,
        lock: str,
        texts: str | tuple[str, ...],
        instruction: Body,
        *,
        mark: str = "",
        when: Texts | None = None,
        kicks: bool = False,
    ) -> Body:
        """An instruction that is a step."""
        name = f"step_{len(self.all)}.{lock}"
        self.all.append(Step(name, lock, (texts,) if isinstance(texts, str) else texts, mark, when, kicks))
        return (Label(name, False), instruction)
