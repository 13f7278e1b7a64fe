"""What a prediction said against what memory held, byte by byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: A displacement of which nothing is said.
_ANYWHERE = "??" * 4
#: Branches with a displacement of 32 bits: call, jmp, and jumps on a condition.
_BRANCH = re.compile(r"e8|e9|0f8[0-9a-f]")


@dataclass(frozen=True)
class Open:
    """A site whose bytes the prediction leaves open: its address, its length, and every form it may take.

    A form is hexadecimal digits; ``??`` is a byte that may hold anything. A branch to anywhere, ``e8????????``, has to
    go to where a function begins.
    """

    address: int
    length: int
    forms: tuple[str, ...]

    def admits(self, held: bytes, function: Callable[[int], bool]) -> bool:
        """Whether the site may hold these bytes."""
        return any(self._is(form, held, function) for form in self.forms)

    def _is(self, form: str, held: bytes, function: Callable[[int], bool]) -> bool:
        digits = held.hex()
        if any(wanted not in ("?", digit) for wanted, digit in zip(form, digits, strict=True)):
            return False
        opcode = form.removesuffix(_ANYWHERE)
        if opcode == form or not _BRANCH.fullmatch(opcode):
            return True
        displacement = int.from_bytes(held[-4:], "little", signed=True)
        return function((self.address + self.length + displacement) & ((1 << 64) - 1))


@dataclass(frozen=True)
class Run:
    """Bytes one after the other that are not as predicted."""

    address: int
    predicted: bytes
    memory: bytes

    def __str__(self) -> str:
        return f"{self.address:#x}: predicted {_shown(self.predicted)}, memory {_shown(self.memory)}"


@dataclass
class Comparison:
    """How a prediction did.

    Attributes:
        compared: how many bytes had to be equal.
        undetermined: how many bytes the prediction left open.
        sites: at how many sites.
        first: at how many of these the form that it wrote was right.
        wrong: the bytes that had to be equal and are not.
        other: the sites left open that hold none of the forms it listed.
    """

    compared: int = 0
    undetermined: int = 0
    sites: int = 0
    first: int = 0
    wrong: list[Run] = field(default_factory=list)
    other: list[Run] = field(default_factory=list)

    @property
    def wrong_bytes(self) -> int:
        """How many bytes had to be equal and are not."""
        return sum(a != b for run in self.wrong for a, b in zip(run.predicted, run.memory, strict=True))

    def __str__(self) -> str:
        equal = f"{self.compared - self.wrong_bytes:,} of {self.compared:,} bytes equal"
        if not self.sites:
            return f"{equal}, none undetermined"
        return (
            f"{equal}; {self.undetermined:,} undetermined at {self.sites:,} sites, {len(self.other)} of them in no "
            f"listed form; first guess right at {self.first:,}, {100 * self.first / self.sites:.2f} %"
        )


def open_sites(document: Mapping[str, Any], address: int, size: int) -> list[Open]:
    """The sites that ``pvops patch --json`` leaves open in the text at an address, by address.

    `ValueError` where the document contradicts itself: forms of different lengths, sites that overlap, lie outside or
    are not as many bytes as it says.
    """
    told = document.get("undetermined") or {"bytes": 0, "sites": []}
    sites = []
    for row in told["sites"]:
        site = Open(int(row["address"], 16), row["len"], tuple(row["forms"]))
        fits = [re.fullmatch(r"([0-9a-f]{2}|\?\?)+", form) and len(form) == 2 * site.length for form in site.forms]
        if not fits or not all(fits):
            raise ValueError(f"{row['address']}: forms {row['forms']} of a site of {row['len']} bytes")
        sites.append(site)
    sites.sort(key=lambda site: site.address)
    end = address
    for site in sites:
        if site.address < end or site.address + site.length > address + size:
            raise ValueError(f"{site.address:#x}: overlaps the site before it, or lies outside the text")
        end = site.address + site.length
    total = sum(site.length for site in sites)
    if total != told["bytes"]:
        raise ValueError(f"{told['bytes']} bytes undetermined, but the sites listed have {total}")
    return sites


def compare(
    predicted: bytes, memory: bytes, address: int, sites: list[Open], function: Callable[[int], bool]
) -> Comparison:
    """Every byte has to be equal, but for the sites left open (by address): these have to hold one of their forms.

    ``function`` tells of an address whether a function begins there.
    """
    out = Comparison()
    masked = bytearray(predicted)
    for site in sites:
        at = slice(site.address - address, site.address - address + site.length)
        held = memory[at]
        out.sites += 1
        out.undetermined += site.length
        out.first += predicted[at] == held
        if not site.admits(held, function):
            out.other.append(Run(site.address, predicted[at], held))
        masked[at] = held
    out.compared = len(predicted) - out.undetermined
    out.wrong = list(differences(bytes(masked), memory, address))
    return out


def compare_at(predicted: bytes, memory: bytes, address: int, places: list[tuple[int, int]]) -> Comparison:
    """Only the bytes at some places have to be equal: (address, length) of each."""
    out = Comparison()
    for place, length in places:
        at = slice(place - address, place - address + length)
        out.compared += length
        if predicted[at] != memory[at]:
            out.wrong.append(Run(place, predicted[at], memory[at]))
    return out


def differences(a: bytes, b: bytes, address: int) -> Iterator[Run]:
    """The runs of bytes that differ; gaps of fewer than 4 equal bytes do not end a run."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} bytes predicted, {len(b)} in memory")
    start = end = -1
    for at in _differing(a, b):
        if start >= 0 and at - end >= 4:
            yield Run(address + start, a[start:end], b[start:end])
            start = at
        elif start < 0:
            start = at
        end = at + 1
    if start >= 0:
        yield Run(address + start, a[start:end], b[start:end])


def _differing(a: bytes, b: bytes) -> Iterator[int]:
    """The offsets at which two texts of one length differ; equal pages are passed over whole."""
    page = 4096
    for base in range(0, len(a), page):
        x, y = a[base : base + page], b[base : base + page]
        if x != y:
            yield from (base + i for i in range(len(x)) if x[i] != y[i])


def _shown(data: bytes) -> str:
    return data.hex(" ") if len(data) <= 16 else f"{data[:16].hex(' ')} … ({len(data)} bytes)"
