"""What was found in memory: the verdict, and what it rests on. Plain data, which crosses processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvops import display
from pvops.tuples import NamedTuple
from pvops.verify.data import Data
from pvops.verify.rows import Later, NumberedRows

SCHEMA = "pvops.verify/1"

#: Who else writes text, besides the kernel's own passes: what ``allow`` takes. Livepatch goes through ftrace.
OWNERS = ("ftrace", "livepatch", "kprobes", "bpf", "modules")

#: Runs beyond this many are listed without disassembly: so many are another kernel, not a change of this one.
DISASSEMBLED = 2000

#: Unknowns whose value is yes or no.
FLAGS = frozenset({"feature", "key", "uniprocessor", "sealed", "untraced", "xen", "inlines", "calls_stay"})


class Owned(NamedTuple):
    """Bytes that an owner may have written: what the kernel writes for it, at a place where the kernel lets it.

    Attributes:
        address: their first, as linked; in a module, where it runs.
        symbol: where that is; None where the image names nothing there.
        bytes: what was written: 1 byte of a breakpoint, 5 of a call or jump.
        owners: who writes such bytes there (see `OWNERS`), the likeliest first.
        target: where they branch to; None for a breakpoint.
        registered: whether the kernel's own lists know of it; None where none was read, or the owner keeps none. Who
            has registered a handler that is no code of the kernel's or of a module's does not count.
        handler: what is called there, as the list says: a function, or an address and its module, or None.
    """

    address: int
    symbol: str | None
    bytes: bytes
    owners: Sequence[str]
    target: int | None
    registered: bool | None = None
    handler: str | None = None


class Unexplained(NamedTuple):
    """A run of bytes that nothing accounts for.

    Attributes:
        address: its first wrong byte, as linked; in a module, where it runs.
        symbol: where that is, ``do_syscall_64+0x3a``; None where the image names nothing there.
        expected: what should be there.
        found: what is there.
        wrong: how many of the bytes differ.
        site: address of the site or the instruction it lies in.
        should: what should stand at the site, disassembled.
        stands: what does.
        table: the table whose pass has the last word there; None in code that no table names.
        owned: whose these bytes may be; None where nobody but the passes writes such bytes there.
        nearest: the legal form it is nearest to, in words, or None.
        suspects: addresses of the sites that disagree, itself among them, where votes do not decide which is right.
    """

    address: int
    symbol: str | None
    expected: bytes
    found: bytes
    wrong: int
    site: int
    should: str
    stands: str
    table: str | None
    owned: Owned | None
    nearest: str | None
    suspects: Sequence[int] = ()

    def __repr__(self) -> str:
        found, expected = (f"{data[:8].hex(' ')}{' …' * (len(data) > 8)}" for data in (self.found, self.expected))
        return f"<unexplained {self.address:#x} {self.symbol}: is {found}, should be {expected}>"

    @property
    def looks_like(self) -> str | None:
        """Whose it appears to be (see `OWNERS`), or None."""
        return self.owned.owners[0] if self.owned is not None else None


class Vote(NamedTuple):
    """What the sites say of one unknown.

    Attributes:
        about: what kind: ``feature``, ``key``, ``static_call``, ``slot``, ``constant``, ``branches``, ….
        name: which one; its address or number where nothing names it.
        value: what the sites say; where none of them holds what the kernel writes, what they are nearest to.
        votes: how many do.
        against: how many sites say something else; they are unexplained.
        given: the user said it, by ``machine``.
    """

    about: str
    name: str
    value: str
    votes: int
    against: int
    given: bool


class NotJudged(NamedTuple):
    """A section that the verdict is not about: its name, address, size in bytes, why, and whether it is code."""

    section: str
    address: int
    size: int
    why: str
    executable: bool = True

    def __repr__(self) -> str:
        return f"<NotJudged {self.section} at {self.address:#x}, {self.size} bytes: {self.why}>"


class Judged:
    """Text that was held to what it should be: what a kernel's and a module's have in common."""

    @property
    def unexplained(self) -> Sequence[Unexplained]:
        """What nothing accounts for."""
        raise NotImplementedError

    @property
    def allowed(self) -> Sequence[Unexplained]:
        """What nothing accounts for, and the user allows."""
        raise NotImplementedError

    @property
    def unread(self) -> Sequence[tuple[int, int]]:
        """(start, end) of what could not be read."""
        raise NotImplementedError

    @property
    def owned(self) -> list[Owned]:
        """What owners may have written, allowed or not, by address."""
        runs = (*self.unexplained, *self.allowed)
        return sorted((run.owned for run in runs if run.owned is not None), key=lambda owned: owned.address)

    @property
    def wrong_bytes(self) -> int:
        """How many bytes of it are unexplained."""
        return sum(run.wrong for run in self.unexplained)

    @property
    def unread_bytes(self) -> int:
        """How many bytes of it could not be read."""
        return sum(end - start for start, end in self.unread)


class _Module(NamedTuple):
    name: str
    address: int
    size: int
    why: str | None = None
    file: str | None = None
    explained: Mapping[str, int] = {}
    unexplained: Sequence[Unexplained] = ()
    allowed: Sequence[Unexplained] = ()
    unread: Sequence[tuple[int, int]] = ()
    unknown: int = 0
    votes: Sequence[Vote] = ()
    constants: int = 0


class Module(_Module, Judged):
    """A module in memory. All its addresses are those it runs at.

    Attributes:
        name: as the kernel lists it.
        address: where its code begins.
        size: of its code, in bytes of whole pages.
        why: why it was not judged; None where it was.
        file: the file it was held to; None where it was not judged, as with all that follows.
        explained: bytes that each table accounts for.
        unexplained: what nothing accounts for.
        allowed: what nothing accounts for, and the user allows.
        unread: (start, end) of what could not be read.
        unknown: bytes of fields in its code that refer to what was freed, which nobody can judge.
        votes: what its text rests on besides the kernel's state: its own keys, static calls and pages of thunks.
        constants: how many bytes of constants were held to the file too; where they differ is in the report's ``data``.
    """

    def __repr__(self) -> str:
        found = f"{self.wrong_bytes} bytes unexplained" if self.judged else f"not judged, {self.why}"
        return f"<Module {self.name} at {self.address:#x}, {self.size} bytes: {found}>"

    @property
    def judged(self) -> bool:
        """Whether its text was held to a file."""
        return self.why is None

    @property
    def few_votes(self) -> list[Vote]:
        """What fewer than three sites say: a change of all of them cannot be told."""
        return [vote for vote in self.votes if vote.votes < 3]

    def to_dict(self) -> dict[str, object]:
        """The module in the report's document."""
        document: dict[str, object] = {
            "name": self.name,
            "address": f"{self.address:#x}",
            "size": self.size,
            "judged": self.judged,
        }
        if not self.judged:
            return document | {"why": self.why}
        return document | {
            "file": self.file,
            "unread": self.unread_bytes,
            "unknown": self.unknown,
            "constants": self.constants,
            "explained": dict(self.explained),
            "unexplained": [_run(run) for run in self.unexplained],
            "allowed": [_run(run) for run in self.allowed],
            "owned": [_owned(owned) for owned in self.owned],
            "votes": [_vote(vote) for vote in self.votes],
        }


class _Report(NamedTuple):
    kernel: str
    memory: str
    address: int
    size: int
    slide: int
    explained: Mapping[str, int]
    unexplained: Sequence[Unexplained]
    allowed: Sequence[Unexplained]
    unread: Sequence[tuple[int, int]]
    backend: str | None
    backends: Sequence[str]
    cpus: str | None
    features: Mapping[str, bool]
    mitigations: Mapping[str, str | None]
    votes: Sequence[Vote]
    not_judged: Sequence[NotJudged]
    modules: Sequence[Module]
    not_listed: str | None
    data: Data
    being_written: Sequence[int]
    spans: Sequence[tuple[int, int, str]]
    saved: Later[Mapping[str, object]]


class Report(_Report, Judged):
    """What memory holds of a kernel's ``.text``, and of modules, explained. True where it is clean.

    >>> kernel = pvops.open("vmlinux-sample")
    >>> text = bytearray(kernel.plan("kvm").apply())
    >>> text[0x10:0x12] = b"\\xeb\\xfe"
    >>> report = kernel.verify(bytes(text))
    >>> report
    <Report on 6.1.0-pvops-sample in <bytes>: modified, 2 of 2,016 bytes unexplained, 0 unread, slide 0x0>
    >>> bool(report), report.backend, report.unexplained
    (False, 'kvm', [<unexplained 0xffffffff81000010 paravirt_BUG+0x0: is eb fe, should be 0f 0b>])

    Attributes:
        kernel: release, or file name, of the kernel.
        memory: name of the memory.
        address: of ``.text``, as linked.
        size: of ``.text`` in bytes.
        slide: how far the kernel slid.
        explained: bytes that each table accounts for.
        unexplained: what nothing accounts for.
        allowed: what nothing accounts for, and the user allows.
        unread: (start, end) of what could not be read, as linked.
        backend: the backend that fits the ops; None where the kernel has none. Of several, the first.
        backends: all that fit as well: those that the text cannot tell apart.
        cpus: ``"1"`` or ``"2 or more"``; None where the text does not tell.
        features: name → whether it is there, for every feature that a site spoke of.
        mitigations: ``branches``, ``return_thunk``.
        votes: what all of it rests on.
        not_judged: sections the verdict is not about: code, and of memory that has data, data too.
        modules: the modules that are loaded, the newest first; those a file was given of are judged.
        not_listed: why the modules could not be listed; None where they were.
        data: what the kernel's own data say beside its text.
        being_written: addresses, as linked, at which the kernel was writing its text when memory was taken, by its own
            list; what it was about to write is judged.
        spans: (address, length, table) of the stretches that the tables changed.
        saved: what `machine` is made of.
    """

    @property
    def machine(self) -> Mapping[str, object]:
        """The machine as `pvops.Machine.from_dict` takes it, with the state that was inferred."""
        return self.saved.value

    @property
    def verdict(self) -> str:
        """``clean``, ``modified``, or ``incomplete``: nothing unexplained in what could be read, but not all could."""
        parts: tuple[Report | Module, ...] = (self, *self.modules)
        if any(part.unexplained for part in parts) or self.data.disagreements:
            return "modified"
        return "incomplete" if any(part.unread for part in parts) else "clean"

    def __bool__(self) -> bool:
        return self.verdict == "clean"

    def __repr__(self) -> str:
        found = f"{self.wrong_bytes:,} of {self.size:,} bytes unexplained, {self.unread_bytes:,} unread"
        return f"<Report on {self.kernel} in {self.memory}: {self.verdict}, {found}, slide {self.slide:#x}>"

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")

    @property
    def few_votes(self) -> list[Vote]:
        """What fewer than three sites say and the user has not: a change of all of them cannot be told."""
        return [vote for vote in self.votes if vote.votes < 3 and not vote.given]

    @property
    def few(self) -> int:
        """How many votes `few_votes` has; it makes none of them."""
        if isinstance(self.votes, NumberedRows):
            return self.votes.how_many(lambda numbers: numbers[3] < 3 and not numbers[5])
        return len(self.few_votes)

    def to_dict(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "kernel": self.kernel,
            "memory": self.memory,
            "text": {"address": f"{self.address:#x}", "size": self.size, "unread": self.unread_bytes},
            "explained": dict(self.explained),
            "unexplained": [_run(run) for run in self.unexplained],
            "allowed": [_run(run) for run in self.allowed],
            "owned": [_owned(owned) for owned in self.owned],
            "inferred": {
                "backend": self.backend,
                "backends": list(self.backends),
                "cpus": self.cpus,
                "features": dict(self.features),
                "mitigations": dict(self.mitigations),
                "slide": f"{self.slide:#x}",
            },
            "votes": [_vote(vote) for vote in self.votes],
            "unread": [{"address": f"{start:#x}", "size": end - start} for start, end in self.unread],
            "not_judged": [
                {"section": part.section, "address": f"{part.address:#x}", "size": part.size, "why": part.why}
                for part in self.not_judged
            ],
            "data": [datum.to_dict() for datum in self.data.disagreements],
            "heard": dict(self.data.counts),
            "unheard": list(self.data.unheard),
            "alone": list(self.data.alone),
            "rodata": None if self.data.rodata is None else self.data.rodata.to_dict(),
            "modules": [module.to_dict() for module in self.modules] if self.not_listed is None else None,
            "not_listed": self.not_listed,
            "being_written": [f"{address:#x}" for address in self.being_written],
        }


def _vote(vote: Vote) -> dict[str, object]:
    return {
        "about": vote.about,
        "name": vote.name,
        "value": vote.value,
        "votes": vote.votes,
        "against": vote.against,
        "given": vote.given,
    }


def _run(run: Unexplained) -> dict[str, object]:
    return {
        "address": f"{run.address:#x}",
        "symbol": run.symbol,
        "expected": run.expected.hex(),
        "found": run.found.hex(),
        "bytes": run.wrong,
        "site": f"{run.site:#x}",
        "should": run.should,
        "stands": run.stands,
        "table": run.table,
        "looks_like": run.looks_like,
        "nearest": run.nearest,
        "suspects": [f"{address:#x}" for address in run.suspects],
    }


def _owned(owned: Owned) -> dict[str, object]:
    return {
        "address": f"{owned.address:#x}",
        "symbol": owned.symbol,
        "bytes": owned.bytes.hex(),
        "owner": owned.owners[0],
        "owners": list(owned.owners),
        "target": None if owned.target is None else f"{owned.target:#x}",
        "registered": owned.registered,
        "handler": owned.handler,
    }
