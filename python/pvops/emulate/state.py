"""What the emulated CPU holds: memory with access rights, and registers by name."""

from __future__ import annotations

from pvops.emulate.emulator import unicorn
from pvops.errors import RunError

PAGE = 0x1000
_HALVES = frozenset(("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"))


class State:
    """The memory and the registers of one emulated CPU, flat and empty at first.

    Args:
        bits: 32 or 64.
    """

    def __init__(self, bits: int = 32) -> None:
        self.bits = bits
        self.size = bits // 8
        self._mask = (1 << bits) - 1
        self._pc, self._sp, self._flags = ("rip", "rsp", "rflags") if bits == 64 else ("eip", "esp", "eflags")
        self._u, self._x, self.uc = unicorn(bits)
        self._text: list[tuple[int, int]] = []
        self.uc.ctl_set_tlb_mode(self._u.UC_TLB_VIRTUAL)

    # Memory

    def map(self, address: int, size: int, access: str = "rw") -> None:
        """Maps the pages of a range; `access` is of ``r``, ``w``, ``x``. Text that cannot be written is ``rx``."""
        first, last = address & -PAGE, (address + size + PAGE - 1) & -PAGE
        bits = sum({"r": 1, "w": 2, "x": 4}[c] for c in access)
        self.uc.mem_map(first, last - first, bits)
        if "x" in access:
            self._text.append((first, last))

    def read(self, address: int, size: int) -> bytes:
        """Memory; `RunError` where none is mapped."""
        try:
            return bytes(self.uc.mem_read(address & self._mask, size))
        except self._u.UcError:
            raise RunError(f"{address:#x}: no memory there", reason="no memory there", address=address) from None

    def write(self, address: int, data: bytes) -> None:
        """Writes memory from outside, whatever its access; code that was there is forgotten."""
        try:
            self.uc.mem_write(address & self._mask, data)
        except self._u.UcError:
            raise RunError(f"{address:#x}: no memory there", reason="no memory there", address=address) from None
        if self.in_text(address):
            self.uc.ctl_remove_cache(address & self._mask, (address & self._mask) + max(len(data), 1))

    def word(self, address: int) -> int:
        """Four bytes of memory as a number."""
        return int.from_bytes(self.read(address, 4), "little")

    def set_word(self, address: int, value: int) -> None:
        """Writes four bytes."""
        self.write(address, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def pointer(self, address: int) -> int:
        """A pointer in memory, of the CPU's width."""
        return int.from_bytes(self.read(address, self.size), "little")

    # Registers

    def get(self, register: str) -> int:
        """A register by name: ``eax``, ``cr3``; ``pc``, ``sp`` and ``flags`` have the CPU's width."""
        return self.uc.reg_read(self._x[self._named(register)])

    def set(self, register: str, value: int) -> None:
        """Sets a register by name; one of 32 bits on x86-64 as an instruction does: the upper half becomes zero."""
        if self.bits == 64 and register in _HALVES:
            register, value = "r" + register[1:], value & 0xFFFFFFFF
        self.uc.reg_write(self._x[self._named(register)], value & self._mask)

    def _named(self, register: str) -> str:
        return {"pc": self._pc, "sp": self._sp, "flags": self._flags}.get(register, register)

    def table(self, register: str) -> tuple[int, int]:
        """``gdtr`` or ``idtr``: (base, limit)."""
        held: object = self.uc.reg_read(self._x[register])  # (selector, base, limit, flags)
        assert isinstance(held, tuple)
        return held[1], held[2]

    def push(self, value: int) -> None:
        """Pushes a word on the guest's stack."""
        top = self.get("sp") - self.size
        self.set("sp", top)
        self.write(top, (value & self._mask).to_bytes(self.size, "little"))

    def pop(self) -> int:
        """Pops a word from the guest's stack."""
        top = self.get("sp")
        self.set("sp", top + self.size)
        return self.pointer(top)

    def skip(self, length: int) -> None:
        """Goes on behind an instruction that the host has carried out."""
        self.set("pc", self.get("pc") + length)

    def in_text(self, address: int) -> bool:
        """Whether an address may be executed."""
        return any(low <= address < high for low, high in self._text)
