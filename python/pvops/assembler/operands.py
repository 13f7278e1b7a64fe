"""Operands: registers by their names, memory; a number or an address is an immediate.

``mem`` reads like AT&T's ``disp(base, index, scale)``::

    mem("irq_enabled")              irq_enabled
    mem(4, esp)                     4(%esp)
    mem("hcall_ring", eax, ecx, 4)  hcall_ring(%eax,%ecx,4)
    mem("vcpu_info", segment=fs)    %fs:vcpu_info
    mem("pv_irq_ops", rip)          pv_irq_ops(%rip)
"""

from __future__ import annotations

from dataclasses import dataclass

from pvops.assembler.values import Name, Value, addr, number
from pvops.errors import AssemblyError


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Register:
    """A register.

    Attributes:
        name: without the ``%``.
        size: in bits; 0 where instructions do not tell (segments, control and debug registers).
    """

    name: str
    size: int = 0

    def __str__(self) -> str:
        return f"%{self.name}"

    __repr__ = __str__


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """A memory operand; see `mem`."""

    displacement: Value
    base: Register | None
    index: Register | None
    scale: int
    segment: Register | None

    @property
    def symbolic(self) -> bool:
        """Whether the displacement is an address."""
        return self.displacement.plus is not None

    def __str__(self) -> str:
        text = f"%{self.segment.name}:" if self.segment else ""
        if self.symbolic or self.displacement.addend or not (self.base or self.index):
            text += str(self.displacement)
        if self.base or self.index:
            index = f",%{self.index.name},{self.scale}" if self.index else ""
            text += f"({self.base or ''}{index})"
        return text


#: What an instruction takes, sources first. A bare string is the target of a branch.
Operand = Register | Memory | Value | int | str


def mem(
    displacement: Name | Value | int = 0,
    base: Register | None = None,
    index: Register | None = None,
    scale: int = 1,
    *,
    segment: Register | None = None,
) -> Memory:
    """Memory at ``segment:displacement(base, index, scale)``.

    Args:
        displacement: a label, ``addr(label) + offset`` or a number.
        base, index, scale: as in AT&T syntax; ``rip`` as base means relative to the instruction, as there.
        segment: an override: ``cs``, ``fs``, ….

    Raises:
        AssemblyError: no such addressing mode.
    """
    if scale not in (1, 2, 4, 8):
        raise AssemblyError(f"scale {scale} is not 1, 2, 4 or 8")
    if index is not None and (index.name in ("esp", "rsp", "rip") or index.size < 32):
        raise AssemblyError(f"{index} cannot be an index")
    if base is not None and base.size < 32:
        raise AssemblyError(f"{base} cannot be a base")
    value = number(displacement) if isinstance(displacement, Value | int) else addr(displacement)
    return Memory(value, base, index, scale, segment)


def _words(size: int, names: str) -> list[Register]:
    return [Register(name, size) for name in names.split()]


al, cl, dl, bl, ah, ch, dh, bh = _words(8, "al cl dl bl ah ch dh bh")
ax, cx, dx, bx, sp, bp, si, di = _words(16, "ax cx dx bx sp bp si di")
eax, ecx, edx, ebx, esp, ebp, esi, edi = _words(32, "eax ecx edx ebx esp ebp esi edi")
rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi = _words(64, "rax rcx rdx rbx rsp rbp rsi rdi")
r8, r9, r10, r11, r12, r13, r14, r15 = _words(64, "r8 r9 r10 r11 r12 r13 r14 r15")
r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d = _words(32, "r8d r9d r10d r11d r12d r13d r14d r15d")
rip = Register("rip", 64)
cs, ds, es, fs, gs, ss = _words(0, "cs ds es fs gs ss")
cr0, cr2, cr3, cr4, cr8 = _words(0, "cr0 cr2 cr3 cr4 cr8")
dr0, dr1, dr2, dr3, dr6, dr7 = _words(0, "dr0 dr1 dr2 dr3 dr6 dr7")
