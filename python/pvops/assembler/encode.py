"""Instructions to bytes, with iced-x86 as the encoder (extra ``run``).

iced knows for each form of an instruction which operands it takes. Of the forms that take the given operands the
shortest is used, of equally short ones that with a short immediate, then that with the lower opcode: the choice of GNU
as.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from pvops.assembler.operands import Memory, Operand, Register
from pvops.assembler.statements import Code, Fixup
from pvops.assembler.values import Value, number
from pvops.errors import AssemblyError
from pvops.tuples import NamedTuple

try:
    import iced_x86 as iced
except ImportError as error:
    raise AssemblyError("assembling needs iced-x86: the extra `run`") from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    # iced's enumerations are modules at run time, and types only here.
    from iced_x86._iced_x86_py import Code as IcedCode
    from iced_x86._iced_x86_py import OpKind as IcedOpKind
    from iced_x86._iced_x86_py import Register as IcedRegister


class Form(NamedTuple):
    """One form of an instruction: iced's code, and what its operands may be, destination first."""

    code: IcedCode
    kinds: tuple[str, ...]
    operand_size: int
    opcode: int
    name: str


_KINDS = {value: name for name, value in vars(iced.OpCodeOperandKind).items() if isinstance(value, int)}

#: Immediates by kind: lowest and highest number, and how iced holds it.
_IMMEDIATES: dict[str, tuple[int, int, IcedOpKind]] = {
    "IMM8": (-(1 << 7), (1 << 8) - 1, iced.OpKind.IMMEDIATE8),
    "IMM8SEX16": (-(1 << 7), (1 << 7) - 1, iced.OpKind.IMMEDIATE8TO16),
    "IMM8SEX32": (-(1 << 7), (1 << 7) - 1, iced.OpKind.IMMEDIATE8TO32),
    "IMM8SEX64": (-(1 << 7), (1 << 7) - 1, iced.OpKind.IMMEDIATE8TO64),
    "IMM16": (-(1 << 15), (1 << 16) - 1, iced.OpKind.IMMEDIATE16),
    "IMM32": (-(1 << 31), (1 << 32) - 1, iced.OpKind.IMMEDIATE32),
    "IMM32SEX64": (-(1 << 31), (1 << 31) - 1, iced.OpKind.IMMEDIATE32TO64),
    "IMM64": (-(1 << 63), (1 << 64) - 1, iced.OpKind.IMMEDIATE64),
    "IMM8_CONST_1": (1, 1, iced.OpKind.IMMEDIATE8),
}
#: Those that hold an address, which is not known yet.
_ADDRESSES = ("IMM32", "IMM32SEX64", "IMM64")

#: Kinds that a segment, control or debug register fits.
_SPECIAL = {"SEG_REG": "csdsesfsgsss", "CR_REG": "cr", "DR_REG": "dr"}

#: Selectors may be named by their 16-bit registers: the encoding is that of the 32-bit one.
_SELECTORS = ("LTR_R32M16", "LLDT_R32M16", "MOV_SREG_R32M16", "LMSW_R32M16")

#: Two operands that may change places.
_COMMUTE = ("XCHG", "TEST")


@cache
def _forms() -> dict[str, list[Form]]:
    """Every form without VEX and its like, by mnemonic."""
    mnemonics = {value: name for name, value in vars(iced.Mnemonic).items() if isinstance(value, int)}
    found: dict[str, list[Form]] = {}
    for name, value in vars(iced.Code).items():
        if not isinstance(value, int):
            continue
        code: IcedCode = getattr(iced.Code, name)
        info = iced.OpCodeInfo(code)
        if info.encoding == iced.EncodingKind.LEGACY and not name.startswith("CMPXCHG486"):  # an early 486 alone
            kinds = tuple(_KINDS[info.op_kind(n)] for n in range(info.op_count))
            form = Form(code, kinds, info.operand_size, info.op_code, name)
            found.setdefault(mnemonics[info.mnemonic], []).append(form)
            if "IMM64" in kinds:
                found.setdefault("MOVABS", []).append(form)
    return found


def encode(
    bits: int,
    mnemonic: str,
    operands: Sequence[Operand],
    *,
    size: int = 0,
    memory: int = 0,
    lock: bool = False,
) -> Code:
    """The bytes of an instruction.

    Args:
        bits: 32 or 64.
        mnemonic: as iced names it, ``MOV``.
        operands: destination first.
        size: of the operation in bits, as AT&T's suffix says it; 0 where there is none.
        memory: size in bits of what lies in memory; ``size`` unless given (``movzbl``).
        lock: with the prefix ``lock``.

    Raises:
        AssemblyError: no form of the instruction takes these operands.
    """
    orders = [operands, operands[::-1]] if mnemonic in _COMMUTE and len(operands) == 2 else [operands]
    best: tuple[tuple[int, bool, int], Code] | None = None
    for form in _forms().get(mnemonic, ()):
        for given in orders:
            if not _takes(form, given, bits, size, memory or size):
                continue
            code = _encode(form, given, bits, size, lock)
            if code is None:
                continue
            rank = (len(code.bytes), not any(kind.startswith("IMM8SEX") for kind in form.kinds), form.opcode)
            if best is None or rank < best[0]:
                best = (rank, code)
    if best is None:
        raise AssemblyError(f"no such instruction on {'x86-64' if bits == 64 else 'i386'}")
    return best[1]


def _takes(form: Form, operands: Sequence[Operand], bits: int, size: int, memory: int) -> bool:
    if len(form.kinds) != len(operands):
        return False
    if size and form.operand_size != (0 if size == 8 else size) and form.operand_size:
        return False
    return all(
        _fits(kind, operand, form, bits, size, memory) for kind, operand in zip(form.kinds, operands, strict=True)
    )


def _fits(kind: str, operand: Operand, form: Form, bits: int, size: int, memory: int) -> bool:
    if isinstance(operand, Register):
        return _is_register(kind, operand, form)
    if isinstance(operand, Memory):
        if kind == "MEM":
            return True
        if kind == "MEM_OFFS":
            # A 64-bit address in the instruction is movabs, which must be asked for.
            return bits == 32 and operand.base is None and operand.index is None
        return kind.endswith("_OR_MEM") and memory in (0, int(kind[1:].partition("_")[0]))
    if isinstance(operand, str) or kind not in _IMMEDIATES:
        return False
    value = number(operand)
    if value.plus is not None or value.minus is not None:
        return kind in _ADDRESSES
    low, high, _ = _IMMEDIATES[kind]
    return low <= _signed(value.addend, size, kind) <= high


def _is_register(kind: str, register: Register, form: Form) -> bool:
    if kind in _SPECIAL:
        return register.size == 0 and register.name[:2] in _SPECIAL[kind]
    if kind.startswith("R") and kind[1:2].isdigit():
        wanted = int(kind[1:].partition("_")[0])
        if register.name == "rip" or not register.size:
            return False
        return register.size == wanted or (register.size == 16 and form.name in _SELECTORS)
    return kind == register.name.upper()


def _signed(value: int, size: int, kind: str) -> int:
    """A number as an instruction that extends signs must hold it: ``0xfffffff0`` is -16 in 32 bits."""
    if size and "SEX" in kind and (1 << (size - 1)) <= value < (1 << size):
        return value - (1 << size)
    return value


def _register(register: Register | None) -> IcedRegister:
    found: IcedRegister = iced.Register.NONE if register is None else getattr(iced.Register, register.name.upper())
    return found


def _encode(form: Form, operands: Sequence[Operand], bits: int, size: int, lock: bool) -> Code | None:
    instruction = iced.Instruction()
    instruction.code = form.code
    instruction.has_lock_prefix = lock
    address: Memory | None = None
    immediate: Value | None = None
    for n, (kind, operand) in enumerate(zip(form.kinds, operands, strict=True)):
        if isinstance(operand, Register):
            instruction.set_op_kind(n, iced.OpKind.REGISTER)
            register = _register(operand)
            if form.name in _SELECTORS and operand.size == 16:
                register = iced.RegisterExt.full_register32(register)
            instruction.set_op_register(n, register)
        elif isinstance(operand, Memory):
            instruction.set_op_kind(n, iced.OpKind.MEMORY)
            _set_memory(instruction, operand, bits)
            address = operand
        elif not isinstance(operand, str):
            value = number(operand)
            instruction.set_op_kind(n, _IMMEDIATES[kind][2])
            if value.plus is None and value.minus is None:
                held = _signed(value.addend, size, kind) & ((1 << 64) - 1)
                instruction.set_immediate_u64(n, held)
            else:
                immediate = value
    encoder = iced.Encoder(bits)
    try:
        encoder.encode(instruction, 0)
    except ValueError:
        return None
    return _with_fixups(encoder, address, immediate, "SEX" in "".join(form.kinds), bits)


def _set_memory(instruction: iced.Instruction, memory: Memory, bits: int) -> None:
    full = bits // 8
    instruction.memory_base = _register(memory.base)
    instruction.memory_index = _register(memory.index)
    instruction.memory_index_scale = memory.scale
    instruction.segment_prefix = _register(memory.segment)
    bare = memory.base is None and memory.index is None
    if memory.base is not None and memory.base.name == "rip":
        instruction.memory_displ_size = 8
        instruction.memory_displacement = 0
    elif memory.symbolic or bare or memory.base is None:
        instruction.memory_displ_size = full
        value = memory.displacement.addend
        instruction.memory_displacement = 0 if memory.symbolic else value & ((1 << bits) - 1)
    else:
        value = memory.displacement.addend
        if bits == 32 and value >= 1 << 31:
            value -= 1 << 32
        instruction.memory_displ_size = 0 if value == 0 else 1 if -128 <= value <= 127 else full
        instruction.memory_displacement = value & ((1 << bits) - 1)


def _with_fixups(
    encoder: iced.Encoder, memory: Memory | None, immediate: Value | None, extends: bool, bits: int
) -> Code:
    places = encoder.get_constant_offsets()
    raw = bytearray(encoder.take_buffer())
    fixups = []
    relative = memory is not None and memory.base is not None and memory.base.name == "rip"
    if memory is not None and (memory.symbolic or relative):
        at, size = places.displacement_offset, places.displacement_size
        raw[at : at + size] = bytes(size)
        fixups.append(Fixup(at, size, memory.displacement, relative, bits == 64))
    if immediate is not None:
        at, size = places.immediate_offset, places.immediate_size
        raw[at : at + size] = bytes(size)
        fixups.append(Fixup(at, size, immediate, False, extends and size < 8))
    return Code(bytes(raw), tuple(fixups))
