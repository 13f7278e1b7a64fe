"""What came of a kernel of a corpus, and of each of its boots."""

from __future__ import annotations

from pvops.tuples import NamedTuple

#: A byte that no pass writes and no table lists.
NO_PASS = "none"
#: The columns of a row: of the kernel, of its boot; `wrong` is in bytes, of all passes.
COLUMNS = (
    *("file", "release", "bits", "era", "sites", "outcome", "boot", "hypervisor", "backend", "compared", "wrong"),
    *("guesses", "guesses_wrong", "unexplained", "unexplained_told", "inferred", "refused"),
)


class Guesses(NamedTuple):
    """First guesses of one table in ``.text``.

    Attributes:
        sites: how many there are.
        wrong: at how many memory holds something else.
        wrong_bytes: in how many bytes.
        unlisted: at how many memory holds none of the forms that the plan lists.
    """

    sites: int
    wrong: int
    wrong_bytes: int
    unlisted: int


class BootResult(NamedTuple):
    """One boot, compared.

    Attributes:
        name: ``6.1.0-56-amd64~kvm-max-smp2``.
        hypervisor: that its facts tell: ``none``, ``kvm``, …; None where they tell none, or are absent.
        backend: that the plan is of; None without facts.
        compared: bytes of ``.text`` that a prediction was compared with; 0 without facts.
        wrong: pass → bytes that are predicted wrong and declared as certain; `NO_PASS` where none writes there.
        guesses: table → its first guesses.
        unexplained: runs of bytes that ``verify`` explains by nothing; None where it was refused.
        unexplained_told: the same where it is told the machine; None without facts, or where it was refused.
        inferred: the backend that ``verify`` infers; None where it was refused.
        refused: why something of this was refused, or None.
    """

    name: str
    hypervisor: str | None
    backend: str | None
    compared: int
    wrong: dict[str, int]
    guesses: dict[str, Guesses]
    unexplained: int | None
    unexplained_told: int | None
    inferred: str | None
    refused: str | None

    @property
    def exact(self) -> bool:
        """Whether every byte is predicted, or explained where there are no facts, and nothing was refused."""
        return not (self.refused or self.wrong or self.unexplained or self.unexplained_told)

    def to_dict(self) -> dict[str, object]:
        """As JSON documents carry it."""
        return {
            "name": self.name,
            "hypervisor": self.hypervisor,
            "backend": self.backend,
            "compared": self.compared,
            "wrong": self.wrong,
            "guesses": sum(guesses.sites for guesses in self.guesses.values()),
            "guesses_wrong": sum(guesses.wrong for guesses in self.guesses.values()),
            "guesses_by": {table: guesses._asdict() for table, guesses in self.guesses.items()},
            "unexplained": self.unexplained,
            "unexplained_told": self.unexplained_told,
            "inferred": self.inferred,
            "refused": self.refused,
        }


class KernelResult(NamedTuple):
    """One kernel, opened and its tables read; and its boots.

    Attributes:
        file: name of its file.
        release: from its banner; None where it has none, or was refused.
        bits: 32 or 64; None where it was refused.
        options: what it is built with, as far as the image tells: ``PARAVIRT``, ``SMP``, …
        compiler: ``gcc`` or ``clang``; None where the banner does not say.
        era: whose rules it patches by; None where it was refused, or nothing tells.
        refused: why it, or its tables, could not be read; None where they were.
        sites: table → rows.
        boots: those beside it.
    """

    file: str
    release: str | None
    bits: int | None
    options: tuple[str, ...]
    compiler: str | None
    era: str | None
    refused: str | None
    sites: dict[str, int]
    boots: tuple[BootResult, ...]

    @property
    def outcome(self) -> str:
        """``refused``; ``exact`` where every boot is, ``wrong`` where one is not; ``opened`` without boots."""
        if self.refused is not None:
            return "refused"
        if not self.boots:
            return "opened"
        return "exact" if all(boot.exact for boot in self.boots) else "wrong"

    def to_dict(self) -> dict[str, object]:
        """As JSON documents carry it."""
        return {
            "file": self.file,
            "release": self.release,
            "bits": self.bits,
            "options": list(self.options),
            "compiler": self.compiler,
            "era": self.era,
            "outcome": self.outcome,
            "refused": self.refused,
            "sites": self.sites,
            "boots": [boot.to_dict() for boot in self.boots],
        }

    def rows(self) -> list[dict[str, object]]:
        """A flat row for each boot, or one for a kernel without: `COLUMNS`."""
        kernel: dict[str, object] = {
            "file": self.file,
            "release": self.release,
            "bits": self.bits,
            "era": self.era,
            "sites": sum(self.sites.values()),
            "outcome": self.outcome,
            "refused": self.refused,
        }
        told = [
            {
                **boot.to_dict(),
                "boot": boot.name,
                "wrong": sum(boot.wrong.values()),
                "refused": boot.refused or self.refused,
            }
            for boot in self.boots
        ]
        return [{column: (kernel | boot).get(column) for column in COLUMNS} for boot in told or [{}]]
