"""A guest's text as it is now, instruction by instruction."""

from __future__ import annotations

from collections.abc import Iterator

import iced_x86

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iced_x86 import Instruction

    from pvops.emulate.guest.locks.kernel import LockImage
    from pvops.emulate.smp.memory import Memory

_MSRS = {iced_x86.Code.RDMSR: "rdmsr", iced_x86.Code.WRMSR: "wrmsr"}


def instructions(image: LockImage, memory: Memory) -> Iterator[Instruction]:
    """Every instruction of the text."""
    for name, (address, raw) in image.built.sections.items():
        if name.startswith(".text"):
            yield from iced_x86.Decoder(image.bits, memory.read(address, len(raw)), ip=address)


def msrs(image: LockImage, memory: Memory) -> dict[int, str]:
    """Where it has ``rdmsr`` and ``wrmsr``."""
    return {i.ip: _MSRS[i.code] for i in instructions(image, memory) if i.code in _MSRS}
