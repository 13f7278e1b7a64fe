"""The rules of each era's ``apply_paravirt()`` that its tables do not tell, as one value per era.

An image's own functions say which rules it has (`of_image`): a distribution's 5.10 patches as 5.10 did, whatever it
backported. Overridable: every user of rules takes them as an argument.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pvops.errors import OpsError


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
    """

    era: str
    null: str
    nop: str
    identities: dict[str, int]
    jumps: bool
    clobbers: bool
    no_room: str
    source: str


_IDENTITIES = {"_paravirt_ident_32": 32, "_paravirt_ident_64": 64}

_RULES = {
    "seed": ParavirtRules("seed", "ud2", "_paravirt_nop", {}, True, True, "keep", "arch/i386/kernel/paravirt.c"),
    "2.6.24": ParavirtRules("2.6.24", "ud2", "_paravirt_nop", {}, True, True, "keep", "arch/x86/kernel/paravirt_32.c"),
    "2.6.33": ParavirtRules(
        "2.6.33", "ud2", "_paravirt_nop", _IDENTITIES, True, True, "keep", "arch/x86/kernel/paravirt.c"
    ),
    "5.10": ParavirtRules(
        "5.10",
        "ud2",
        "_paravirt_nop",
        {"_paravirt_ident_64": 64},
        True,
        False,
        "bug",
        "arch/x86/kernel/paravirt.c: paravirt_patch_default()",
    ),
    "6.1": ParavirtRules(
        "6.1", "paravirt_BUG", "_paravirt_nop", {}, False, False, "bug", "arch/x86/kernel/paravirt.c: paravirt_patch()"
    ),
}


class Symbols(Protocol):
    """What knows a kernel's symbols."""

    def address_of(self, symbol: str) -> int | None:
        """The address of a symbol, or None."""


def of_era(era: str) -> ParavirtRules:
    """The rules of an era; `OpsError` where it has no ``apply_paravirt()``."""
    try:
        return _RULES[era]
    except KeyError:
        raise OpsError(f"era {era} has no apply_paravirt(); these have: {', '.join(_RULES)}") from None


class Rules(NamedTuple):
    """How a kernel rewrites itself, as far as its tables do not tell.

    Attributes:
        era: whose ops and backends it has: ``"5.10"``, ``"6.1"``, ``"6.12"``, ``"7.2"``.
        passes: whose passes, as the core names them: ``"5.10.0"``, ``"6.5"`` and ``"7.3"`` differ from their era's.
        paravirt: its ``apply_paravirt()``; None from 6.8 on, where calls of ops are alternatives.
        told: what told.
    """

    era: str
    passes: str
    paravirt: ParavirtRules | None
    told: str


class Image(Symbols, Protocol):
    """What tells the rules of an image."""

    def has_section(self, name: str) -> bool:
        """Whether the image has a section of this name."""


def of_image(image: Image, release: str | None, alternatives: str | None = None) -> Rules:
    """The rules an image patches by: its own functions and tables tell, else its release.

    ``native_patch()`` went with 5.13, when ``paravirt_patch()`` became the one patch function; both went with 6.8, when
    calls of ops became rows of ``.altinstructions``. The lock ops have a structure of their own since 7.0, and 7.3 has
    no ``.smp_locks``. Kernels of 2.6 have a symbol for each structure of ops.

    Args:
        image: the image.
        release: of its banner, or None.
        alternatives: the layout of ``.altinstructions``, as the core describes it; None where there is none.

    Raises:
        OpsError: nothing tells.
    """
    era, told = era_of(image, release)
    passes = era
    if era == "5.10" and alternatives is not None and "padlen" in alternatives:
        passes, told = "5.10.0", f"{told}, rows of .altinstructions have padlen"
    elif era == "6.1" and alternatives is not None and "flags" in alternatives:
        passes, told = "6.5", f"{told}, rows of .altinstructions have flags"
    elif era == "7.2" and not image.has_section(".smp_locks"):
        passes, told = "7.3", f"{told}, no .smp_locks"
    return Rules(era, passes, _RULES.get(era), told)


def era_of(image: Image, release: str | None) -> tuple[str, str]:
    """The era of an image, and what told; `OpsError` where nothing does."""
    if found := era_of_2_6(image, release):
        return found
    for function, era in (("native_patch", "5.10"), ("paravirt_patch", "6.1")):
        if image.address_of(function) is not None:
            return era, f"the image has {function}()"
    if not image.has_section(".parainstructions") and image.has_section(".altinstructions"):
        if image.address_of("pv_ops_lock") is not None:
            return "7.2", "the image has pv_ops_lock"
        if image.address_of("pv_ops") is not None:
            return "6.12", "calls of pv_ops are rows of .altinstructions"
    found = era_of_release(release)
    if found[0] in _RULES or image.address_of("pv_ops") is not None:
        return found
    raise OpsError(_NOTHING_TELLS)


_NOTHING_TELLS = "nothing tells by which rules this kernel patches: no symbol native_patch or paravirt_patch"

#: First release of each era's rules, and the first that no longer has them.
_RELEASES = (
    ((4, 20), (5, 13), "5.10"),
    ((5, 13), (6, 8), "6.1"),
    ((6, 8), (7, 0), "6.12"),
    ((7, 0), (8, 0), "7.2"),
)


def era_of_release(release: str | None) -> tuple[str, str]:
    """The era of a release, and what told; `OpsError` where it is of none. Distributions backport: ask it last."""
    version = _version(release)
    for first, last, era in _RELEASES:
        if version is not None and first <= version < last:
            return era, f"release {release}"
    raise OpsError(_NOTHING_TELLS)


def era_of_2_6(image: Image, release: str | None) -> tuple[str, str] | None:
    """The era of a kernel whose ops structures are variables of their own (2.6.24 to 4.19); None for others.

    Lazy mode has a structure of its own in the seed alone, and locks have one since 2.6.27. Either may be configured
    out of a guest: then the release tells. What 3.0 to 4.19 did no era says.
    """
    version = _version(release)
    if (version is not None and version[0] != 2) or image.address_of("pv_init_ops") is None:
        return None
    if image.address_of("pv_misc_ops") is not None:
        return "seed", "the image has pv_misc_ops"
    if image.address_of("pv_lock_ops") is not None:
        return "2.6.33", "the image has pv_lock_ops"
    patch = "".join(c for c in (release or "").removeprefix("2.6.")[:2] if c.isdigit())
    if version is not None and patch:
        era = "seed" if int(patch) < 24 else "2.6.24" if int(patch) < 27 else "2.6.33"
        return era, f"release {release}"
    return "2.6.24", "the image has pv_init_ops, and neither pv_misc_ops nor pv_lock_ops"


def _version(release: str | None) -> tuple[int, int] | None:
    parts = (release or "").split(".")
    if len(parts) < 2 or not parts[0].isdigit():
        return None
    minor = "".join(c for c in parts[1][:3] if c.isdigit())
    return (int(parts[0]), int(minor)) if minor else None
