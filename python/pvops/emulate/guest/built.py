"""An assembled guest, as hosts, sessions and reports see it: names and addresses, sites, sections."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property

from pvops.assembler import Built
from pvops.emulate.cpu import EXIT
from pvops.emulate.guest.compile import RESULTS
from pvops.emulate.guest.layout import MMS, STACK_SIZE
from pvops.emulate.macros.paravirt import Paravirt
from pvops.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.eras.structs import Config
    from pvops.kernel import Kernel


class BuiltGuest:
    """A guest image that is assembled.

    Attributes:
        built: the assembled image.
        era: the name of its kernel's era.
        pv: its paravirt macros.
        config: the configuration it is built with.
        plain: address of each call of an op that has no site → the op.
        symbols: name → address.
        name: what its program is called.
    """

    built: Built
    era: str
    pv: Paravirt
    config: Config
    plain: Mapping[int, str]
    symbols: Mapping[str, int]
    #: What the program is called.
    name: str
    #: Of its registers.
    bits = 32
    #: Three levels of page tables with entries of 8 bytes.
    pae = False

    @cached_property
    def kernel(self) -> Kernel:
        """The image, opened as any kernel."""
        from pvops.kernel import open as open_kernel

        return open_kernel(self.built.elf)

    def address(self, name: str) -> int:
        """The address of ``symbol`` or ``symbol+0xoffset``; `RunError` where there is none."""
        symbol, plus, offset = name.partition("+")
        try:
            return self.symbols[symbol] + (int(offset, 16) if plus else 0)
        except KeyError:
            raise RunError(f"the guest has no symbol {name}") from None

    def size_of(self, name: str) -> int:
        """How far it is from a symbol to the next."""
        start = self.address(name)
        return min((a for a in self.symbols.values() if a > start), default=start) - start

    def holds(self, address: int, size: int) -> bool:
        """Whether all of a range is in writable sections of the image."""
        return any(
            low <= address and address + size <= low + len(raw)
            for name, (low, raw) in self.built.sections.items()
            if name.startswith(".data")
        )

    @property
    def page_tables(self) -> Sequence[str]:
        """Symbols of the top levels of page tables."""
        return [f"mm{n}_pgd" for n in range(MMS)]

    @property
    def stack(self) -> int:
        """Where the stack starts, at its top."""
        return self.address("kernel_stack") + STACK_SIZE - 16

    @property
    def exit(self) -> int:
        """Executing this address is how it says that it is done."""
        return EXIT

    @cached_property
    def _by_address(self) -> list[tuple[int, str]]:
        return sorted((address, name) for name, address in self.symbols.items())

    @cached_property
    def _bounds(self) -> tuple[int, int]:
        sections = self.built.sections.values()
        return min(a for a, _ in sections), max(a + len(raw) for a, raw in sections)

    def place(self, address: int) -> str:
        """``page_fault+0x12``, or the address in hexadecimal."""
        if not self._bounds[0] <= address < self._bounds[1]:
            return f"{address:#x}"
        found = bisect_right(self._by_address, (address, "\x7f")) - 1
        if found < 0:
            return f"{address:#x}"
        start, name = self._by_address[found]
        return name if start == address else f"{name}+{address - start:#x}"

    def named(self, value: int) -> str | int:
        """A number of the machine's state: by name if it is an address in the image, so that builds can be compared."""
        low, high = self._bounds
        return self.place(value) if low <= value < high else value

    def named_bytes(self, raw: bytes) -> str:
        """A descriptor in hexadecimal."""
        return raw.hex()

    def results(self, cpu: Cpu) -> list[int]:
        """What the program recorded."""
        count = min(cpu.word(self.address("result_count")), RESULTS)
        at = self.address("results")
        return [cpu.word(at + 4 * i) for i in range(count)]

    @cached_property
    def _fixups(self) -> dict[int, int]:
        _, raw = self.built.sections.get("__ex_table", (0, b""))
        size = self.bits // 8
        words = [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]
        return dict(zip(words[::2], words[1::2], strict=True))

    def fixup(self, address: int) -> int | None:
        """Where the guest goes on when the instruction at an address faults."""
        return self._fixups.get(address)

    def sites(self) -> Mapping[int, tuple[str, int]]:
        """Address of each site → (op, length)."""
        raw = self.built.sections.get(".parainstructions", (0, b""))[1]
        names = {op.type: op.name for op in self.pv.template}
        rows = (raw[i : i + 8] for i in range(0, len(raw) & ~7, 8))
        return {int.from_bytes(row[:4], "little"): (names[row[4]], row[5]) for row in rows}

    def alternatives(self) -> dict[int, int]:
        """Address of each alternative → how many bytes it has."""
        raw = self.built.sections.get(".altinstructions", (0, b""))[1]
        # Two pointers, then a byte each: feature, length, length of the replacement, nothing (struct alt_instr).
        rows = (raw[i : i + 12] for i in range(0, len(raw) - 10, 12))
        return {int.from_bytes(row[:4], "little"): row[9] for row in rows}

    def load(self, cpu: Cpu) -> None:
        """Maps and writes every section; text is made read-only, gaps in its pages trap."""
        pages: dict[int, str] = {}
        for name, (address, raw) in self.built.sections.items():
            access = "rx" if name.startswith((".text", ".init.text", ".altinstr_replacement")) else "rw"
            for page in range(address & -0x1000, address + max(len(raw), 1), 0x1000):
                pages[page] = access
        for page, access in sorted(pages.items()):
            cpu.map(page, 0x1000, access)
            if access == "rx":
                cpu.write(page, b"\xcc" * 0x1000)
        for address, raw in self.built.sections.values():
            cpu.write(address, raw)
