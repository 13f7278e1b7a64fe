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


def eras() -> tuple[str, ...]:
    """The eras whose ``apply_paravirt()`` is known, oldest first."""
    return tuple(_RULES)


def of_era(era: str) -> ParavirtRules:
    """The rules of an era; `OpsError` where it has no ``apply_paravirt()``."""
    try:
        return _RULES[era]
    except KeyError:
        raise OpsError(f"era {era} has no apply_paravirt(); these have: {', '.join(_RULES)}") from None


def of_image(image: Symbols, release: str | None) -> tuple[ParavirtRules, str]:
    """The rules an image patches by, and what told: its own functions, else its release.

    ``native_patch()`` went with 5.13, when ``paravirt_patch()`` became the one patch function.
    """
    if image.address_of("native_patch") is not None:
        return _RULES["5.10"], "the image has native_patch()"
    if image.address_of("paravirt_patch") is not None:
        return _RULES["6.1"], "the image has paravirt_patch()"
    version = _version(release)
    if version is None:
        raise OpsError(
            "nothing tells by which rules this kernel patches: no symbol native_patch or paravirt_patch, no release"
        )
    if (4, 20) <= version < (5, 13):
        return _RULES["5.10"], f"release {release}"
    if (5, 13) <= version < (6, 8):
        return _RULES["6.1"], f"release {release}"
    raise OpsError(f"release {release} has no apply_paravirt() that is known (4.20 to 6.7)")


def _version(release: str | None) -> tuple[int, int] | None:
    parts = (release or "").split(".")
    if len(parts) < 2 or not parts[0].isdigit():
        return None
    minor = "".join(c for c in parts[1][:3] if c.isdigit())
    return (int(parts[0]), int(minor)) if minor else None
