"""What both readers of a machine's description share: numbers, and errors that name the part and the line."""

from __future__ import annotations

from pvops.errors import MachineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

REGISTERS = ("eax", "ebx", "ecx", "edx")


def integer(value: object, name: str, part: str, line: int, what: str) -> int:
    """A number of 32 bits, as such or written in decimal or hexadecimal."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and len(value) <= 12:
        try:
            number = int(value, 0)
        except ValueError:
            number = None
    if number is None or not 0 <= number < 1 << 32:
        bad(name, part, line, f"{what} is no 32-bit number: {str(value)[:40]!r}")
    return number


def bad(name: str, part: str, line: int, reason: str) -> NoReturn:
    """Raises the `MachineError` of a part, and of a line where that is not 0."""
    where = ", ".join(x for x in (part and f"part {part}", line and f"line {line}") if x)
    raise MachineError(
        f"{name}: {where}: {reason}" if where else f"{name}: {reason}", reason=reason, file=name, section=part or None
    )
