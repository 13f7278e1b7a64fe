"""What rules of static keys are made of: the query they answer, and the common kinds of conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pvops.decide.answers import Answer, Facts
from pvops.decide.mitigations import mode_alone
from pvops.decide.prediction import FeatureWords
from pvops.tuples import NamedTuple


class KeyQuery(NamedTuple):
    """What a rule is asked: one key on one machine.

    Attributes:
        facts: the machine under this kernel.
        words: its feature words.
        offset: of the key in its symbol: keys in arrays.
        size: tells how many bytes that symbol has, for keys in arrays; 0 where nothing does.
        places: tells in which functions the key's labels stand. Hardly a rule asks for either, and both take many
            look-ups.
        modules: the security modules that are assumed to be there; None where nothing tells.
    """

    facts: Facts
    words: FeatureWords
    offset: int = 0
    size: Callable[[], int] = int
    places: Callable[[], Sequence[str]] = tuple
    modules: Sequence[str] | None = None


Rule = Callable[[KeyQuery], Answer | None]


class Entry(NamedTuple):
    """A rule and the function it restates."""

    rule: Rule
    restates: str


def always(value: bool, restates: str) -> Entry:
    """A key that every boot turns to one state."""
    return Entry(lambda query: Answer(value, f"every boot {'enables' if value else 'disables'} it"), restates)


def flags(restates: str, *flags: str) -> Entry:
    """A key that CPU features turn on: their names in /proc/cpuinfo."""

    def rule(query: KeyQuery) -> Answer | None:
        if query.facts.machine.flags is None:
            return None
        missing = [flag for flag in flags if not query.facts.has(flag)]
        return Answer(not missing, f"no {missing[0]}" if missing else f"the CPU has {', '.join(flags)}")

    return Entry(rule, restates)


def said(text: str, restates: str, value: bool = True, *, usual: str = "", undone: str = "") -> Entry:
    """A line of the log says that the key changed.

    Args:
        text: the line.
        restates: the function.
        value: what the key is then.
        usual: a flag of CPUs on which that is so in most boots, and taken where the log is not whole; otherwise nothing
            tells then.
        undone: a line that says that the key changed back.
    """

    def rule(query: KeyQuery) -> Answer | None:
        said = query.facts.logged(text)
        if undone and query.facts.machine.logged(undone):
            return Answer(not value, f'log: "{undone}"')
        if said is None and usual and query.facts.has(usual):
            return Answer(
                value, f'assumed: the log does not go back to where "{text}" would be, and the CPU has {usual}'
            )
        return None if said is None else Answer(said == value, f'log: {"" if said else "no "}"{text}"')

    return Entry(rule, restates)


def truth(given: str, version: tuple[int, int]) -> bool | None:
    """What lib/kstrtox.c kstrtobool() makes of a value; None where it refuses it.

    5.10 takes no ``t`` and ``f``, which came with 5.18; 6.12 no ``e`` and ``d``, which 6.16 takes.
    """
    text, yes, no = given.lower(), ["y", "1", "on"], ["n", "0", "of"]
    if version >= (5, 18):
        yes, no = [*yes, "t"], [*no, "f"]
    if version >= (6, 16):
        yes, no = [*yes, "e"], [*no, "d"]
    if text.startswith(tuple(yes)):
        return True
    return False if text.startswith(tuple(no)) else None


def told(facts: Facts, option: str) -> tuple[bool | None, str]:
    """What a boolean option says, and where that is known from: by its last value that kstrtobool() takes."""
    for given in reversed(facts.machine.values(option)):
        on = truth(given, facts.version)
        if on is not None:
            return on, f"{option}={given} on the command line"
    return None, f"no {option}= on the command line"


def oneshot(option: str, restates: str) -> Entry:
    """What timers do where a clock event comes when asked for: unless an option is off, or the clock source is none
    that high resolution may have (tick_is_oneshot_available(), timekeeping_valid_for_hres())."""

    def rule(query: KeyQuery) -> Answer | None:
        clock = query.facts.machine.clocksource
        if clock in ("jiffies", "refined-jiffies"):
            return Answer(False, f"the clock source is {clock}")
        on, source = told(query.facts, option)
        return Answer(on is not False, source)

    return Entry(rule, restates)


def switched(option: str, restates: str) -> Entry:
    """What a boolean option says; as built without it."""

    def rule(query: KeyQuery) -> Answer | None:
        on, source = told(query.facts, option)
        return None if on is None else Answer(on, source)

    return Entry(rule, restates)


def spectre_v2(restates: str, *parts: str) -> Entry:
    """A key whose state is a part of vulnerabilities/spectre_v2."""

    def rule(query: KeyQuery) -> Answer | None:
        text = query.facts.state("spectre_v2")
        if text is None:
            return None
        if mode_alone(text):
            # spectre_v2_user_select_mitigation() logs which IBPB it enables, and nobody the rest.
            kinds = [part.removeprefix("IBPB: ") for part in parts if part.startswith("IBPB: ")]
            lines = [f"Enabling {kind} Indirect Branch Prediction Barrier" for kind in kinds]
            line = next((line for line in lines if query.facts.logged(line)), None)
            return None if line is None else Answer(True, f'log: "{line}"')
        said = [part.strip() for part in text.replace(";", ",").split(",")]
        found = next((part for part in parts if part in said), None)
        return Answer(
            found is not None, f"vulnerabilities/spectre_v2: {found!r}" if found else f"no {parts[0]!r} in it"
        )

    return Entry(rule, restates)


def guest(hypervisor: str, restates: str) -> Entry:
    """A key that one hypervisor's guest code turns on."""

    def rule(query: KeyQuery) -> Answer | None:
        name, source = query.facts.machine.hypervisor
        return None if name is None else Answer(name == hypervisor, source)

    return Entry(rule, restates)


def given(restates: str, *options: str) -> Entry:
    """A key that an option turns on."""

    def rule(query: KeyQuery) -> Answer | None:
        option = query.facts.given(*options)
        return Answer(True, f"{option} on the command line") if option else None

    return Entry(rule, restates)
