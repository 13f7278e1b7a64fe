"""Feature numbers of one image: which feature each number stands for, and what tells.

Four sources, the surest first:

1. the names that the image itself prints (`pvops.image.names`);
2. rows that only one feature has (`pvops.image.anchors`);
3. the numbers declared in the sources of one release (`pvops.eras.declared`): of those that the image contradicts
   least, the one nearest to its own. In words that mirror a CPUID register they cannot shift, and every release's hold;
   in the words that Linux assigns they are taken as verified where every printed name of the word, and every anchor in
   it, stands where that release declares it;
4. nothing: the number is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property

from pvops.eras import releases
from pvops.eras.declared import Declared
from pvops.image import anchors, dated, names
from pvops.image.names import ALIASES, kernel_name
from pvops.image.rows import Row, alike, rows
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

#: Words whose bits are those of a CPUID register: their numbers are the architecture's.
HARDWARE = frozenset({0, 1, 4, 6, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20})

#: Features that in every release are bits of words which Linux assigns. No other release tells their numbers, and none
#: need be loaded where an image has them not.
ASSIGNED = frozenset(
    {"CALL_DEPTH", "CLEAR_CPU_BUF", "INDIRECT_THUNK_ITS", "RETHUNK", "RETPOLINE", "RETPOLINE_LFENCE", "XENPV"}
)


class Name(NamedTuple):
    """What a number stands for.

    Attributes:
        number: word * 32 + bit.
        name: the kernel's name without ``X86_FEATURE_``; of a bug with ``BUG_`` before it.
        printed: the name in /proc/cpuinfo's flags or bugs; None where it is not printed.
        verified: whether the image confirms it.
        source: where it is known from, in words.
    """

    number: int
    name: str
    printed: str | None
    verified: bool
    source: str

    @property
    def bug(self) -> bool:
        """Whether it is a bug."""
        return self.name.startswith("BUG_")


class Numbers:
    """The numbers of one image; make it with `of_image`.

    Attributes:
        declared: the release whose declared numbers were taken.
        ncapints: words of features; bugs come after.
        nbugints: words of bugs.
        printed: whether the image has names of features, so that one without is not printed.
    """

    def __init__(
        self,
        kernel: KernelView,
        base: Declared,
        words: tuple[int, int],
        known: Mapping[int, Name],
        others: Callable[[], Mapping[int, Name]],
        asked: set[int],
    ) -> None:
        self._kernel = kernel
        self._known = known
        self._others = others
        self._asked = asked
        self.declared = base
        self.ncapints, self.nbugints = words
        self.printed = any(name.printed is not None for name in known.values())
        self._named = {name.name: name for name in known.values()}

    @cached_property
    def by_number(self) -> Mapping[int, Name]:
        """Number → `Name`, for every number that has one, ascending."""
        return dict(sorted({**self._others(), **self._known}.items()))

    @cached_property
    def by_name(self) -> Mapping[str, Name]:
        """The same by name."""
        return {name.name: name for name in self._others().values()} | self._named

    def name(self, number: int) -> Name | None:
        """What a number stands for, or None."""
        found = self._known.get(number)
        if found is None and number // 32 in HARDWARE and number < self.ncapints * 32:
            return self.by_number.get(number)
        return found

    def number(self, name: str) -> int | None:
        """The number of a feature (or ``BUG_…``) by the kernel's name, or None."""
        found = self._named.get(name)
        if found is None and name not in ASSIGNED:
            found = self.by_name.get(name)
        return found.number if found else None

    def consulted(self) -> list[int]:
        """The numbers that rows ask for, ascending."""
        return sorted(self._asked)

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows of ``.altinstructions``."""
        return rows(self._kernel)


def of_image(kernel: KernelView) -> Numbers:
    """The numbers of a kernel.

    Raises:
        TableError: ``.altinstructions`` is malformed.
    """
    base = releases.nearest(kernel.sources or dated.by_names(kernel))
    table = alike(kernel)
    asked = {rows.number for rows in table}
    flags = names.FlagNames(kernel)
    bugs = flags.bugs(base.nbugints)
    printed = flags.features(base.ncapints - 2)
    if printed.words is not None:
        ncapints, why = printed.words, f"x86_cap_flags has {printed.words} words"
    else:
        ncapints, why = _ncapints(base, asked, printed.names, bugs.names)
        printed = flags.features(ncapints)
    anchored = anchors.seen(kernel, table)
    unclear = {number for number in asked if number < ncapints * 32 and number // 32 not in HARDWARE}
    base = _least_contradicted(base, printed.names, anchored, unclear)
    found: dict[int, Name] = {}
    for number, text in printed.names.items():
        found[number] = Name(number, kernel_name(text), text, True, printed.source)
    for feature, evidence in anchored.items():
        source = f"{evidence.rows} rows of .altinstructions: {evidence.what}"
        found.setdefault(evidence.number, Name(evidence.number, feature, None, True, source))
    taken = {name.name for name in found.values()}
    for feature, number in base.features.items():
        if number not in found and feature not in taken and number < ncapints * 32:
            ok, source = _check(feature, number, base, printed.names, anchored)
            found[number] = Name(number, feature, None, ok, source)
    first = ncapints * 32
    for number, text in bugs.names.items():
        found[first + number] = Name(first + number, f"BUG_{text.upper()}", text, True, f"{bugs.source}; {why}")
    for bug, number in base.bugs.items():
        if first + number not in found:
            source = f"declared in {base.release}, after {ncapints} words of features"
            found[first + number] = Name(first + number, f"BUG_{bug}", None, bool(bugs.names), source)
    beyond = {number - first for number in asked if number >= first and number not in found}
    for number, (bug, release) in _bugs_of_others(beyond).items():
        source = f"declared in {release}, after {ncapints} words of features; no release has another bug there"
        found[first + number] = Name(first + number, f"BUG_{bug}", None, False, source)
    nbugints = bugs.words or max(base.nbugints, *(number // 32 + 1 for number in beyond), 0)

    def others() -> Mapping[int, Name]:
        return _of_registers(base, ncapints, found, printed.names, anchored)

    return Numbers(kernel, base, (ncapints, nbugints), found, cache(others), asked)


def _bugs_of_others(asked: set[int]) -> Mapping[int, tuple[str, str]]:
    """Bugs that rows ask for and the nearest release has not: number → name and the first release that declares it.

    Stable releases get the bugs of later ones with what mitigates them: 5.15 got SRSO (fb3bd914b3ec) and DIV0
    (77245f1c3c64), and a second word for them. A number that stood for more than one bug is left out. All eras are
    loaded where there is anything to look for.
    """
    found: dict[int, dict[str, str]] = {}
    for release in releases.all_releases() if asked else ():
        for bug, number in release.bugs.items():
            if number in asked:
                found.setdefault(number, {}).setdefault(bug, release.release)
    return {number: next(iter(bugs.items())) for number, bugs in found.items() if len(bugs) == 1}


def _of_registers(
    base: Declared,
    ncapints: int,
    known: Mapping[int, Name],
    printed: Mapping[int, str],
    anchored: Mapping[str, anchors.Anchored],
) -> Mapping[int, Name]:
    """Features of CPUID registers that other releases declare, and `base` does not. All eras are loaded for them."""
    taken = {name.name for name in known.values()} | base.features.keys()
    found: dict[int, Name] = {}
    for other in reversed(releases.all_releases()):
        for feature, number in other.features.items():
            if feature in taken:
                continue  # it has moved: LFENCE_RDTSC, of word 3 in 6.2, is of word 20 since 6.3
            if number // 32 in HARDWARE and number not in known and number not in found and number < ncapints * 32:
                found[number] = Name(number, feature, None, *_check(feature, number, other, printed, anchored))
    return found


def _least_contradicted(
    base: Declared, printed: Mapping[int, str], anchored: Mapping[str, anchors.Anchored], asked: set[int]
) -> Declared:
    """The release whose numbers the image contradicts least; of equals the nearest one, a newer before an older.

    Where its own release is contradicted, so is one that has no name for a number that rows ask for.
    """
    there = {kernel_name(text): n for n, text in printed.items()} | {name: s.number for name, s in anchored.items()}
    unnamed = asked - set(there.values())

    def moved(release: Declared) -> int:
        return sum(release.features.get(name, n) != n for name, n in there.items())

    def contradicted(release: Declared) -> int:
        return moved(release) + len(unnamed - set(release.features.values()))

    if not moved(base):
        return base
    known = releases.all_releases()
    place = [release.release for release in known].index(base.release)
    ranked = sorted(enumerate(known), key=lambda at: (contradicted(at[1]), abs(at[0] - place), -at[0]))
    return ranked[0][1]


def printed_as(name: str) -> str:
    """What /proc/cpuinfo calls a feature or bug by the kernel's name, if it prints it."""
    aliases = {kernel: printed for printed, kernel in ALIASES.items()} | {"CLFLSH": "clflush"}  # its name to 3.14
    return aliases.get(name, name.removeprefix("BUG_").lower())


def _check(
    feature: str,
    number: int,
    base: Declared,
    printed: Mapping[int, str],
    anchored: Mapping[str, anchors.Anchored],
) -> tuple[bool, str]:
    """Whether the image confirms a declared number, and the sentence that says so."""
    word = number // 32
    source = f"declared in {base.release}"
    if word in HARDWARE:
        return True, f"{source}; word {word} is a CPUID register"
    if not printed:
        return False, f"{source}, not verified: the image prints no names"
    there = {kernel_name(text): n for n, text in printed.items() if n // 32 == word}
    there |= {name: evidence.number for name, evidence in anchored.items() if evidence.number // 32 == word}
    moved = sorted(name for name, n in there.items() if base.features.get(name, n) != n)
    if moved:
        return False, f"{source}, not verified: {moved[0]} stands elsewhere in this image"
    return True, f"{source}; {len(there)} other names of word {word} stand where it declares them"


def _ncapints(base: Declared, asked: set[int], printed: Mapping[int, str], bugs: Mapping[int, str]) -> tuple[int, str]:
    """How many words of features there are: the number under which most rows make sense, the declared one first.

    A row's number is a feature below the limit and a bug from there on; a wrong limit turns bugs that have names into
    features that have none.
    """
    known = set(base.features.values()) | set(printed)
    unnamed = set(base.bugs.values())

    def misfits(ncapints: int) -> int:
        first = ncapints * 32
        lost = sum(1 for n in asked if n < first and n not in known)
        return lost + sum(1 for n in asked if n >= first and n - first not in bugs and n - first not in unnamed)

    candidates = sorted(range(base.ncapints - 3, base.ncapints + 4), key=lambda n: (misfits(n), abs(n - base.ncapints)))
    best = candidates[0]
    return best, f"{best} words of features, as {base.release} declares" if best == base.ncapints else (
        f"{best} words of features by the rows ({base.release} declares {base.ncapints})"
    )
