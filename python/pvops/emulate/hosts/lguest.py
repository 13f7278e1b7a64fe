"""lguest's host, 2.6.23 to 2.6.33: ``int $0x1f``, a ring of 64 calls, and shadow page tables.

Sources: drivers/lguest/hypercalls.c, interrupts_and_traps.c, page_tables.c, segments.c and include/linux/lguest.h of
2.6.24; what the guest and its host share is ``struct lguest_data``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pvops.emulate.abi.lguest import (
    CALLS,
    CALLS_2_6_33,
    CALLS_AT,
    CR2,
    DATA_SIZE,
    FREE,
    IRQ_ENABLED,
    RING,
    STATUS,
    TIME,
    TLS,
    TLS_ENTRIES,
    TRAP,
)
from pvops.emulate.hosts.host import IF, Gate, HostModel, gate
from pvops.emulate.paging import ACCESSED, PAGE_OFFSET, PRESENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.emulate.hosts.guest import Guest


class Lguest(HostModel):
    """The guest's kernel runs in ring 1; interrupts are a word in its memory."""

    name = "lguest"
    ring = 1
    entry = "lguest_entry"

    def __init__(self, image: Guest) -> None:
        super().__init__(image)
        self.data = 0
        self.console = ""
        self._next = 0
        self._cr3 = 0
        self._ts = False
        self._stack = 0
        self._gdt: dict[int, bytes] = {}
        self._gates: dict[int, Gate] = {}
        #: (page table, linear address of a page) → entry: what the CPU would really use.
        self._shadow: dict[tuple[int, int], int] = {}
        self.calls = CALLS_2_6_33 if image.era == "2.6.33" else CALLS

    # Traps

    def interrupt(self, cpu: Cpu, number: int) -> bool:
        if number != TRAP:
            return False
        call, a, b, c = (cpu.get(r) for r in ("eax", "edx", "ebx", "ecx"))
        self._drain(cpu)
        if cpu.stopped is None:
            self.called(self.calls.get(call, f"{call:#x}"))
            self._do(cpu, call, a, b, c)
        return True

    def privileged(self, cpu: Cpu, code: bytes) -> bool:
        """emulate_insn(): port I/O alone, where nothing answers; a read of a register that is there gets a fixup."""
        if code[0] in (0xEC, 0xED, 0xE4, 0xE5):
            cpu.set("eax", cpu.get("eax") | (0xFF if not code[0] & 1 else 0xFFFFFFFF))
        elif code[0] not in (0xEE, 0xEF, 0xE6, 0xE7):
            return self.fix_up(cpu)
        self.called("(port I/O)")
        cpu.skip(1 if code[0] & 8 else 2)
        return True

    def fix_up(self, cpu: Cpu) -> bool:
        """The trap goes to the guest, whose handler looks for the instruction in its ``__ex_table``."""
        fixup = self.image.fixup(cpu.get("eip"))
        if fixup is None:
            return False
        self.called("(#GP to the guest)")
        cpu.set("eip", fixup)
        return True

    # Calls

    def _drain(self, cpu: Cpu) -> None:
        """do_async_hcalls(): what waits in the ring, before any other call."""
        if not self.data:
            return
        took = False
        for _ in range(RING):
            status = self.data + STATUS + self._next
            if cpu.read(status, 1)[0] == FREE:
                break
            at = self.data + CALLS_AT + 16 * self._next
            call, a, b, c = (cpu.word(at + 4 * i) for i in range(4))  # eax, edx, ebx, ecx
            cpu.write(status, bytes([FREE]))
            self._next = (self._next + 1) % RING
            self.called(self.calls.get(call, f"{call:#x}"), queued=True)
            took = True
            self._do(cpu, call, a, b, c)
            if cpu.stopped is not None:
                break
        self.batches += took

    def _do(self, cpu: Cpu, call: int, a: int, b: int, c: int) -> None:
        name = self.calls.get(call)
        if name is None:
            cpu.stop("hypercall", f"unknown hypercall {call:#x}: lguest kills the guest")
            return
        if not self.data and name != "LGUEST_INIT":
            cpu.stop("hypercall", f"{name} before LGUEST_INIT: lguest kills the guest")
            return
        _HANDLERS[name](self, cpu, a, b, c)

    def _init(self, cpu: Cpu, address: int, b: int, c: int) -> None:
        at = address + PAGE_OFFSET if address < PAGE_OFFSET else address
        if self.data:
            cpu.stop("hypercall", "LGUEST_INIT twice: lguest kills the guest")
        elif not self.image.holds(at, DATA_SIZE):
            cpu.stop("hypercall", f"bad guest page {at:#x} as lguest_data: lguest kills the guest")
        else:
            from pvops.emulate.hosts.host import BOOT_TIME

            self.data = at
            cpu.set_word(at + TIME, BOOT_TIME)

    def _nothing(self, cpu: Cpu, a: int, b: int, c: int) -> None:
        """Only what waited in the ring, or something that has no state here."""

    def _crash(self, cpu: Cpu, a: int, b: int, c: int) -> None:
        text = cpu.read(a + PAGE_OFFSET, 64).split(b"\0")[0].decode("latin-1") if a else ""
        cpu.stop("bug", f"the guest says it crashed: {text or 'no reason given'}")

    def _new_pgtable(self, cpu: Cpu, cr3: int, b: int, c: int) -> None:
        self._cr3 = cr3

    def _flush_tlb(self, cpu: Cpu, everything: int, b: int, c: int) -> None:
        """LHCALL_FLUSH_TLB: empties the shadow of this page table, or of all of them."""
        self._shadow = {key: e for key, e in self._shadow.items() if not everything and key[0] != self._cr3}

    def _load_idt_entry(self, cpu: Cpu, vector: int, low: int, high: int) -> None:
        held = gate(low.to_bytes(4, "little") + high.to_bytes(4, "little"))
        self._gates.pop(vector, None)
        if held is not None:
            self._gates[vector] = held

    def _set_stack(self, cpu: Cpu, segment: int, esp: int, pages: int) -> None:
        if not segment & 3:
            cpu.stop("hypercall", f"bad stack segment {segment:#x}: lguest kills the guest")
        self._stack = esp

    def _set_ts(self, cpu: Cpu, ts: int, b: int, c: int) -> None:
        self._ts = bool(ts)

    def _halt(self, cpu: Cpu, a: int, b: int, c: int) -> None:
        """Until the next interrupt, the timer's, for which the host turns interrupts on again."""
        self.halts += 1
        self.set_interrupts(cpu, True)

    def _set_pte(self, cpu: Cpu, cr3: int, address: int, low: int) -> None:
        """guest_set_pte(): an entry that is present and accessed goes into the shadow, which else loses its own."""
        key = cr3, address & -0x1000
        if low & PRESENT and low & ACCESSED:
            self._shadow[key] = low | (self.pages.lookup(cr3, address) & ~0xFFFFFFFF)
        else:
            self._shadow.pop(key, None)

    def _set_pmd(self, cpu: Cpu, table: int, index: int, c: int) -> None:
        """guest_set_pmd(): the entries below it are read again at the next fault."""
        self._shadow.clear()

    def _load_gdt(self, cpu: Cpu, table: int, count: int, c: int) -> None:
        raw = cpu.read(table + PAGE_OFFSET if table < PAGE_OFFSET else table, 8 * min(count, 32))
        self._gdt = {i: raw[8 * i : 8 * i + 8] for i in range(len(raw) // 8)}

    def _load_gdt_entry(self, cpu: Cpu, index: int, low: int, high: int) -> None:
        self._gdt[index] = low.to_bytes(4, "little") + high.to_bytes(4, "little")

    def _load_tls(self, cpu: Cpu, array: int, b: int, c: int) -> None:
        raw = cpu.read(array + PAGE_OFFSET if array < PAGE_OFFSET else array, 8 * TLS_ENTRIES)
        for i in range(TLS_ENTRIES):
            self._gdt[TLS + i] = raw[8 * i : 8 * i + 8]

    def _notify(self, cpu: Cpu, address: int, b: int, c: int) -> None:
        """LHCALL_NOTIFY: an address in memory is a string for the early console."""
        self.console += cpu.read(address + PAGE_OFFSET, 64).split(b"\0")[0].decode("latin-1")

    # State

    def interrupts(self, cpu: Cpu) -> bool:
        return bool(self.data and cpu.word(self.data + IRQ_ENABLED) & IF)

    def set_interrupts(self, cpu: Cpu, on: bool) -> None:
        cpu.set_word(self.data + IRQ_ENABLED, IF if on else 0)

    def ts(self, cpu: Cpu) -> bool:
        return self._ts

    def cr3(self, cpu: Cpu) -> int:
        return self._cr3

    def set_cr2(self, cpu: Cpu, address: int) -> None:
        cpu.set_word(self.data + CR2, address)

    def esp0(self, cpu: Cpu) -> int:
        return self._stack

    def gdt(self, cpu: Cpu) -> Mapping[int, bytes]:
        return self._gdt

    def gates(self, cpu: Cpu) -> Mapping[int, Gate]:
        return self._gates

    def translation(self, cpu: Cpu, address: int) -> int:
        """Through the shadow, which takes entries from the guest's tables when they are first wanted."""
        key = self._cr3, address & -0x1000
        if key not in self._shadow:
            self._shadow[key] = super().translation(cpu, address)
        return self._shadow[key]

    def mapped(self, cpu: Cpu, cr3: int) -> Mapping[int, int]:
        """The shadow, with the guest's own entries where it has none yet."""
        out = dict(super().mapped(cpu, cr3))
        out |= {address: entry for (table, address), entry in self._shadow.items() if table == cr3}
        return {address: entry for address, entry in out.items() if entry}


#: What carries out each call.
_HANDLERS: dict[str, Callable[[Lguest, Cpu, int, int, int], None]] = {
    "FLUSH_ASYNC": Lguest._nothing,
    "LGUEST_INIT": Lguest._init,
    "CRASH": Lguest._crash,
    "SHUTDOWN": Lguest._crash,
    "LOAD_GDT": Lguest._load_gdt,
    "NEW_PGTABLE": Lguest._new_pgtable,
    "FLUSH_TLB": Lguest._flush_tlb,
    "LOAD_IDT_ENTRY": Lguest._load_idt_entry,
    "SET_STACK": Lguest._set_stack,
    "TS": Lguest._set_ts,
    "SET_CLOCKEVENT": Lguest._nothing,
    "HALT": Lguest._halt,
    "SET_PTE": Lguest._set_pte,
    "SET_PMD": Lguest._set_pmd,
    "SET_PGD": Lguest._set_pmd,
    "LOAD_TLS": Lguest._load_tls,
    "NOTIFY": Lguest._notify,
    "LOAD_GDT_ENTRY": Lguest._load_gdt_entry,
    "SEND_INTERRUPTS": Lguest._nothing,
}
