"""What is below a guest: the model of a machine, whose final state must be the same below every backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from pvops.emulate.cpu import FIRMWARE
from pvops.emulate.paging import PAGE_OFFSET, PRESENT, PageTables
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu, Limits
    from pvops.emulate.hosts.guest import Guest

#: The interrupt flag of EFLAGS.
IF = 0x200
#: CR0.TS: the FPU belongs to another task.
TS = 8

#: What each read of the time-stamp counter adds: the clock is scripted, so that every run sees the same times.
TSC_STEP = 1000
#: The time of day at boot, in seconds since 1970: 15 October 2007, the month of the seed.
BOOT_TIME = 1192436234

#: How many pages of user memory a guest may use.
MOST_PAGES = 1 << 14


class Event(NamedTuple):
    """A hypercall on the timeline.

    Attributes:
        at: how many instructions were executed before it, to the end of their block.
        name: of the call.
        queued: it came out of a batch, not by a trap of its own.
    """

    at: int
    name: str
    queued: bool


class Gate(NamedTuple):
    """An interrupt gate as the host knows it.

    Attributes:
        address: of the handler.
        disables: it clears the interrupt flag.
        ring: the least privileged that may raise it by ``int``.
    """

    address: int
    disables: bool
    ring: int


def gate(raw: bytes) -> Gate | None:
    """The gate that 8 bytes of an IDT describe; None where it is not present."""
    low, high = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")
    if not high & 0x8000:
        return None
    return Gate(low & 0xFFFF | high & 0xFFFF0000, not high & 0x100, high >> 13 & 3)


class HostModel:
    """The state that counts, and what was asked for. Subclasses say how a guest changes it.

    Args:
        image: the guest's.
    """

    #: As on the command line.
    name = ""
    #: The ring its guests' kernels run in.
    ring = 0
    #: Symbol where its guests start.
    entry = "startup_native"
    #: Its hypercalls by number; what traps without being one has none.
    calls: Mapping[int, str] = {}
    #: How far its guests' kernel memory lies above physical memory; user space ends there.
    offset = PAGE_OFFSET

    def __init__(self, image: Guest) -> None:
        self.image = image
        self.hypercalls: Counter[str] = Counter()
        self.queued: Counter[str] = Counter()
        self.batches = 0
        self.events: list[Event] = []
        self.tsc_reads = 0
        self.halts = 0
        self.port = 0
        self._touched: set[int] = set()
        #: What the timeline counts in.
        self.clock: Callable[[], int] = lambda: 0
        self.pages: PageTables

    def cpu(self, limits: Limits | None) -> Cpu:
        """A CPU for its guests."""
        from pvops.emulate.cpu import Cpu

        return Cpu(self, ring=self.ring, limits=limits)

    def attach(self, cpu: Cpu) -> None:
        """The guest is loaded: before its first instruction."""
        self.pages = PageTables(cpu, self.image.pae)

    def called(self, name: str, queued: bool = False) -> None:
        """Counts a hypercall."""
        (self.queued if queued else self.hypercalls)[name] += 1
        self.events.append(Event(self.clock(), name, queued))

    # What a guest can see of every machine

    def tsc(self) -> int:
        self.tsc_reads += 1
        return self.tsc_reads * TSC_STEP

    def cpuid(self, cpu: Cpu) -> None:
        leaf = cpu.get("eax")
        values = self.cpuid_leaf(leaf)
        for register, value in zip(("eax", "ebx", "ecx", "edx"), values, strict=True):
            cpu.set(register, value)

    def cpuid_leaf(self, leaf: int) -> tuple[int, int, int, int]:
        """A small CPU of the time: no features that a guest of these would use."""
        vendor = (0x756E6547, 0x6C65746E, 0x49656E69)  # ebx, ecx, edx of "GenuineIntel"
        return (
            (1, vendor[0], vendor[1], vendor[2]) if leaf == 0 else (0x633, 0, 0, 0x8111) if leaf == 1 else (0, 0, 0, 0)
        )

    def port_in(self, cpu: Cpu, port: int) -> int:
        """The CMOS clock at 0x70, as ``native_get_wallclock`` reads it; elsewhere nothing answers."""
        if port == 0x71 and self.port in range(4):
            return BOOT_TIME >> 8 * self.port & 0xFF
        return 0xFF

    def port_out(self, cpu: Cpu, port: int, value: int) -> None:
        if port == 0x70:
            self.port = value & 0x7F

    # What a subclass may take

    def interrupt(self, cpu: Cpu, number: int) -> bool:
        return False

    def privileged(self, cpu: Cpu, code: bytes) -> bool:
        return False

    def undefined(self, cpu: Cpu, code: bytes) -> bool:
        return False

    def halted(self, cpu: Cpu) -> bool:
        """``hlt``: with interrupts on, the next timer interrupt ends it."""
        self.halts += 1
        return self.interrupts(cpu)

    def fault(self, cpu: Cpu, address: int, write: bool) -> bool:
        """A page fault: walks the tables as the CPU does, and raises it in the guest where they have no entry."""
        if address >= self.offset:
            return False
        page = address >> 12
        if page in self._touched:  # an access may start in one page and miss the next
            page += 1
            address = page << 12
        if self.translation(cpu, address) & PRESENT:
            if len(self._touched) >= MOST_PAGES:
                cpu.stop("memory", f"uses more than {MOST_PAGES:,} pages of user memory")
                return False
            self._touched.add(page)
            cpu.map(address, 1)
            return True
        handler = self.gates(cpu).get(14)
        if handler is None:
            return False
        self.set_cr2(cpu, address)
        self.raise_in(cpu, handler, error=2 if write else 0)
        return True

    def raise_in(self, cpu: Cpu, handler: Gate, error: int) -> None:
        """Delivers an exception with an error code, as through an interrupt gate."""
        flags = cpu.get("flags") & ~IF | (IF if self.interrupts(cpu) else 0)
        for value in (flags, cpu.get("cs"), cpu.get("pc"), error):
            cpu.push(value)
        cpu.set("pc", handler.address)
        if handler.disables:
            self.set_interrupts(cpu, False)

    # The state, as this host has it

    def interrupts(self, cpu: Cpu) -> bool:
        """Whether the guest's interrupts are on."""
        return bool(cpu.get("flags") & IF)

    def set_interrupts(self, cpu: Cpu, on: bool) -> None:
        """Turns the guest's interrupts on or off."""
        flags = cpu.get("flags")
        cpu.set("flags", flags | IF if on else flags & ~IF)

    def ts(self, cpu: Cpu) -> bool:
        """CR0.TS."""
        return bool(cpu.get("cr0") & TS)

    def cr3(self, cpu: Cpu) -> int:
        """The page table in force."""
        return cpu.get("cr3")

    def set_cr2(self, cpu: Cpu, address: int) -> None:
        """Where the guest looks for the address of a fault."""
        cpu.set("cr2", address)

    def esp0(self, cpu: Cpu) -> int:
        """The kernel's stack, where interrupts from user space go."""
        return cpu.word(self.image.address("init_tss") + 4)

    def gdt(self, cpu: Cpu) -> Mapping[int, bytes]:
        """Descriptors by index."""
        base, limit = cpu.table("gdtr")
        if base < 2 * FIRMWARE:  # still the machine's own
            return {}
        return dict(enumerate(_descriptors(cpu.read(base, limit + 1))))

    def gates(self, cpu: Cpu) -> Mapping[int, Gate]:
        """Interrupt gates by vector."""
        base, limit = cpu.table("idtr")
        return gates_in(_descriptors(cpu.read(base, limit + 1))) if limit > 7 else {}

    def translation(self, cpu: Cpu, address: int) -> int:
        """The page table entry in force for an address."""
        return self.pages.lookup(self.cr3(cpu), address)

    def mapped(self, cpu: Cpu, cr3: int) -> Mapping[int, int]:
        """Linear address → entry, of one page table."""
        return dict(self.pages.mapped(cr3))

    def state(self, cpu: Cpu) -> dict[str, object]:
        """All that counts, in plain values; addresses in the image by name, so that builds can be compared."""
        image = self.image
        tables = {name: self.mapped(cpu, image.address(name) - self.offset) for name in image.page_tables}
        return {
            "interrupts": self.interrupts(cpu),
            "ts": self.ts(cpu),
            "cr3": image.named(self.cr3(cpu) + self.offset),
            "esp0": image.named(self.esp0(cpu)),
            "gdt": {str(i): image.named_bytes(_settled(raw)) for i, raw in sorted(self.gdt(cpu).items()) if any(raw)},
            "idt": {str(v): [image.named(g.address), g.disables, g.ring] for v, g in sorted(self.gates(cpu).items())},
            "ldt": cpu.read(image.address("ldt_table"), image.size_of("ldt_table")).hex(),
            "pages": {
                name: {f"{a:#x}": f"{entry:#x}" for a, entry in sorted(table.items())} for name, table in tables.items()
            },
            "halts": self.halts,
            "tsc_reads": self.tsc_reads,
            "results": [image.named(value) for value in image.results(cpu)],
        }

    def digest(self, cpu: Cpu) -> str:
        """The state as one number: 32 hexadecimal digits of SHA-256."""
        import hashlib
        import json

        return hashlib.sha256(json.dumps(self.state(cpu), sort_keys=True).encode()).hexdigest()[:32]


def gates_in(descriptors: Iterable[bytes]) -> dict[int, Gate]:
    """The gates of a table."""
    found = ((vector, gate(raw)) for vector, raw in enumerate(descriptors))
    return {vector: held for vector, held in found if held is not None}


def _descriptors(table: bytes) -> list[bytes]:
    return [table[i : i + 8] for i in range(0, len(table) & ~7, 8)]


def _settled(raw: bytes) -> bytes:
    """A descriptor without what the CPU itself writes: accessed, and busy of a task state segment."""
    mask = 0xFE if raw[5] & 0x10 else 0xFD
    return raw[:5] + bytes([raw[5] & mask]) + raw[6:]
