"""Instructions: what GNU as makes of the same lines, byte for byte, whatever the sequence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assembler.gas import assert_same, needs_binutils
from pvops.assembler import Image, Local, addr, align, label, mem, operands, space, u32, u64, x86
from pvops.assembler.operands import Memory, Operand, Register
from pvops.assembler.statements import Statement

pytestmark = needs_binutils

SIZES = {"b": 8, "w": 16, "l": 32, "q": 64}
REGISTERS = {
    (32, 8): "al cl dl bl ah ch dh bh",
    (32, 16): "ax cx dx bx sp bp si di",
    (32, 32): "eax ecx edx ebx esp ebp esi edi",
    (64, 8): "al cl dl bl",
    (64, 16): "ax cx dx bx sp bp si di",
    (64, 32): "eax ecx edx ebx esp ebp esi edi r8d r9d r15d",
    (64, 64): "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r12 r13 r15",
}

#: Mnemonics without their suffixes: the forms of their operands, sources first.
GROUPS: dict[str, tuple[str, ...]] = {
    "add or adc sbb and sub xor cmp": ("rr", "ir", "mr", "rm", "im"),
    "mov": ("rr", "ir", "mr", "rm", "im"),
    "test": ("rr", "ir", "rm", "im"),
    "inc dec neg not": ("r", "m"),
    "shl shr sar": ("1r", "1m", "5r", "5m"),
    "mul div": ("r", "m"),
    "xchg": ("rr", "rm"),
    "xadd cmpxchg": ("rr", "rm"),
}

#: Instructions of one shape only, by pointer size.
FIXED: dict[int, tuple[Callable[[], Statement], ...]] = {
    32: (
        lambda: x86.pushal(),
        lambda: x86.popal(),
        lambda: x86.pushfl(),
        lambda: x86.popfl(),
        lambda: x86.movl(operands.eax, operands.cr3),
        lambda: x86.movl(operands.cr0, operands.ecx),
        lambda: x86.movl(operands.dr7, operands.eax),
        lambda: x86.lldt(operands.ax),
        lambda: x86.str_(operands.eax),
        lambda: x86.sysexit(),
        lambda: x86.pushl(operands.ds),
        lambda: x86.popl(operands.es),
        lambda: x86.call(operands.eax),
        lambda: x86.jmp(operands.edx),
        lambda: x86.lock(x86.decl(mem("data"))),
        lambda: x86.cmpxchg8b(mem(0, operands.esi)),
    ),
    64: (
        lambda: x86.pushfq(),
        lambda: x86.popfq(),
        lambda: x86.iretq(),
        lambda: x86.movq(operands.rax, operands.cr3),
        lambda: x86.movq(operands.cr8, operands.rcx),
        lambda: x86.movq(operands.cr2, operands.r9),
        lambda: x86.movabsq(0x1234_5678_9ABC_DEF0, operands.rax),
        lambda: x86.movabsq(addr("data"), operands.r8),
        lambda: x86.swapgs(),
        lambda: x86.sysretq(),
        lambda: x86.sysretl(),
        lambda: x86.syscall(),
        lambda: x86.call(operands.rax),
        lambda: x86.jmp(operands.r11),
        lambda: x86.lock(x86.decl(mem("data", operands.rip))),
    ),
}
PLAIN = (
    "ret leave nop pause cld std cltd cli sti hlt clts cpuid rdtsc rdmsr wrmsr rdpmc wbinvd int3 ud2 sysenter vmcall "
    "vmmcall iret sfence lfence mfence"
)
BOTH: tuple[Callable[[], Statement], ...] = (
    *(getattr(x86, name) for name in PLAIN.split()),
    lambda: x86.int_(0x1F),
    lambda: x86.int_(0x80),
    lambda: x86.outb(operands.al, 0x80),
    lambda: x86.outb(operands.al, operands.dx),
    lambda: x86.outl(operands.eax, operands.dx),
    lambda: x86.inb(0x60, operands.al),
    lambda: x86.inl(operands.dx, operands.eax),
    lambda: x86.ltr(operands.ax),
    lambda: x86.movl(operands.eax, operands.ds),
    lambda: x86.movl(operands.fs, operands.ecx),
    lambda: x86.rep(x86.movsl),
    lambda: x86.rep(x86.stosl),
    lambda: x86.lodsl,
    lambda: x86.movzbl(operands.al, operands.ecx),
    lambda: x86.movzbl(mem(2, operands.esi), operands.ecx),
    lambda: x86.movswl(operands.dx, operands.eax),
    lambda: x86.btsl(3, mem("data")),
    lambda: x86.btl(operands.ecx, mem("data")),
    lambda: x86.imull(operands.ecx, operands.edx),
    lambda: x86.imull(300, operands.ecx, operands.edx),
    lambda: x86.imull(3, operands.ecx, operands.edx),
    lambda: x86.sete(operands.al),
    lambda: x86.setnz(mem("data")),
    lambda: x86.call("start"),
    lambda: x86.call("elsewhere"),
    lambda: x86.call(mem("data")),
    lambda: x86.loop("start"),
)

numbers = st.one_of(st.integers(-200, 200), st.sampled_from([0x7FFFFFFF, -0x80000000, 0x1234, -0x1235, 0x200]))


def registers(bits: int, size: int) -> st.SearchStrategy[Register]:
    return st.sampled_from([getattr(operands, name) for name in REGISTERS[bits, size].split()])


@st.composite
def memories(draw: st.DrawFn, bits: int) -> Memory:
    """Every addressing mode, with segments; relative to the instruction on x86-64."""
    segment = draw(st.sampled_from([None, None, None, operands.cs, operands.fs, operands.gs]))
    displacement = draw(st.one_of(st.just("data"), numbers, st.builds(lambda n: addr("data") + n, st.integers(0, 64))))
    if bits == 64 and not isinstance(displacement, int) and draw(st.booleans()):
        return mem(displacement, operands.rip, segment=segment)
    base = draw(st.one_of(st.none(), registers(bits, bits)))
    index = draw(st.one_of(st.none(), registers(bits, bits).filter(lambda r: r.name not in ("esp", "rsp"))))
    scale = draw(st.sampled_from([1, 2, 4, 8])) if index else 1
    return mem(displacement, base, index, scale, segment=segment)


@st.composite
def arithmetic(draw: st.DrawFn, bits: int) -> Statement:
    """An instruction of `GROUPS` with operands that fit it."""
    group = draw(st.sampled_from(sorted(GROUPS)))
    suffix = draw(st.sampled_from("bwl" if bits == 32 else "bwlq"))
    size = SIZES[suffix]
    mnemonic = getattr(x86, draw(st.sampled_from(group.split())) + suffix)
    given: list[Operand] = []
    for kind in draw(st.sampled_from(GROUPS[group])):
        if kind == "r":
            given.append(draw(registers(bits, size)))
        elif kind == "m":
            given.append(draw(memories(bits)))
        elif kind == "i":
            low, high = -(1 << (min(size, 32) - 1)), (1 << (min(size, 32) - 1)) - 1
            given.append(max(low, min(high, draw(numbers))))
        else:
            given.append(int(kind))
    statement: Statement = mnemonic(*given)
    return statement


@st.composite
def other(draw: st.DrawFn, bits: int) -> Statement:
    """Stack, lea, control transfers, and what has one shape only."""
    push, pop, lea = (x86.pushq, x86.popq, x86.leaq) if bits == 64 else (x86.pushl, x86.popl, x86.leal)
    jumps = [x86.jmp, x86.je, x86.jne, x86.jb, x86.jae, x86.jl, x86.jg, x86.js, x86.jz]
    makers: list[st.SearchStrategy[Statement]] = [
        st.sampled_from(BOTH + FIXED[bits]).map(lambda make: make()),
        registers(bits, bits).map(push),
        registers(bits, bits).map(pop),
        numbers.map(push),
        memories(bits).map(push),
        memories(bits).map(pop),
        st.builds(lea, memories(bits).filter(lambda m: m.segment is None), registers(bits, bits)),
        memories(bits).map(x86.call),
        memories(bits).map(x86.jmp),
        memories(bits).map(x86.lgdt),
        memories(bits).map(x86.invlpg),
        st.builds(lambda j, t: j(t), st.sampled_from(jumps), st.sampled_from(["start", "middle", "end", "elsewhere"])),
        st.sampled_from([align(16), align(4, 0xCC), space(40, 0x90), u32(addr("end") - addr("start"))]),
    ]
    return draw(st.one_of(makers))


@st.composite
def programs(draw: st.DrawFn, bits: int) -> Image:
    """Two sections of code that refer to each other, and data."""
    lines = st.lists(st.one_of(arithmetic(bits), other(bits)), max_size=25)
    image = Image(bits)
    image.text(label("start"), _near(draw(lines)), label("middle"), _near(draw(lines)), label("end"))
    image.init_text(label("elsewhere"), x86.jmp("end"), x86.call("middle"), x86.ret())
    image.data(label("data"), (u64 if bits == 64 else u32)(addr("middle")), space(64))
    return image


def _near(statements: list[Statement]) -> list[Statement]:
    """The same, each ``loop`` with its target right before it: it has no long form."""
    out: list[Statement] = []
    for statement in statements:
        if str(statement).startswith("\tloop"):
            here = Local("loop")
            out += [label(here), x86.loop(addr(here))]
        else:
            out.append(statement)
    return out


@pytest.mark.parametrize("bits", [32, 64])
def test_any_sequence_is_what_gnu_as_makes_of_it(bits: int) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(programs(bits))
    def check(image: Image) -> None:
        with tempfile.TemporaryDirectory() as folder:
            assert_same(image, Path(folder))

    check()
