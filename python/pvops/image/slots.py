"""Where the slots of a kernel's ops lie, as the calls of its sites say."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pvops.eras.template import TemplateOp
    from pvops.image.view import KernelView


#: How many structures of ops a kernel has at most: init, time, cpu, irq, apic, mmu, lock.
_STRUCTURES = 7


def of_types(kernel: KernelView) -> dict[int, int]:
    """Type → address of its slot, by the rows of ``.parainstructions``; nothing where two sites of a type disagree."""
    found: dict[int, int] = {}
    for address, _, type, _, _, code in kernel.paravirt.rows() if kernel.paravirt is not None else ():
        pointer = called(address, code, kernel.bits)
        if pointer is not None and found.setdefault(type, pointer) != pointer:
            return {}
    return found


def differ(through: Mapping[int, int], places: Mapping[str, int], template: Iterable[TemplateOp]) -> bool:
    """Whether some type's sites call through another slot than the one where its op would lie."""
    called = ((through.get(op.type), places.get(op.name)) for op in template)
    return any(place is not None and slot not in (None, place) for slot, place in called)


def are_structures(slots: Mapping[int, int], word: int) -> bool:
    """Whether the slots of types are those of whole structures, one behind the other in the template.

    Up to 4.19 each structure is a variable of its own: where its first slot would have type 0 is one address for all of
    its types, which are numbers in a row. Two have one base where
    the linker put those between them in another order.
    """
    runs: list[tuple[int, list[int]]] = []
    for type in sorted(slots):
        base = slots[type] - type * word
        if not runs or runs[-1][0] != base:
            runs.append((base, []))
        runs[-1][1].append(slots[type])
    for first, (base, before) in enumerate(runs):
        for second in range(first + 1, len(runs)):
            if runs[second][0] != base:
                continue
            between = [slot for _, held in runs[first + 1 : second] for slot in held]
            if not all(before[-1] < slot < runs[second][1][0] for slot in between):
                return False
    return 1 < len(runs) <= _STRUCTURES


def of_direct_calls(kernel: KernelView) -> list[int]:
    """The slots that direct-call rows of ``.altinstructions`` (6.8 and later) go through, ascending."""
    found = set()
    for address, length, _, _, direct_call, _, _ in kernel.tables.alternatives():
        if direct_call:
            pointer = called(address, kernel.image.read(address, length) or b"", kernel.bits)
            found.update([pointer] if pointer is not None else [])
    return sorted(found)


def called(address: int, code: bytes, bits: int) -> int | None:
    """The address of the pointer that a site's call or jump goes through; None where it has none.

    A site of assembler may push registers and have a segment prefix before it.
    """
    at = 0
    while at < len(code) and (0x50 <= code[at] < 0x58 or code[at] == 0x2E):
        at += 1
    if code[at : at + 3] in (b"\xff\x14\x25", b"\xff\x24\x25") and bits == 64:
        return int.from_bytes(code[at + 3 : at + 7], "little", signed=True) & 0xFFFF_FFFF_FFFF_FFFF
    if code[at : at + 2] not in (b"\xff\x15", b"\xff\x25") or len(code) < at + 6:
        return None
    displacement = int.from_bytes(code[at + 2 : at + 6], "little", signed=True)
    return displacement & 0xFFFF_FFFF if bits == 32 else address + at + 6 + displacement
