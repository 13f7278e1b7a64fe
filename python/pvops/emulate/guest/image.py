"""A guest image: one kernel with the code of every backend in it, as distributions ship it, and the program it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from pvops import eras as ops
from pvops.assembler import Built, Image, Value, addr, align, asciz, function, label, mem, space, u32
from pvops.assembler.statements import Body
from pvops.assembler.x86 import jmp, movl
from pvops.emulate.guest import drivers, native
from pvops.emulate.guest.backends import GuestBackend, of_era
from pvops.emulate.guest.compile import RESULTS, Compiler
from pvops.emulate.guest.layout import ENTRIES, MMS, STACK, STACK_SIZE, TLS_ARRAY, USER, Build, tables
from pvops.emulate.macros.paravirt import Paravirt
from pvops.errors import RunError

if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.emulate.guest.program import Program
    from pvops.eras.structs import Config, OpsStruct
    from pvops.kernel import Kernel

ERAS = ("seed", "2.6.33")

#: KiB of memory that the boot loader says there are.
MEMORY = 0x20000


class GuestImage:
    """A program built for an era.

    Args:
        program: what it does.
        era: ``seed`` or ``2.6.33``.
        without: classes configured out, ``PARAVIRT_IRQ``, ….
        length: the least length of a site in bytes: padding.
        extra: further functions, name → instructions.
        backends: further backends, besides those of the era.

    Raises:
        RunError: no such era, or a program that cannot be built.
    """

    def __init__(
        self,
        program: Program,
        era: str = "seed",
        *,
        without: Iterable[str] = (),
        length: int = 0,
        extra: Mapping[str, Body] | None = None,
        backends: Iterable[GuestBackend] = (),
    ) -> None:
        if era not in ERAS:
            raise RunError(f"no guests of era {era} (there are {', '.join(ERAS)})")
        self.program = program
        self.era = era
        # Xen on i386 needs PAE in 2.6.33, and lguest's guests must not have it before.
        self.pae = era == "2.6.33"
        options = {"X86_PAE": self.pae} | dict.fromkeys(without, False)
        if era == "2.6.33":
            options["PARAVIRT_SPINLOCKS"] = True
        self.config: Config = ops.era(era).default_config(32, **options)
        self.build = Build(era, self.config)
        self.backends = (*of_era(era), *backends)
        self.pv = Paravirt(era, self.config, length=length)
        compiler = Compiler(self.build, self.pv)
        self.built = self._assemble(compiler, dict(extra or {}))
        #: Address of each call of an op that has no site → the op.
        self.plain = {self.built.symbols[at]: op for at, op in compiler.plain.items()}
        self.symbols = self.built.symbols

    # Building

    def _assemble(self, compiler: Compiler, extra: Mapping[str, Body]) -> Built:
        image = Image(32)
        own = native.functions(self.build)
        tables(image, self.build)
        self.pv.kernel(image, defined=own)
        image.text(*(function(name, *body) for name, body in own.items()))
        image.text(compiler.program(self.program))
        image.text(drivers.functions())
        image.text(function("startup_native", jmp("start_kernel")))
        for backend in self.backends:
            image.text(backend.functions(self.build))
            image.text(backend.start(self.build, self.fill(backend.structs(self), backend.info(self))))
            image.data(backend.data(self.build))
        image.text(*(function(name, body) for name, body in extra.items()))
        image.section(".text.entry", address=ENTRIES, flags=4)(
            *(
                (align(16), label(f"entry_{vector}"), jmp("page_fault") if vector == 14 else jmp("bad_trap"))
                for vector in range(32)
            )
        )
        image.text(function("bad_trap", jmp("bad_trap")))
        image.data(*self._variables())
        return image.build("startup_native")

    def _variables(self) -> Iterable[Body]:
        """What the kernel and the program keep."""
        words = {"lazy_sections": 1, "paravirt_lazy_mode": 0, "boot_params": MEMORY, "e820_map": 0, "result_count": 0}
        words |= {"counter": 0, "spinlock": 1 if self.era == "seed" else 0}
        words |= {f"touched{n}": USER[n] for n in range(MMS)}
        yield align(16)
        for name, value in words.items():
            yield label(name), u32(value)
        yield label("current_mm"), u32(addr("mm0")), label("current_pt"), u32(addr("mm0_pt"))
        for n in range(MMS):
            yield label(f"mm{n}"), u32(addr(f"mm{n}_pgd"))
            # A thread: its stack, then its TLS descriptors.
            yield label(f"thread{n}"), u32(Value("kernel_stack", STACK_SIZE - 0x400 * (n + 1))), space(TLS_ARRAY - 4)
            yield (u32(0x100 * n + i, 0x00CFF200 + n) for i in range(3))
        yield label("results"), space(4 * RESULTS)
        yield drivers.variables()
        yield align(0x1000), label("apic_page"), space(0x1000)
        yield label("bios_e820"), asciz("BIOS-e820")
        yield label("scratch"), space(64), label("descriptor"), space(8)

    def fill(self, structs: Iterable[OpsStruct], info: Mapping[str, int | str]) -> Body:
        """Init code: writes what differs from the native structures, op by op, and ``pv_info``."""
        filled = {type(struct).__name__: struct for struct in structs}
        natives = self.pv.era.patch_template(self.config).pointers()
        body: list[Body] = []
        for op in self.pv.template:
            held = filled[op.struct][op.field]
            if held != natives[op.name]:
                body.append(movl(0 if held is None else _function(held), mem(self.pv.pointer(op))))
        for member, offset in type(self.pv.era.info).offsets(self.config).items():
            if member in info:
                value = info[member]
                body.append(movl(addr(value) if isinstance(value, str) else value, mem(addr("pv_info") + offset)))
        return body

    # What hosts, sessions and reports ask of it

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
    def page_tables(self) -> list[str]:
        """Symbols of the top levels of page tables."""
        return [f"mm{n}_pgd" for n in range(MMS)]

    @property
    def stack(self) -> int:
        """Where the stack starts, at its top."""
        return STACK + STACK_SIZE - 16

    @cached_property
    def _by_address(self) -> list[tuple[int, str]]:
        return sorted((address, name) for name, address in self.symbols.items())

    @cached_property
    def _bounds(self) -> tuple[int, int]:
        sections = self.built.sections.values()
        return min(a for a, _ in sections), max(a + len(raw) for a, raw in sections)

    def place(self, address: int) -> str:
        """``page_fault+0x12``, or the address in hexadecimal."""
        from bisect import bisect_right

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
        words = [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)]
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


def _function(name: str) -> Value:
    """What a slot holds: a function, or a place in one (``hypercall_page+0x2e0``)."""
    symbol, plus, offset = name.partition("+")
    return addr(symbol) + (int(offset, 16) if plus else 0)
