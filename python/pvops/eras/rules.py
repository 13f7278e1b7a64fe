"""What an era's patching decides that its tables do not tell: the types of an era's rules.

Overridable: every user of rules takes them as an argument. Which rules an image has, `pvops.eras.recognise` says.
"""

from __future__ import annotations

from pvops.tuples import NamedTuple
from pvops.types_only import Protocol


class Symbols(Protocol):
    """What knows a kernel's symbols."""

    def address_of(self, symbol: str) -> int | None:
        """The address of a symbol, or None."""


class Image(Symbols, Protocol):
    """What tells the rules of an image."""

    def has_section(self, name: str) -> bool:
        """Whether the image has a section of this name."""

    def has_constant(self, raw: bytes) -> bool:
        """Whether these bytes stand among the image's constants."""

    def has_code(self, raw: bytes, function: str) -> bool:
        """Whether these bytes stand in the code, which looks into one function first."""

    def replaces_by_call(self) -> bool:
        """Whether some row of ``.altinstructions`` has one call for its replacement."""


class ParavirtRules(NamedTuple):
    """How ``apply_paravirt()`` decides.

    Attributes:
        era: whose rules these are.
        null: what a NULL op becomes: ``"ud2"``, or the name of the function called (``"paravirt_BUG"``).
        nop: the function that counts as nothing to do.
        identities: functions that return their argument and become a ``mov``: name → bits.
        jumps: ops whose sites are jumps become a ``jmp``; else everything is a ``call``.
        clobbers: a call is refused where the site does not let go of what a C function clobbers.
        no_room: what happens to a replacement longer than its site: ``"keep"`` the indirect call, or ``"bug"``.
        source: where the kernel says so.
        unchecked: a text of the image whose presence says that clobbers are not looked at after all (5800dc5c19f3 in
            stable kernels, which warns where a call cannot be made direct).
    """

    era: str
    null: str
    nop: str
    identities: dict[str, int]
    jumps: bool
    clobbers: bool
    no_room: str
    source: str
    unchecked: str = ""


class Passes(NamedTuple):
    """How the passes over the other tables decide.

    Attributes:
        name: as the core names them (`src/plan/rules.rs`).
        layout: a word of the layout of ``.altinstructions`` that tells them (``"padlen"``), or nothing.
        without: a section whose absence tells them, or nothing.
        symbol: a function that tells them, or nothing.
        section: a section that tells them, or nothing.
        constant: bytes among the image's constants that tell them, in hex, or nothing.
        lacks: bytes whose absence among them does, in hex, or nothing.
        calls: whether they are told by a replacement that is one call, which others would not move.
        since: the release that they begin with, where nothing in an image tells; or nothing.
        commit: the one that began them, where the release tells; or nothing.
    """

    name: str
    layout: str = ""
    without: str = ""
    symbol: str = ""
    section: str = ""
    constant: str = ""
    lacks: str = ""
    calls: bool = False
    since: tuple[int, ...] = ()
    commit: str = ""

    def sign(self, image: Image, alternatives: str | None, release: tuple[int, ...] | None) -> str:
        """The sign of these passes that an image shows, in words; nothing where it shows none.

        Args:
            image: the image.
            alternatives: the layout of ``.altinstructions``, as the core describes it.
            release: the version of its banner, or None.
        """
        if self.layout and alternatives is not None and self.layout in alternatives:
            return f"rows of .altinstructions have {self.layout}"
        if self.without and not image.has_section(self.without):
            return f"no {self.without}"
        if self.symbol and image.address_of(self.symbol) is not None:
            return f"the image has {self.symbol}()"
        if self.section and image.has_section(self.section):
            return f"the image has {self.section}"
        if self.constant and image.has_constant(bytes.fromhex(self.constant)):
            return f"the image has the bytes {self.constant}"
        if self.lacks and not image.has_constant(bytes.fromhex(self.lacks)):
            return f"no bytes {self.lacks} in the image"
        if self.calls and image.replaces_by_call():
            return "the image has a call for a replacement"
        if self.since and release is not None and release >= self.since:
            return f"since {'.'.join(map(str, self.since))} ({self.commit})"
        return ""


class Rules(NamedTuple):
    """How a kernel rewrites itself, as far as its tables do not tell.

    Attributes:
        era: whose ops and backends it has: ``"5.10"``.
        passes: whose passes, as the core names them.
        paravirt: its ``apply_paravirt()``; None from 6.8 on, where calls of ops are alternatives.
        reason: why these.
        doubt: what speaks against the release of the image's banner, in words; empty where nothing does.
    """

    era: str
    passes: str
    paravirt: ParavirtRules | None
    reason: str
    doubt: str = ""

    def __repr__(self) -> str:
        return f"<Rules of {self.passes}, ops of {self.era}: {self.reason}>"
