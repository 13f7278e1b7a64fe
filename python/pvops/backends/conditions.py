"""Conditions of a backend's init code, as data: ``feature("PV_UNHALT") & cpus_more_than(1) & no_option("nopvspin")``.

A condition, asked about a machine, gives a `Verdict`: whether it holds and a sentence that says why. Where there is no
machine, or it does not tell, the condition's own default is taken and the sentence says "assumed". The defaults are a
usual guest: several CPUs, the features that hosts have offered for years, an empty command line, no MONITOR/MWAIT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pvops.eras.structs import Unchanging
from pvops.machine.hypervisor import WORDS
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine


class Verdict(NamedTuple):
    """Whether a condition holds, the sentence that explains it, and whether it is assumed: nothing tells."""

    holds: bool
    why: str
    assumed: bool = False


class Condition(Unchanging):
    """One condition; ``&``, ``|`` and ``~`` combine.

    Args:
        test: (machine or None, name of the hypervisor that the backend is for) → `Verdict`.
    """

    __slots__ = ("test",)

    test: Callable[[Machine | None, str], Verdict]

    _renewed = "&"

    def __init__(self, test: Callable[[Machine | None, str], Verdict]) -> None:
        object.__setattr__(self, "test", test)

    def __call__(self, machine: Machine | None, hypervisor: str) -> Verdict:
        return self.test(machine, hypervisor)

    def __and__(self, other: Condition) -> Condition:
        """Both; a false conjunction is explained by what is false."""
        return self._with(other, all)

    def __or__(self, other: Condition) -> Condition:
        """Either; a true disjunction is explained by what is true."""
        return self._with(other, any)

    def _with(self, other: Condition, decides: Callable[[Iterable[bool]], bool]) -> Condition:
        def test(machine: Machine | None, hypervisor: str) -> Verdict:
            verdicts = [self(machine, hypervisor), other(machine, hypervisor)]
            holds = decides(v.holds for v in verdicts)
            reasons = [v.why for v in verdicts if v.why and v.holds == holds]
            # What is known of one may decide without the other.
            assumed = decides(v.holds or v.assumed for v in verdicts) != decides(
                v.holds and not v.assumed for v in verdicts
            )
            return Verdict(holds, ", ".join(reasons), assumed)

        return Condition(test)

    def __invert__(self) -> Condition:
        """The opposite, with the same sentence (which says what is so)."""

        def opposite(machine: Machine | None, hypervisor: str) -> Verdict:
            holds, why, assumed = self(machine, hypervisor)
            return Verdict(not holds, why, assumed)

        return Condition(opposite)


#: Always: what init code does without asking.
always = Condition(lambda machine, hypervisor: Verdict(True, ""))


def feature(bit: str, *, word: str = "kvm", assume: bool = True) -> Condition:
    """The hypervisor offers a feature: a bit of one of `pvops.machine.hypervisor.WORDS`."""
    name = WORDS[word].prefix + bit

    def test(machine: Machine | None, hypervisor: str) -> Verdict:
        reason = "no machine given"
        if machine is not None:
            found = machine.feature(word, bit)
            if found.value is not None:
                return Verdict(found.value, f"{name} is {'set' if found.value else 'not set'} ({found.source})")
            other = machine.hypervisor.value
            on = "no hypervisor" if other == "none" else other
            reason = f"the machine runs on {on}" if other not in (None, hypervisor) else found.source
        return Verdict(assume, f"{name} is assumed {'set' if assume else 'not set'} ({reason})", True)

    return Condition(test)


def not_hint(bit: str, *, word: str = "kvm-hints") -> Condition:
    """The hypervisor does not give a hint; assumed where nothing tells."""
    return ~feature(bit, word=word, assume=False)


def cpus_more_than(number: int) -> Condition:
    """``num_possible_cpus() > number``; assumed where nothing tells."""

    def test(machine: Machine | None, hypervisor: str) -> Verdict:
        count, source = (None, "no machine given") if machine is None else machine.possible_cpus
        if count is None:
            return Verdict(True, f"more than {number} possible CPU assumed ({source})", True)
        return Verdict(count > number, f"{count} possible CPU{'' if count == 1 else 's'} ({source})")

    return Condition(test)


def no_option(*names: str) -> Condition:
    """None of these options is on the command line; assumed where there is none to look at."""

    def test(machine: Machine | None, hypervisor: str) -> Verdict:
        if machine is None or machine.cmdline is None:
            return Verdict(True, f"no {' or '.join(names)} assumed", True)
        given = [name for name in names if machine.has_option(name)]
        if given:
            return Verdict(False, f"{given[0]} on the command line")
        return Verdict(True, f"no {' or '.join(names)} on the command line")

    return Condition(test)


#: The first kernel that knows ``nopv`` (arch/x86/kernel/cpu/hypervisor.c: parse_nopv(); 5.0 has no such function).
_NOPV = (5, 3)


def looks(*options: str, named: bool = True) -> Condition:
    """The kernel looks at its hypervisor: none of these options keeps it from doing so, ``nopv`` among them.

    A kernel before ``nopv`` passes over it.

    Args:
        options: all of them.
        named: whether a kernel whose log names the hypervisor has looked (init_hypervisor_platform()).
    """
    given = no_option(*options)

    def test(machine: Machine | None, hypervisor: str) -> Verdict:
        verdict = given(machine, hypervisor)
        if machine is None or verdict.holds:
            return verdict
        if named and (line := machine.logged("Hypervisor detected: ")):
            return Verdict(True, f'{verdict.why}, which this kernel passes over (log: "{line.strip()}")')
        others = [name for name in options if name != "nopv" and machine.has_option(name)]
        if machine.release is not None and machine.release < _NOPV and not others:
            return Verdict(True, f"{verdict.why}, which came with {_NOPV[0]}.{_NOPV[1]}")
        return verdict

    return Condition(test)


def flag(name: str, feature: str, *, assume: bool = False) -> Condition:
    """The boot CPU has a feature: its name in /proc/cpuinfo and the kernel's name for it."""

    def test(machine: Machine | None, hypervisor: str) -> Verdict:
        if machine is None or machine.flags is None:
            return Verdict(assume, f"X86_FEATURE_{feature} is assumed {'set' if assume else 'not set'}", True)
        has = name in machine.flags
        return Verdict(has, f"X86_FEATURE_{feature} is {'set' if has else 'not set'} ({name} in /proc/cpuinfo's flags)")

    return Condition(test)


def no_flag(name: str, feature: str) -> Condition:
    """The boot CPU lacks a feature; assumed where nothing tells."""
    return ~flag(name, feature)


def logged(yes: str = "", *, no: str = "", what: str, assume: bool, beside: str = " kernel on ") -> Condition:
    """Something only the hypervisor knows and the log tells of.

    Args:
        yes: the line that says it is so.
        no: the line that says it is not.
        what: the fact, a short clause for the sentence: "the host gives the TSC's frequency".
        assume: what holds where the log says neither.
        beside: a line of the same log level as ``yes`` or ``no``. Where the log has it and only one of the two lines
            exists, that one's absence tells too.
    """

    def test(machine: Machine | None, hypervisor: str) -> Verdict:
        log = "" if machine is None else machine.dmesg
        if no and no in log:
            return Verdict(False, f'{what}: no (log: "{no}")')
        if yes and yes in log:
            return Verdict(True, f'{what} (log: "{yes}")')
        only_it = (
            machine is not None and machine.hypervisor.value == hypervisor and machine.log_is_whole and beside in log
        )
        if only_it and bool(yes) != bool(no):
            return Verdict(not yes, f'{what}{": no" if yes else ""} (log: no "{yes or no}")')
        return Verdict(assume, f"{what}{'' if assume else ': no'} (assumed)", True)

    return Condition(test)
