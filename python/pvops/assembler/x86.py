"""The instructions that guests use, by their AT&T names, sources first: ``movl(0x200, mem("irq_enabled"))``.

A suffix is the size of the operation: b, w, l, q. Branches take a label's name, calls and jumps through memory or a
register take a `Memory` or a `Register` (AT&T's ``*``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pvops.assembler.operands import Memory, Operand, Register
from pvops.assembler.statements import Branch, Code, Data, Encodable, Fixup
from pvops.assembler.values import Value, addr
from pvops.errors import AssemblyError

_SIZES = {"b": 8, "w": 16, "l": 32, "q": 64}


@dataclass(frozen=True, slots=True, eq=False)
class Instruction(Encodable):
    """One instruction with its operands, sources first."""

    mnemonic: Mnemonic
    operands: tuple[Operand, ...]
    lock: bool = False

    def encode(self, bits: int) -> Code:
        """Its bytes for 32 or 64 bits; `AssemblyError` where there is no such instruction."""
        from pvops.assembler.encode import encode

        m = self.mnemonic
        return encode(bits, m.iced or m.name.upper(), self.operands[::-1], size=m.size, memory=m.memory, lock=self.lock)

    def __str__(self) -> str:
        star = self.mnemonic.name in ("call", "jmp")
        operands = ("*" * star + _written(operand) for operand in self.operands)
        return f"\t{'lock ' * self.lock}{self.mnemonic.name} {', '.join(operands)}".rstrip()


def _written(operand: Operand) -> str:
    return (
        f"${operand:#x}" if isinstance(operand, int) else f"${operand}" if isinstance(operand, Value) else str(operand)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Mnemonic:
    """An instruction's name; call it with operands.

    Args:
        name: AT&T's.
        iced: iced's, without size; from ``name`` where empty.
        size: of the operation in bits; 0 where the name does not say.
        memory: of what lies in memory, where that is another.
    """

    name: str
    iced: str = ""
    size: int = 0
    memory: int = 0

    def __call__(self, *operands: Operand) -> Instruction:
        return Instruction(self, operands)


def _sized(name: str, suffixes: str) -> list[Mnemonic]:
    return [Mnemonic(name + suffix, name.upper(), _SIZES[suffix]) for suffix in suffixes]


movb, movw, movl, movq = _sized("mov", "bwlq")
addb, addw, addl, addq = _sized("add", "bwlq")
orb, orw, orl, orq = _sized("or", "bwlq")
adcb, adcw, adcl, adcq = _sized("adc", "bwlq")
sbbb, sbbw, sbbl, sbbq = _sized("sbb", "bwlq")
andb, andw, andl, andq = _sized("and", "bwlq")
subb, subw, subl, subq = _sized("sub", "bwlq")
xorb, xorw, xorl, xorq = _sized("xor", "bwlq")
cmpb, cmpw, cmpl, cmpq = _sized("cmp", "bwlq")
testb, testw, testl, testq = _sized("test", "bwlq")
incb, incw, incl, incq = _sized("inc", "bwlq")
decb, decw, decl, decq = _sized("dec", "bwlq")
negb, negw, negl, negq = _sized("neg", "bwlq")
notb, notw, notl, notq = _sized("not", "bwlq")
shlb, shlw, shll, shlq = _sized("shl", "bwlq")
shrb, shrw, shrl, shrq = _sized("shr", "bwlq")
sarb, sarw, sarl, sarq = _sized("sar", "bwlq")
mulb, mulw, mull, mulq = _sized("mul", "bwlq")
divb, divw, divl, divq = _sized("div", "bwlq")
imull, imulq = _sized("imul", "lq")
leal, leaq = _sized("lea", "lq")
xchgb, xchgw, xchgl, xchgq = _sized("xchg", "bwlq")
xaddb, xaddw, xaddl, xaddq = _sized("xadd", "bwlq")
cmpxchgb, cmpxchgw, cmpxchgl, cmpxchgq = _sized("cmpxchg", "bwlq")
cmpxchg8b = Mnemonic("cmpxchg8b")
btl, btsl, btrl = (Mnemonic(name, name[:-1].upper(), 32) for name in ("btl", "btsl", "btrl"))
movzbl, movsbl = (Mnemonic(f"mov{x}bl", f"MOV{x.upper()}X", 32, 8) for x in "zs")
movzwl, movswl = (Mnemonic(f"mov{x}wl", f"MOV{x.upper()}X", 32, 16) for x in "zs")
movabsq = Mnemonic("movabsq", "MOVABS", 64)

pushl, pushq = _sized("push", "lq")
popl, popq = _sized("pop", "lq")
pushfl, popfl, iret = Mnemonic("pushfl", "PUSHFD"), Mnemonic("popfl", "POPFD"), Mnemonic("iret", "IRETD")
pushfq, popfq, iretq = Mnemonic("pushfq"), Mnemonic("popfq"), Mnemonic("iretq")
pushal, popal = Mnemonic("pushal", "PUSHAD"), Mnemonic("popal", "POPAD")

sete, setne, setb, setae = Mnemonic("sete"), Mnemonic("setne"), Mnemonic("setb"), Mnemonic("setae")
setz, setnz = Mnemonic("setz", "SETE"), Mnemonic("setnz", "SETNE")

sfence, lfence, mfence = Mnemonic("sfence"), Mnemonic("lfence"), Mnemonic("mfence")
ret, leave, nop, pause = Mnemonic("ret"), Mnemonic("leave"), Mnemonic("nop"), Mnemonic("pause")
cld, std, cltd = Mnemonic("cld"), Mnemonic("std"), Mnemonic("cltd", "CDQ")
cli, sti, hlt, clts = Mnemonic("cli"), Mnemonic("sti"), Mnemonic("hlt"), Mnemonic("clts")
cpuid, rdtsc, rdmsr, wrmsr = Mnemonic("cpuid"), Mnemonic("rdtsc"), Mnemonic("rdmsr"), Mnemonic("wrmsr")
rdpmc, wbinvd, invlpg = Mnemonic("rdpmc"), Mnemonic("wbinvd"), Mnemonic("invlpg")
lgdt, lidt, sgdt, sidt = Mnemonic("lgdt"), Mnemonic("lidt"), Mnemonic("sgdt"), Mnemonic("sidt")
ltr, lldt, str_, sldt = Mnemonic("ltr"), Mnemonic("lldt"), Mnemonic("str"), Mnemonic("sldt")
inb, inl = Mnemonic("inb", "IN", 8), Mnemonic("inl", "IN", 32)
outb, outl = Mnemonic("outb", "OUT", 8), Mnemonic("outl", "OUT", 32)
int_, int3, ud2 = Mnemonic("int"), Mnemonic("int3"), Mnemonic("ud2")
sysenter, sysexit, syscall = Mnemonic("sysenter"), Mnemonic("sysexit"), Mnemonic("syscall")
sysretl, sysretq, swapgs = Mnemonic("sysretl", "SYSRET"), Mnemonic("sysretq"), Mnemonic("swapgs")
vmcall, vmmcall = Mnemonic("vmcall"), Mnemonic("vmmcall")

_call, _jmp = Mnemonic("call"), Mnemonic("jmp")


def call(target: str | Value | Memory | Register) -> Instruction | Data:
    """``call target``, and through memory or a register ``call *target``."""
    if isinstance(target, Memory | Register):
        return _call(target)
    value = addr(target) if isinstance(target, str) else target
    return Data(f"call {value}", Code(b"\xe8" + bytes(4), (Fixup(1, 4, value, True, True),)))


def jmp(target: str | Value | Memory | Register) -> Instruction | Branch:
    """``jmp target``, short where it reaches, and through memory or a register ``jmp *target``."""
    if isinstance(target, Memory | Register):
        return _jmp(target)
    return Branch("jmp", b"\xeb", b"\xe9", addr(target) if isinstance(target, str) else target)


@dataclass(frozen=True, slots=True, eq=False)
class Jcc:
    """A conditional jump; call it with a label."""

    name: str
    condition: int

    def __call__(self, target: str | Value) -> Branch:
        short, long = bytes([0x70 | self.condition]), bytes([0x0F, 0x80 | self.condition])
        return Branch(self.name, short, long, addr(target) if isinstance(target, str) else target)


_CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
jo, jno, jb, jae, je, jne, jbe, ja = (Jcc(f"j{c}", n) for n, c in enumerate(_CONDITIONS[:8]))
js, jns, jp, jnp, jl, jge, jle, jg = (Jcc(f"j{c}", n) for n, c in enumerate(_CONDITIONS[8:], 8))
jc, jnc, jz, jnz = Jcc("jc", 2), Jcc("jnc", 3), Jcc("jz", 4), Jcc("jnz", 5)


def loop(target: str | Value) -> Branch:
    """``loop target``: decrement ecx (rcx) and jump while it is not zero; short only."""
    return Branch("loop", b"\xe2", b"", addr(target) if isinstance(target, str) else target)


def lock(instruction: Instruction) -> Instruction:
    """``lock`` before an instruction that stays; one that can be taken away is the macro ``LOCK_PREFIX``."""
    return replace(instruction, lock=True)


def rep(string: Data) -> Data:
    """``rep`` before a string instruction."""
    if string.text not in _STRINGS:
        raise AssemblyError(f"rep before {string.text}, which is no string instruction")
    return Data(f"rep {string.text}", Code(b"\xf3" + string.code.bytes))


_STRINGS = {"movsb": b"\xa4", "movsl": b"\xa5", "stosb": b"\xaa", "stosl": b"\xab", "lodsl": b"\xad"}
movsb, movsl, stosb, stosl, lodsl = (Data(name, Code(code)) for name, code in _STRINGS.items())
