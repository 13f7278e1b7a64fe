"""What differs between two boots of one kernel: the bytes that two plans leave, site by site, and why.

What is compared is what runs in the end: both plans' writes are replayed over the text as built, and a site differs
where the bytes do. Two boots that write in other ways but leave the same bytes do not differ.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property

from pvops import display
from pvops.plan.reasons import sentences
from pvops.plan.writes import short
from pvops.tuples import NamedTuple
from pvops.types_only import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pvops.image.kernel_image import KernelImage
    from pvops.plan.plan import Plan
    from pvops.plan.writes import RawDifference, RawWrite

T = TypeVar("T")

#: How a reason names another row: which one is the site's own affair, and sites that differ alike are one group.
_OTHER_ROW = re.compile(r"row \d+ of the same site")


#: After how many sites progress is told.
_OFTEN = 1024


class Side(NamedTuple):
    """What one boot does at a site.

    Attributes:
        bytes: what runs in the end.
        kinds: what the site became in each pass that the other boot does not do alike, ``alternatives inlined``.
        reasons: why, one sentence each; without those that hold on both sides.
        guess: some of the bytes are a first guess: nothing in the image and the facts settles them.
    """

    bytes: bytes
    kinds: tuple[str, ...]
    reasons: tuple[str, ...]
    guess: bool

    def __repr__(self) -> str:
        return f"<{short(self.bytes.hex(' '))}{', a first guess' if self.guess else ''}>"


class Difference(NamedTuple):
    """A site that differs.

    Attributes:
        address: as linked.
        section: it lies in.
        symbol: it lies in, with the offset; None where the image names nothing.
        built: its bytes as built.
        table: the pass that makes the difference: the last in which the boots do not do alike.
        op: the op that the site calls, or None.
        subject: what that pass asks: a feature with ``!`` where its absence is asked for, a static key, the op.
        a, b: the two sides.
    """

    address: int
    section: str
    symbol: str | None
    built: bytes
    table: str
    op: str | None
    subject: str | None
    a: Side
    b: Side

    def __repr__(self) -> str:
        where = f"{self.address:#x} {self.symbol or self.section}"
        return f"<{where}, {self.table}: {short(self.a.bytes.hex(' '))} and {short(self.b.bytes.hex(' '))}>"


class Group(NamedTuple):
    """Sites that differ alike: by the same pass, for the same reasons.

    Attributes:
        table, op, subject: as of each of its sites.
        a, b: their sides, whose bytes are those of the first site.
        sites: they, by address.
    """

    table: str
    op: str | None
    subject: str | None
    a: Side
    b: Side
    sites: Sequence[Difference]

    def __repr__(self) -> str:
        return f"<{self.title}: {len(self.sites):,} sites>"

    @property
    def title(self) -> str:
        """``alternatives: !X86_FEATURE_XENPV at pv_irq_ops.irq_enable``."""
        if self.subject is None or self.subject == self.op:
            return f"{self.table}: {self.op}" if self.op else self.table
        return f"{self.table}: {self.subject}" + (f" at {self.op}" if self.op else "")


class Comparison:
    """Two boots of one kernel, compared.

    Attributes:
        kernel: whose text it is.
        a, b: the plans.
        names: what to call them, as the user named them.

    >>> kernel = pvops.open("vmlinux-sample")
    >>> compared = kernel.diff("native", "kvm")
    >>> compared
    <Comparison of native and kvm on 6.1.0-pvops-sample>
    >>> len(compared.sites), compared.by_pass
    (15, {'paravirt': 15})
    >>> compared.sites[0]
    <0xffffffff81000453 sample_lock+0x3, paravirt: e8 08 ff ff ff 90 and e8 98 ff ff ff 90>
    """

    def __init__(
        self, a: Plan, b: Plan, names: tuple[str, str] = ("A", "B"), progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.kernel: KernelImage = a.kernel
        self.a = a
        self.b = b
        self.names = names
        self._progress = progress

    def __repr__(self) -> str:
        return f"<Comparison of {self.names[0]} and {self.names[1]} on {self.kernel.release or self.kernel.name}>"

    def __str__(self) -> str:
        return display.show(self, "text")

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")

    @cached_property
    def sites(self) -> list[Difference]:
        """Every site that differs, by address."""
        try:
            return list(self._compare())
        finally:
            self._progress = None

    @cached_property
    def groups(self) -> list[Group]:
        """The sites, grouped by pass and cause; the passes in their order, the largest group of each first."""
        groups: dict[tuple[object, ...], list[Difference]] = {}
        for site in self.sites:
            groups.setdefault((site.table, site.op, site.subject, site.a[1:], site.b[1:]), []).append(site)
        order = {table: i for i, table in enumerate(self.by_pass)}
        found = [Group(s[0].table, s[0].op, s[0].subject, s[0].a, s[0].b, s) for s in groups.values()]
        return sorted(found, key=lambda g: (order[g.table], -len(g.sites), g.sites[0].address))

    @cached_property
    def by_pass(self) -> Mapping[str, int]:
        """Table of the pass → how many sites differ by it, most first."""
        return _counted(site.table for site in self.sites)

    @property
    def by_op(self) -> Mapping[str, int]:
        """Op → how many of its sites differ, most first."""
        return _counted(site.op for site in self.sites)

    @property
    def by_subject(self) -> Mapping[tuple[str, str], int]:
        """(pass, feature, static key or op that it asked) → how many sites differ by it, most first."""
        return _counted((site.table, site.subject) if site.subject else None for site in self.sites)

    @property
    def by_section(self) -> Mapping[str, int]:
        """Section → how many of its sites differ, most first."""
        return _counted(site.section for site in self.sites)

    @property
    def differing_bytes(self) -> int:
        """How many bytes differ."""
        return sum(x != y for site in self.sites for x, y in zip(site.a.bytes, site.b.bytes, strict=True))

    @property
    def guesses(self) -> int:
        """How many of the sites are a first guess on a side."""
        return sum(site.a.guess or site.b.guess for site in self.sites)

    def disassembly(self, address: int, code: bytes) -> str:
        """What a site's bytes do."""
        return self.kernel.disassembly(address, code)

    def _compare(self) -> Iterator[Difference]:
        found = self.a.differences(self.b)
        places = [(address, address + len(built)) for address, _, built, _, _ in found]
        guesses = self.a.undetermined_bytes.of_places(places), self.b.undetermined_bytes.of_places(places)
        sides = _Writes(self.a), _Writes(self.b)
        for done, (difference, *guess) in enumerate(zip(found, *guesses, strict=True)):
            if self._progress is not None and done % _OFTEN == 0:
                self._progress(done, len(found))
            yield self._difference(difference, (guess[0], guess[1]), sides)

    def _difference(self, found: RawDifference, guess: tuple[bool, bool], sides: tuple[_Writes, _Writes]) -> Difference:
        address, section, built, left, (a, b) = found
        same = {_decision(w) for w in a} & {_decision(w) for w in b}
        a, b = ([w for w in writes if _decision(w) not in same] or writes for writes in (a, b))
        # The last row of the last pass has the last word.
        last = max(
            (*a, *b),
            key=lambda w: (sides[0].order.get(w[1], sides[1].order.get(w[1], -1)), w[2]),
            default=None,
        )
        assert last is not None
        op = next((op for w in (*a, *b) if (op := self.a.op_of(w))), None)
        subject = _subject(self.a if last in a else self.b, last) or op
        kinds = [tuple(f"{w[1]} {w[4]}" for w in writes) for writes in (a, b)]
        said = (
            sides[0].reasons(a, last[1], changed=left[0] != built),
            sides[1].reasons(b, last[1], changed=left[1] != built),
        )
        reasons = _unlike(said[0], said[1]), _unlike(said[1], said[0])
        return Difference(
            address,
            section,
            self.kernel.place(address),
            built,
            last[1],
            op,
            subject,
            Side(left[0], kinds[0], reasons[0], guess[0]),
            Side(left[1], kinds[1], reasons[1], guess[1]),
        )


def compare(
    a: Plan, b: Plan, names: tuple[str, str] = ("A", "B"), progress: Callable[[int, int], None] | None = None
) -> Comparison:
    """Compares what two plans of one kernel leave in its text, when it is asked for the sites.

    Args:
        a, b: the plans.
        names: what to call them.
        progress: called now and then with how many sites are compared, of how many that differ.
    """
    return Comparison(a, b, names, progress)


class _Writes:
    """The writes of one plan, and what was said of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.order = {table: place for place, table in enumerate(plan.tables())}
        self.passes = {name for name, _ in plan.by_pass()}
        self._said: dict[tuple[object, ...], tuple[str, ...]] = {}

    def reasons(self, writes: Sequence[RawWrite], table: str, changed: bool) -> tuple[str, ...]:
        """Why the writes are what they are; where there is none, why that pass does nothing here."""
        if not writes:
            why = (
                "writes nothing here" if table in self.passes else "does not run on this boot, or writes nothing at all"
            )
            return (f"{table} {why}; {'another pass did' if changed else 'the bytes stay as built'}",)
        said: list[str] = []
        for raw in writes:
            # Rows of one op or key are explained alike; what else the sentences say is in the rest.
            about = self.plan.op_of(raw) or self.plan.key_of(raw[1], raw[2])
            known = (raw[1], about, raw[4], _OTHER_ROW.sub("", raw[5]), len(raw[3]) - raw[6], raw[7])
            if known not in self._said:
                said_of = sentences(self.plan, self.plan.write(raw))
                self._said[known] = tuple(_OTHER_ROW.sub("another row of the same site", one) for one in said_of)
            said += self._said[known]
        return tuple(dict.fromkeys(said))


def _unlike(said: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """What one side says and the other does not, or all of it."""
    return tuple(sentence for sentence in said if sentence not in other) or said


def _decision(write: RawWrite) -> tuple[object, ...]:
    """What makes two boots' writes the same decision."""
    return write[1], write[2], write[3], write[4], write[5]


def _subject(plan: Plan, raw: RawWrite) -> str | None:
    """What the pass asked: a feature, a static key, a static call."""
    table, row, feature = raw[1], raw[2], raw[7]
    if feature is not None and plan.setup.words is not None:
        number, inverted, _ = feature
        return f"{'!' if inverted else ''}X86_FEATURE_{plan.setup.words[number].name.name}"
    key = plan.key_of(table, row) if table in ("jump_labels", "static_calls") else None
    if key is None:
        return None
    state = (plan.setup.keys if table == "jump_labels" else plan.setup.calls).get(key)
    return (state.symbol if state else None) or plan.kernel.place(key) or f"{key:#x}"


def _counted(values: Iterable[T | None]) -> dict[T, int]:
    return dict(Counter(value for value in values if value is not None).most_common())
