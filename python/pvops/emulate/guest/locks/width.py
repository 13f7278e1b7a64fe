"""i386 and x86-64 for code that is written once: registers by their part in it, and the instructions for pointers.

What C keeps in registers across calls is in `lock`, `kept` and `also`; arguments are where C has them (``regparm(3)``,
the ABI of x86-64). Counters, tickets and loads are of 16 or 32 bits and the same on both.
"""

from __future__ import annotations

from pvops.assembler import operands as o
from pvops.assembler import x86
from pvops.assembler.operands import Memory, Operand, Register, mem
from pvops.assembler.statements import Body
from pvops.assembler.values import Name, Value
from pvops.tuples import NamedTuple


class Width(NamedTuple):
    """Registers and instructions of one width.

    Attributes:
        bits: 32 or 64.
        arguments: of a C function, as pointers.
        words: the same, of 32 bits.
        lock: holds the lock's address (ebx, rbx).
        kept: the first register that a call keeps, of 32 bits (esi, r12d), and whole (`kept_word`).
        also: the second (edi, r13d, r13).
        turns: what the program counts with (ebp).
        segment: of per-CPU data.
        hypercall: the first two arguments of a hypercall of Xen's, of 32 bits, and whole (`hypercall_words`).
    """

    bits: int
    arguments: tuple[Register, ...]
    words: tuple[Register, ...]
    result: Register
    lock: Register
    kept: Register
    kept_word: Register
    kept_half: Register
    also: Register
    also_word: Register
    turns: Register
    turns_word: Register
    stack: Register
    segment: Register
    hypercall: tuple[Register, ...]
    hypercall_words: tuple[Register, ...]

    @property
    def size(self) -> int:
        """Bytes of a pointer."""
        return self.bits // 8

    def mov(self, source: Operand, target: Operand) -> Body:
        """Moves a pointer."""
        return (x86.movq if self.bits == 64 else x86.movl)(source, target)

    def lea(self, source: Operand, target: Operand) -> Body:
        """The address of memory."""
        return (x86.leaq if self.bits == 64 else x86.leal)(source, target)

    def cmp(self, source: Operand, target: Operand) -> Body:
        """Compares pointers."""
        return (x86.cmpq if self.bits == 64 else x86.cmpl)(source, target)

    def add(self, source: Operand, target: Operand) -> Body:
        """Adds to a pointer."""
        return (x86.addq if self.bits == 64 else x86.addl)(source, target)

    def store(self, value: int, target: Memory) -> Body:
        """A number into memory, as a pointer."""
        return (x86.movq if self.bits == 64 else x86.movl)(value, target)

    def push(self, register: Register) -> Body:
        """Pushes a register."""
        return (x86.pushq if self.bits == 64 else x86.pushl)(register)

    def pop(self, register: Register) -> Body:
        """Pops a register."""
        return (x86.popq if self.bits == 64 else x86.popl)(register)

    def cmpxchg_dx(self, target: Memory) -> Body:
        """``lock cmpxchg`` of a pointer in memory: that in `result` becomes that in edx (rdx)."""
        return x86.lock(x86.cmpxchgq(o.rdx, target) if self.bits == 64 else x86.cmpxchgl(o.edx, target))

    def load(self, symbol: Name | Value, target: Register) -> Body:
        """An address into a register; on x86-64 kernels lie where four bytes reach, their signs extended."""
        value = symbol if isinstance(symbol, Value) else Value(symbol)
        return self.mov(value, target)

    def keeping(self, *body: Body) -> Body:
        """A C function's body that may use `lock`, `kept`, `also` and `turns`, and its return."""
        saved = (self.lock, self.kept_word, self.also_word, self.turns_word)
        return (*(self.push(r) for r in saved), *body, *(self.pop(r) for r in reversed(saved)), x86.ret())

    def own(self, offset: int) -> Memory:
        """Per-CPU data of the CPU that executes this: the segment begins where it lies less where it is linked."""
        return mem(Value("per_cpu_start", offset), segment=self.segment)


_I386 = Width(
    32, (o.eax, o.edx, o.ecx), (o.eax, o.edx, o.ecx), o.eax, o.ebx, o.esi, o.esi, o.si, o.edi, o.edi, o.ebp, o.ebp,
    o.esp, o.fs, (o.ebx, o.ecx), (o.ebx, o.ecx),
)  # fmt: skip
_X86_64 = Width(
    64, (o.rdi, o.rsi, o.rdx), (o.edi, o.esi, o.edx), o.rax, o.rbx, o.r12d, o.r12, Register("r12w", 16), o.r13d, o.r13,
    o.ebp, o.rbp, o.rsp, o.gs, (o.edi, o.esi), (o.rdi, o.rsi),
)  # fmt: skip


def of(bits: int) -> Width:
    """The width of 32 or 64 bits."""
    return _X86_64 if bits == 64 else _I386
