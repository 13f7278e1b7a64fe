"""What a person means by a place in a kernel: an address, a range, a function, or an offset into one."""

from __future__ import annotations

import re

from pvops.errors import ImageError, nearest
from pvops.image.view import KernelView
from pvops.tuples import NamedTuple

#: Past this no function reaches.
_LONGEST_FUNCTION = 1 << 20
#: Bytes that are shown of code whose function is not known.
_SOME = 64
#: Fewer bytes than these between two functions may be nops that align the second.
_NOPS_BETWEEN = 64
#: So much of a name is enough to say which names begin so.
_LEAST_TYPED = 4


class Place(NamedTuple):
    """A place in an image.

    Attributes:
        address: where it begins, as linked.
        size: bytes: of a function up to the next symbol, of a range its length; 1 for one address.
        symbol: the function, where one is named as a whole; else None.
        doubt: why it may not be the place that was meant; empty where nothing speaks against it.
    """

    address: int
    size: int
    symbol: str | None
    doubt: str = ""

    def __repr__(self) -> str:
        return f"<Place {self.address:#x}, {self.size} bytes{', ' + self.symbol if self.symbol else ''}>"

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.size


def parse(view: KernelView, text: str, slide: int = 0) -> list[Place]:
    """The places that a text means; several where several functions have one name.

    | text | means |
    |---|---|
    | ``0xffffffff81008502``, ``ffffffff81008502`` | an address |
    | ``LOW-HIGH`` | the addresses from LOW up to but not including HIGH |
    | ``do_syscall_64`` | every function of that name |
    | ``do_syscall_64+58`` | an offset in decimal, as gdb prints it (its ``<…>`` may stay) |
    | ``do_syscall_64+0x3a`` | the same in hexadecimal |
    | ``do_syscall_64+0x3a/0x80`` | as an oops prints it (``RIP: 0010:`` may stay): of several those of this size |

    Args:
        view: the image.
        text: the place.
        slide: how far the kernel slid whose addresses are given; symbols do not slide.

    Raises:
        ImageError: there is no such symbol, or the address lies outside the image; what is nearest is named.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Bytes of an argument that are none are surrogates here (PEP 383).
        shown = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
        why = f"{shown.encode('utf-8', 'backslashreplace').decode()}: is not text in UTF-8"
        raise ImageError(f"{view.name}: {why}", reason=why, file=view.name) from error
    where = text.strip().removeprefix("<").removesuffix(">")
    where = re.sub(r"^[RE]?IP: ?(?:[0-9a-f]{4}:)?|^\? ", "", where)
    if found := re.fullmatch(r"(.*) \[([^]]*)\]", where):
        why = f"{text}: is in the module {found[2]}, not in the kernel: give the module's file"
        raise ImageError(f"{view.name}: {why}", reason=why, file=view.name)
    if found := re.fullmatch(r"(?:0x)?([0-9a-fA-F]+)-(?:0x)?([0-9a-fA-F]+)", where):
        low, high = int(found[1], 16), int(found[2], 16)
        if high <= low:
            raise ImageError(f"{view.name}: {text}: a range ends behind where it begins", file=view.name)
        return [Place(_within(view, text, low, slide), high - low, None)]
    symbol, plus, rest = (part.strip() for part in where.partition("+"))
    starts = sorted(set(view.image.addresses_of(symbol)))
    if not symbol.strip():
        why = f"{text!r} names no place: an address, a function, or function+offset"
        raise ImageError(f"{view.name}: {why}", reason=why, file=view.name)
    if not starts:
        if not plus and re.fullmatch(r"(?:0x)?[0-9a-fA-F]+", where):
            return [Place(_within(view, text, int(where, 16), slide), 1, None)]
        hint = _hint(view, symbol)
        raise ImageError(f"{view.name}: no symbol {symbol}{hint}", reason=f"no symbol {symbol}{hint}", file=view.name)
    if not plus:
        return [Place(start, extent(view, start), symbol) for start in starts]
    offset, slash, size = rest.partition("/")
    at = _number(view, text, offset)
    sizes = {start: extent(view, start) for start in starts}
    wanted = _number(view, text, size) if slash else None
    if wanted is not None:
        if at > wanted:
            why = f"{text}: no oops prints an offset behind the end of its function"
            raise ImageError(f"{view.name}: {why}", reason=why, file=view.name)
        # An oops takes the distance to the next symbol; where an alias or a hole follows, fewer are told here.
        starts = [start for start in starts if sizes[start] == wanted] or starts
        if not any(abs(sizes[start] - wanted) < _NOPS_BETWEEN for start in starts):
            told = ", ".join(f"{size:#x}" for size in sorted(set(sizes.values())))
            why = f"{symbol} has {told} bytes here, not {wanted:#x}: that oops is of another kernel"
            raise ImageError(f"{view.name}: {why}", reason=why, file=view.name)
    return [
        Place(_within(view, text, start + at, 0), 1, None, _doubt(symbol, sizes[start], at, wanted)) for start in starts
    ]


def _doubt(symbol: str, size: int, offset: int, wanted: int | None) -> str:
    """What speaks against an offset into a function of this size, which an oops may give otherwise."""
    if wanted is not None and wanted != size:
        return f"{symbol} has {size:#x} bytes here, not {wanted:#x}: the oops may be of another build"
    return f"{symbol} has only {size:#x} bytes: {offset:#x} lies behind it" if offset > size else ""


def extent(view: KernelView, start: int) -> int:
    """How many bytes a symbol has: up to the next one, or to the end of its section."""
    end = next((a + size for _, a, size, _ in view.image.sections() if a <= start < a + size), start + 1)
    low, high = start + 1, min(end, start + _LONGEST_FUNCTION)

    def inside(address: int) -> bool:
        found = view.image.symbol_at(address)
        return found is not None and address - found[1] == start

    step = 16
    while low + step < high and inside(low + step):
        low += step
        step *= 2
    high = min(high, low + step)
    while low < high:  # everything below low is inside, everything from high on is not, or behind the section
        middle = (low + high) // 2
        if inside(middle):
            low = middle + 1
        else:
            high = middle
    return max(low - start, 1)


def some(view: KernelView, start: int) -> Place:
    """So much as a person wants to see from an address on, where no symbol says where a function ends."""
    end = next((a + size for _, a, size, _ in view.image.sections() if a <= start < a + size), start + 1)
    return Place(start, min(end - start, _SOME), None)


def as_text(where: int | str) -> str:
    """An address, or a place as a person writes it, as `parse` takes it.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(where, int):
        return f"{where & (1 << 64) - 1 if where < 0 else where:#x}"
    if isinstance(where, str):
        return where
    raise TypeError(f"a place is an address or a text, not {type(where).__name__}")


def _number(view: KernelView, text: str, number: str) -> int:
    """A number in decimal, or in hexadecimal behind ``0x``."""
    if found := re.fullmatch(r"(0[xX])?([0-9a-fA-F]+)", number):
        hexadecimal, digits = found.groups()
        if hexadecimal or digits.isdecimal():
            return int(digits, 16 if hexadecimal else 10)
    why = f"{number!r} in {text!r} is no offset: decimal as gdb prints it, or hexadecimal behind 0x"
    raise ImageError(f"{view.name}: {why}", reason=why, file=view.name)


def _within(view: KernelView, text: str, address: int, slide: int) -> int:
    """A number as an address of the image as linked."""
    linked = address - slide
    sections = [(a, a + size) for _, a, size, _ in view.image.sections() if a and size]
    if any(low <= linked < high for low, high in sections):
        return linked
    lowest, highest = view.lowest, max((high for _, high in sections), default=0)
    outside = not lowest <= linked < highest
    where = f"outside the image as linked, {lowest:#x} to {highest:#x}" if outside else "in no section of the image"
    hint = f"; less the slide of {slide:#x} it is {linked:#x}" if slide else _slid(address, lowest) if outside else ""
    why = f"{address:#x} lies {where}{hint}"
    raise ImageError(f"{view.name}: {why}", reason=why, file=view.name, address=address)


def _slid(address: int, lowest: int) -> str:
    """What to do with an address that lies where KASLR puts kernels; it moves them by less than a GiB."""
    if lowest < address < lowest + (2 << 30):
        return "; an address of a running kernel needs its slide: --slide HEX or --slide-of DUMP"
    return ""


def _hint(view: KernelView, symbol: str) -> str:
    """The symbol nearest to a misspelt one."""
    names = {name for name in view.image.symbol_names() if abs(len(name) - len(symbol)) <= 2}
    letters = set(symbol)
    # difflib looks at one pair at a time: only names of nearly the same letters are worth it.
    near = nearest(symbol, (name for name in names if len(letters ^ set(name)) <= 3))
    if near or len(symbol) < _LEAST_TYPED:
        return near
    longer = sorted(
        {name for name in view.image.symbol_names() if name.startswith(symbol)}, key=lambda name: (len(name), name)
    )
    return f" ({', '.join(longer[:3])}{', …' if len(longer) > 3 else ''} begin so)" if longer else ""
