"""Which era and which passes an image has: its release proposes, what it has decides.

Distributions backport: a release is believed as far as nothing in the image speaks against it. What speaks is what an
era's record marks as begun or gone; that something is missing is no evidence, since a configuration may leave it out.
An image that has no mark of any era is held to what its parts tell (`pvops.eras.structure`). Where there is no banner,
or parts contradict it, the names of features propose a release instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pvops.eras import ERAS, NEWEST, Version, era, eras, of_version, structure, version_of
from pvops.eras.definition import Era
from pvops.eras.records import ALT_INSTR_14
from pvops.eras.rules import Image, Rules
from pvops.errors import OpsError
from pvops.tuples import NamedTuple


class Recognised(NamedTuple):
    """The era of an image.

    Attributes:
        era: which.
        reason: why it is that one.
        doubt: what speaks against the release of its banner, in words; empty where nothing does. An era next to
            the release's is none: distributions backport.
    """

    era: Era
    reason: str
    doubt: str = ""


def _unknown() -> Version | None:
    return None


def of_image(
    image: Image,
    release: str | None,
    alternatives: str | None = None,
    sources: Version | None = None,
    dated: Callable[[], Version | None] = _unknown,
) -> Rules:
    """The rules an image patches by.

    Args:
        image: the image.
        release: of its banner, or None.
        alternatives: the layout of ``.altinstructions``, as the core describes it; None where there is none.
        sources: the version of what it is built from, where that is not the release's number.
        dated: the release that the image's own names tell, or None; asked where its banner does not.

    Raises:
        OpsError: nothing tells.
    """
    found, reason, doubt = era_of(image, release, alternatives, sources, dated)
    paravirt = found.paravirt
    if (
        paravirt is not None
        and paravirt.clobbers
        and paravirt.unchecked
        and image.has_constant(paravirt.unchecked.encode())
    ):
        paravirt = paravirt._replace(clobbers=False)
    for passes in found.passes[:-1]:
        if sign := passes.sign(image, alternatives, sources or version_of(release)):
            return Rules(found.name, passes.name, paravirt, f"{reason}, {sign}", doubt)
    return Rules(found.name, found.passes[-1].name, paravirt, reason, doubt)


def era_of_release(release: str | None) -> tuple[str, str]:
    """The era of a release, and why it is that one; `OpsError` where it is of none."""
    version = version_of(release)
    name = None if version is None else of_version(version)
    if name is None:
        raise OpsError(_nothing_tells(release))
    return name, f"release {release}"


def era_of(
    image: Image,
    release: str | None,
    alternatives: str | None = None,
    sources: Version | None = None,
    dated: Callable[[], Version | None] = _unknown,
) -> Recognised:
    """The era of an image, and why it is that one; the arguments are those of `of_image`.

    Raises:
        OpsError: nothing tells.
    """
    version = sources or version_of(release)
    name = None if version is None else of_version(version)
    spans = None
    if name is not None and version is not None:
        proposed = era(name)
        against = _against(image, proposed.marks) or _older_rows(proposed, alternatives)
        if not against:
            parts = structure.parts(image, alternatives, version)
            odd = [part for part in parts if not part.fits(version, early=False)]
            if odd and _marked(image):
                odd = [part for part in odd if not part.fits(version, early=True)]
            if odd:
                against, spans = odd[0].sign, _spans(parts)
        if not against:
            seen = _seen(image, proposed)
            newer = version is not None and version[: len(NEWEST)] > NEWEST
            doubt = f"release {release} is newer than what was read, {_known()}" if newer else ""
            return Recognised(proposed, f"release {release}{seen and f', and the image has {seen}'}", doubt)
    else:
        proposed, against = None, ""
    marks = _marks()
    best: tuple[int, int, str] | None = None
    names = eras()
    place = names.index(name) if name is not None else len(names)
    told = dated() if name is None or spans is not None else None
    by_names = of_version(told) if told is not None else None
    near = place if by_names is None else names.index(by_names)
    for at, candidate in enumerate(names):
        expected = marks[candidate]
        if candidate == "2.6.23" or _against(image, expected) or _older_rows(era(candidate), alternatives):
            continue
        if spans is not None and candidate not in spans:
            continue
        # Nearest to the release; without one, and without names, the era most of whose marks are there, the newest
        # of equals.
        there = [_has(image, mark) for mark, wanted in expected.items() if wanted]
        if name is None and by_names is None and not any(there):
            continue
        rank = (-abs(at - near), 0) if name or by_names else (2 * sum(there) - len(there), at)
        if best is None or rank > best[:2]:
            best = (*rank, candidate)
    if best is None and proposed is not None and spans is not None:
        # Its functions fit its release, and no other that has these parts.
        reason = f"release {release}, but the image has {against}"
        return Recognised(proposed, reason, reason)
    if best is None:
        raise OpsError(_nothing_tells(release))
    found = era(best[2])
    if against:
        reason = f"release {release}, but the image has {against}"
        return Recognised(found, reason, reason if abs(names.index(found.name) - place) > 1 else "")
    if by_names is not None:
        reason = f"no banner names a release, and its features are named as in {'.'.join(map(str, told or ()))}"
        return Recognised(found, reason, reason)
    return Recognised(found, f"the image has {_seen(image, found)}")


def _seen(image: Image, found: Era) -> str:
    """The marks of an era that an image has, but for sections, which are many eras'."""
    return ", ".join(m for m, there in found.marks.items() if there and m[0] != "." and _has(image, m))


def _has(image: Image, mark: str) -> bool:
    return image.has_section(mark) if mark.startswith(".") else image.address_of(mark) is not None


def _against(image: Image, marks: Mapping[str, bool]) -> str:
    """A mark that the image has and an era has not, or nothing."""
    return next((mark for mark, there in marks.items() if not there and _has(image, mark)), "")


def _marked(image: Image) -> bool:
    """Whether an image has some function that marks an era."""
    return any(_has(image, mark) for mark in {m for name in eras() for m in era(name).marks} if mark[0] != ".")


def _spans(parts: Sequence[structure.Part]) -> frozenset[str]:
    """The eras whose kernels have all of these parts."""
    listed = [(each.name, each.first) for each in ERAS if each.first is not None]
    ends = [*(first for _, first in listed[1:]), None]
    spans = zip(listed, ends, strict=True)
    return frozenset(name for (name, first), end in spans if all(part.meets(first, end) for part in parts))


def _older_rows(found: Era, alternatives: str | None) -> str:
    """The rows of ``.altinstructions`` that an image has and an era has no more, in words, or nothing.

    Since 5d1dd961e743 (6.3) rows have flags: no kernel took from then what came later and left its own rows.
    """
    flags = found.records[-1] is ALT_INSTR_14
    return f"{alternatives} of .altinstructions" if flags and alternatives and "flags" not in alternatives else ""


def _marks() -> dict[str, dict[str, bool]]:
    """The marks of each era, with those that only later eras name: what begins later is not there yet."""
    known = {name: dict(era(name).marks) for name in eras()}
    later: dict[str, bool] = {}
    for name in reversed(eras()):
        own = known[name]
        known[name] = {**{mark: not there for mark, there in later.items()}, **own}
        later = {**later, **own}
    return known


def _nothing_tells(release: str | None) -> str:
    named = f"release {release}" if release else "it has no release"
    return f"nothing tells by which rules this kernel patches: {named}; {_known()}"


def _known() -> str:
    return f"known are {'.'.join(map(str, ERAS[0].first or ()))} to {'.'.join(map(str, NEWEST))}"
