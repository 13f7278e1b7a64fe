"""The machine: rings, what traps in them and what does not, and limits."""

from __future__ import annotations

import pytest

from pvops.assembler import Image, Value, mem
from pvops.assembler.operands import cr3, eax, ebx, ecx, esi
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    call,
    cli,
    clts,
    decl,
    hlt,
    int_,
    jmp,
    jne,
    movl,
    popfl,
    popl,
    pushfl,
    pushl,
    sti,
    vmcall,
)
from pvops.emulate.cpu import EXIT, Cpu, Limits

BASE = 0xC0100000
IF = 0x200


class Below:
    """A host that writes down what it is told, and skips what trapped."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def interrupt(self, cpu: Cpu, number: int) -> bool:
        self.told.append(f"int {number:#x}")
        return number == 0x1F

    def privileged(self, cpu: Cpu, code: bytes) -> bool:
        self.told.append(f"privileged {code[0]:02x}")
        cpu.skip(2 if code[0] == 0x0F else 1)
        return True

    def undefined(self, cpu: Cpu, code: bytes) -> bool:
        if code[:3] != b"\x0f\x01\xc1":
            return False
        self.told.append("vmcall")
        cpu.skip(3)
        return True

    def fault(self, cpu: Cpu, address: int, write: bool) -> bool:
        self.told.append(f"fault {address:#x}")
        cpu.map(address, 4)
        return address < 0x10000000

    def halted(self, cpu: Cpu) -> bool:
        self.told.append("hlt")
        return True

    def port_in(self, cpu: Cpu, port: int) -> int:
        return 0xFF

    def port_out(self, cpu: Cpu, port: int, value: int) -> None:
        self.told.append(f"out {port:#x}")

    def tsc(self) -> int:
        return 7

    def cpuid(self, cpu: Cpu) -> None:
        self.told.append("cpuid")


def machine(*body: Body, ring: int, limits: Limits | None = None) -> tuple[Cpu, Below]:
    """A CPU about to execute these instructions in a ring."""
    image = Image(32)
    image.text(*body, jmp(Value(None, EXIT)))
    image.section(".data.stack", address=BASE + 0x100000, flags=1)()
    below = Below()
    cpu = Cpu(below, ring=ring, limits=limits or Limits(seconds=2))
    cpu.map(BASE, 0x1000, "rx")
    cpu.map(BASE + 0x10000, 0x1000)
    cpu.write(BASE, b"\xcc" * 0x1000)
    cpu.write(BASE, image.build().sections[".text"][1])
    cpu.enter(BASE, BASE + 0x11000)
    return cpu, below


@pytest.mark.parametrize("ring", [0, 1, 3])
def test_a_guest_runs_in_its_ring(ring: int) -> None:
    cpu, _ = machine(movl(1, eax), ring=ring)
    assert cpu.get("cs") & 3 == cpu.get("ss") & 3 == ring
    assert cpu.run().kind == "done"
    assert cpu.get("eax") == 1


def test_ring_0_does_everything_itself_and_silently() -> None:
    cpu, below = machine(sti(), cli(), sti(), movl(0x5000, eax), movl(eax, cr3), clts(), ring=0)
    assert cpu.run().kind == "done"
    assert below.told == []
    assert cpu.get("cr3") == 0x5000
    assert cpu.get("eflags") & IF


@pytest.mark.parametrize("ring", [1, 3])
def test_privileged_instructions_trap_elsewhere_each_time(ring: int) -> None:
    body = [cli(), sti(), clts(), movl(0, ebx)] * 8
    cpu, below = machine(*body, movl(3, ecx), ring=ring)
    assert cpu.run().kind == "done"
    assert below.told == ["privileged fa", "privileged fb", "privileged 0f"] * 8
    assert cpu.get("ecx") == 3


@pytest.mark.parametrize("ring", [1, 3])
def test_popf_does_not_trap_there_and_keeps_the_interrupt_flag(ring: int) -> None:
    """That is why restore_fl is an op: what it asks for is silently not done."""
    body = (pushfl(), popl(esi), pushl(IF | 2), popfl(), pushfl(), popl(eax), pushl(2), popfl(), pushfl(), popl(ebx))
    cpu, below = machine(*body, ring=ring)
    assert cpu.run().kind == "done"
    assert below.told == []
    assert cpu.get("eax") & IF == cpu.get("ebx") & IF == cpu.get("esi") & IF
    native, _ = machine(*body, ring=0)
    native.run()
    assert native.get("eax") & IF
    assert not native.get("ebx") & IF


def test_interrupts_and_vmcall_go_to_the_host() -> None:
    cpu, below = machine(int_(0x1F), vmcall(), movl(1, eax), int_(0x80), ring=1)
    stop = cpu.run()
    assert below.told == ["int 0x1f", "vmcall", "int 0x80"]
    assert (stop.kind, "int $0x80" in stop.why) == ("trap", True)


def test_a_halt_goes_on_if_the_host_says_so() -> None:
    cpu, below = machine(sti(), hlt(), movl(5, eax), ring=0)
    assert cpu.run().kind == "done"
    assert (below.told, cpu.get("eax")) == (["hlt"], 5)


def test_missing_memory_is_tried_again_when_the_host_has_mapped_it() -> None:
    cpu, below = machine(movl(mem(0x08000000), eax), movl(9, ebx), ring=1)
    assert cpu.run().kind == "done"
    assert (below.told, cpu.get("ebx")) == (["fault 0x8000000"], 9)


def test_the_clock_stops_a_guest_that_never_ends() -> None:
    cpu, _ = machine(movl(1, eax), jmp(Value(None, BASE)), ring=1, limits=Limits(seconds=0.2))
    assert cpu.run().kind == "time"


def test_traps_are_limited_too() -> None:
    cpu, _ = machine(int_(0x1F), jmp(Value(None, BASE)), ring=1, limits=Limits(traps=100))
    assert cpu.run().kind == "instructions"


def test_nothing_is_executed_that_is_no_text() -> None:
    for body in (
        (jmp(Value(None, BASE + 0x10000)),),
        (jmp(Value(None, 0x900000)),),
        (call(Value(None, BASE + 0x800)),),
    ):
        cpu, _ = machine(*body, ring=0)
        assert cpu.run().kind == "run-off"


def test_text_is_read_only() -> None:
    cpu, _ = machine(movl(1, mem(BASE)), ring=0)
    stop = cpu.run()
    assert (stop.kind, stop.address) == ("text-write", BASE)


def test_a_loop_is_left_alone_by_hooks() -> None:
    from pvops.assembler import Local, addr, label

    again = Local("again")
    cpu, below = machine(movl(100000, ecx), label(again), decl(ecx), jne(addr(again)), ring=1)
    assert cpu.run().kind == "done"
    assert below.told == []
