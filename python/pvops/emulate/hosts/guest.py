"""A guest as its host sees it: names and addresses, and what the guest's kernel keeps in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.assembler import Built
    from pvops.emulate.cpu import Cpu


class Guest(Protocol):
    """What a host asks of the guest that it runs."""

    @property
    def era(self) -> str:
        """The name of its kernel's era."""

    @property
    def pae(self) -> bool:
        """Its page tables have three levels of entries of 8 bytes, not two of 4."""

    @property
    def built(self) -> Built:
        """The assembled image."""

    @property
    def page_tables(self) -> Sequence[str]:
        """Symbols of the top levels of page tables."""

    def address(self, name: str) -> int:
        """The address of ``symbol`` or ``symbol+0xoffset``; `RunError` where there is none."""

    def size_of(self, name: str) -> int:
        """How far it is from a symbol to the next, in bytes."""

    def holds(self, address: int, size: int) -> bool:
        """Whether all of a range is in writable sections of the image."""

    def named(self, value: int) -> str | int:
        """A number of the machine's state: by name if it is an address in the image."""

    def named_bytes(self, raw: bytes) -> str:
        """A descriptor in hexadecimal."""

    def results(self, cpu: Cpu) -> list[int]:
        """What the program recorded."""

    def fixup(self, address: int) -> int | None:
        """Where the guest goes on when the instruction at an address faults; None where it does not."""
