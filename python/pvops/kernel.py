"""An opened kernel image: its sites, its ops, and the plans made for it."""

from __future__ import annotations

import os
from functools import cached_property

from pvops import _core
from pvops.errors import ImageError, TableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from pvops.backends.backend import Backend
    from pvops.kernel_ops import KernelOps
    from pvops.machine import Machine
    from pvops.plan import Plan
    from pvops.rules import ParavirtRules
    from pvops.sites import Sites


def open(source: str | os.PathLike[str] | Buffer) -> Kernel:
    """Opens a kernel: a vmlinuz of any compression, or an ELF vmlinux.

    Nothing in it is ever executed. An uncompressed file is mapped, not read.

    Args:
        source: a path, or the bytes of an image: anything with the buffer protocol (``bytes``, ``mmap.mmap``, …).

    Raises:
        InputError: the file cannot be read.
        ImageError: it is no kernel image, or a broken one; the message names file, offset and reason.
    """
    if isinstance(source, str | os.PathLike):
        return Kernel(_core.Image.open(os.fspath(source)))
    return Kernel(_core.Image.from_bytes("<bytes>", bytes(memoryview(source))))


def open_stdin() -> Kernel:
    """Opens the kernel that standard input holds."""
    return Kernel(_core.Image.from_stdin())


class Kernel:
    """An opened kernel image. Make one with `pvops.open`."""

    def __init__(self, image: _core.Image) -> None:
        self.image = image

    @property
    def name(self) -> str:
        """The file as it was named, ``<bytes>`` or ``<stdin>``."""
        return self.image.name

    @property
    def release(self) -> str | None:
        """``6.1.0-56-amd64``, from the kernel's banner; None where it has none."""
        return self.image.release

    @property
    def bits(self) -> int:
        """Pointer size in bits: 32 or 64."""
        return self.image.bits

    @property
    def word(self) -> int:
        """Pointer size in bytes."""
        return self.bits // 8

    @property
    def arch(self) -> str:
        """``x86_64`` or ``i386``."""
        return "x86_64" if self.bits == 64 else "i386"

    def address_of(self, symbol: str) -> int | None:
        """The address of a symbol as linked, or None."""
        return self.image.address_of(symbol)

    def symbol_at(self, address: int) -> str | None:
        """The function that starts at an address, or None."""
        found = self.image.symbol_at(address)
        return found[0] if found and found[1] == 0 else None

    def place(self, address: int) -> str | None:
        """Where an address lies, ``do_syscall_64+0x3a``; None where the image names nothing there."""
        found = self.image.symbol_at(address)
        return f"{found[0]}+{found[1]:#x}" if found else None

    def read_word(self, address: int) -> int | None:
        """The pointer at an address as built, or None where the image has no bytes."""
        return self.image.read_word(address)

    @cached_property
    def _table(self) -> _core.ParavirtSites:
        table = _core.ParavirtSites.read(self.image)
        if table is None:
            raise TableError(f"{self.name}: {self._no_table()}", reason=self._no_table(), file=self.name)
        return table

    def _no_table(self) -> str:
        names = {name for name, *_ in self.image.sections()}
        if not names:
            return "no section headers: the site tables cannot be found"
        if ".altinstructions" in names:
            return (
                "no .parainstructions: the kernel is built without CONFIG_PARAVIRT, or is 6.8 or later, whose paravirt "
                "calls are rows of .altinstructions; this version does not read those yet"
            )
        return "no .parainstructions: the kernel is built without CONFIG_PARAVIRT"

    @cached_property
    def sites(self) -> Sites:
        """The paravirt call sites.

        Raises:
            TableError: the image has no table of them, or a malformed one.
        """
        from pvops.sites import Sites

        return Sites(self._table, self.ops.names, self.place)

    @cached_property
    def ops(self) -> KernelOps:
        """The image's ops: where they lie, what they are called, and what its own ``pv_ops`` holds.

        Raises:
            TableError: the sites disagree about the address of the ops.
        """
        from pvops.kernel_ops import KernelOps

        return KernelOps(self, self._table.ops_address(), [type for type, _ in self._table.by_type()])

    @cached_property
    def rules(self) -> tuple[ParavirtRules, str]:
        """The rules this kernel patches by, and what told."""
        from pvops import rules

        return rules.of_image(self, self.release)

    def plan(
        self, backend: Backend | str = "native", *, machine: Machine | None = None, rules: ParavirtRules | None = None
    ) -> Plan:
        """What this kernel writes to its own text under a backend, on a machine.

        Args:
            backend: a backend or its name.
            machine: what it boots on; without one, what the backend usually meets, and the plan says what it assumed.
            rules: other rules than the image's own.

        Raises:
            OpsError: the backend does not fit this kernel.
            KernelBug: the kernel would stop in its patching code.
        """
        from pvops import backends
        from pvops.plan import Plan

        if isinstance(backend, str):
            backend = backends.get(backend)
        return Plan(self, self._table, backend, machine, rules)

    def sites_of(self, where: str) -> Sequence[int]:
        """The addresses of the sites that an address, a symbol or ``symbol+0xOFFSET`` names, in order.

        Raises:
            ImageError: the text is no address, or the image has no such symbol.
            TableError: there is no site.
        """
        low, high = self._range(where)
        found = sorted(s.address for s in self.sites if s.address < high and s.address + len(s.bytes) > low)
        if not found:
            nearest = min((s.address for s in self.sites), key=lambda a: abs(a - low), default=None)
            hint = "" if nearest is None else f"; the nearest is {nearest:#x} in {self.place(nearest) or 'no symbol'}"
            raise TableError(f"{self.name}: no paravirt site at {where}{hint}", file=self.name, address=low)
        return found

    def _range(self, where: str) -> tuple[int, int]:
        """The addresses that a place on the command line means: [low, high)."""
        try:
            # Addresses are hexadecimal with or without 0x, as the listing prints them; a symbol never parses as one
            # unless it is made of the digits a to f alone, so symbols are asked first.
            address = int(where, 16)
        except ValueError:
            address = None
        symbol, plus, offset = where.partition("+")
        start = self.address_of(symbol)
        if start is None:
            if address is not None:
                return address, address + 1
            raise ImageError(f"{self.name}: no symbol {symbol}", file=self.name)
        if plus:
            try:
                start += int(offset, 16)
            except ValueError:
                raise ImageError(f"{offset!r} in {where!r} is no offset", file=self.name) from None
            return start, start + 1
        high = start + 1
        # A symbol ends where the image names the next one.
        sites = sorted(s.address for s in self.sites if s.address >= start)
        for address in sites:
            found = self.image.symbol_at(address)
            if not found or address - found[1] != start:
                break
            high = address + 1
        return start, high

    def __repr__(self) -> str:
        return f"<Kernel {self.release or self.name} {self.arch}>"
