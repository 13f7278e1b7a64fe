"""The feature words of a machine under a kernel: each number that the image's rows ask for, with its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from pvops.decide.answers import Answer, Facts, facts_of
from pvops.errors import OpsError
from pvops.image.numbers import Name, Numbers, printed_as
from pvops.machine import cmdline
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine


class Feature(NamedTuple):
    """One feature on one machine.

    Attributes:
        name: which feature it is, and where its number is from.
        value: True, False, or None where the facts do not tell.
        guess: the value, or what to assume.
        source: where the value is from: "/proc/cpuinfo's flags", or the rule and the fact it looked at.
    """

    name: Name
    value: bool | None
    guess: bool
    source: str


class FeatureWords:
    """The features of one machine under one kernel; make it with `predict`.

    Attributes:
        numbers: the image's numbers.
        facts: what was asked.
    """

    def __init__(self, numbers: Numbers, facts: Facts) -> None:
        self.numbers = numbers
        self.facts = facts
        self._known: dict[int, Feature] = {}

    def __getitem__(self, number: int) -> Feature:
        """The feature of a number; every number has one, if only an unknown one."""
        if number not in self._known:
            self._known[number] = self._feature(number)
        return self._known[number]

    def __iter__(self) -> Iterator[Feature]:
        """Every feature that a row asks for, by number."""
        return (self[number] for number in self.numbers.consulted())

    def named(self, name: str) -> Feature | None:
        """The feature of the kernel's name ("RETPOLINE", "BUG_ESPFIX"); None where this kernel has none such."""
        number = self.numbers.number(name)
        return None if number is None else self[number]

    def words(self, also: Iterable[int] = (), *, otherwise: bool = False) -> list[int]:
        """``boot_cpu_data.x86_capability`` as far as rows ask for it: guesses where nothing is known.

        Args:
            also: numbers that something else asks for.
            otherwise: the opposite of each guess.
        """
        words = [0] * (self.numbers.ncapints + self.numbers.nbugints)
        for number in {*self.numbers.consulted(), *also}:
            feature = self[number]
            if number < len(words) * 32 and feature.guess != (otherwise and feature.value is None):
                words[number // 32] |= 1 << number % 32
        return words

    def unknown(self) -> list[Feature]:
        """The features that rows ask for and that the facts do not tell."""
        return [feature for feature in self if feature.value is None]

    def _feature(self, number: int) -> Feature:
        name = self.numbers.name(number)
        if name is None:
            name = Name(number, f"{number // 32}*32+{number % 32}", None, False, "nothing names this number")
            return Feature(name, None, False, "nothing names this number")
        if not self.numbers.printed:
            name = self._printed(name)
        if name.name in self.facts.machine.features:
            answer = Answer(
                self.facts.machine.features[name.name], f"features.{name.name} of the machine's description"
            )
        elif name.bug:
            answer = _bug(self.facts, name)
        else:
            answer = _usual(self.facts, name, _answer(self.facts, name))
        return Feature(name, answer.value, answer.best, answer.source)

    def _printed(self, name: Name) -> Name:
        """A name of an image that has none itself (CONFIG_X86_FEATURE_NAMES=n), as the facts print it, if they do."""
        given = (self.facts.machine.bugs if name.bug else self.facts.machine.flags) or ()
        text = printed_as(name.name)
        return name._replace(printed=text) if text in given else name


def predict(machine: Machine, kernel: KernelImage) -> FeatureWords:
    """The feature words of a machine under a kernel.

    Raises:
        OpsError: the machine's description has a feature that the kernel does not know.
        TableError: ``.altinstructions`` is malformed.
    """
    for feature in machine.features:
        if kernel.feature_numbers.number(feature) is None:
            reason = f"features.{feature}: {kernel.release or 'the kernel'} knows no such feature"
            raise OpsError(f"{machine.name}: {reason}", reason=reason, file=machine.name)
    return FeatureWords(kernel.feature_numbers, facts_of(machine, kernel))


def _bug(facts: Facts, name: Name) -> Answer:
    value = facts.bug(name.printed) if name.printed is not None else None
    if value is None and name.name in ("BUG_FXSAVE_LEAK", "BUG_SYSRET_SS_ATTRS"):  # older than the line of bugs
        from pvops.decide.registry import rules

        return rules()[name.name.removeprefix("BUG_")].rule(facts)
    if name.printed is not None:
        return Answer(value, "no bugs in the facts" if value is None else "/proc/cpuinfo's bugs")
    if name.name == "BUG_ESPFIX":
        # set_cpu_bug() in common.c identify_cpu(): any 32-bit kernel that is no Xen PV guest.
        return Answer(facts.bits == 32 and not facts.xen_pv.best, "rule common.c: generic_identify(): a 32-bit kernel")
    return Answer(None, "/proc/cpuinfo does not print it")


def _usual(facts: Facts, name: Name, answer: Answer) -> Answer:
    """What is assumed of a CPU whose flags the facts lack, by what the log says that its FPU saves.

    AVX's registers: it is a usual one of its maker at the kernel's time. By FXSAVE: one of the last that had no more.
    """
    if answer.value is not None or facts.machine.flags is not None:
        return answer
    if facts.logged("'AVX registers'"):
        from pvops.machine import cpus

        preset = "amd-epyc-milan" if facts.amd else cpus.usual(".".join(map(str, facts.version)))
        has = printed_as(name.name) in (cpus.given(preset)["flags"] or ())
    else:
        has = bool(facts.logged("x87 FPU will use FXSAVE")) and name.name in _WITH_FXSAVE
    return answer._replace(guess=answer.guess or has)


def _answer(facts: Facts, name: Name) -> Answer:
    from pvops.decide import rules_hardware

    ordered = _ordered(facts, name)
    if ordered is not None:
        return ordered
    if name.printed is not None:
        value = facts.flag(name.printed)
        source = "no flags in the facts" if value is None else "/proc/cpuinfo's flags"
        return Answer(value, source, name.name in REQUIRED and facts.bits == 64)
    leaf = rules_hardware.leaf_bit(facts, name.name, name.number)
    if leaf is not None:
        return leaf
    return by_rule(facts, name.name) or rules_hardware.unknown(facts, name.name)


def by_rule(facts: Facts, feature: str) -> Answer | None:
    """What the rule of a feature says of a machine; None where the feature has no rule."""
    from pvops.decide import rules_guests, rules_mitigations
    from pvops.decide.registry import rules

    entry = rules().get(feature)
    if entry is None:
        return None
    answer = entry.rule(facts)
    if entry.rule.__module__ == rules_mitigations.__name__:
        answer = rules_mitigations.where_told(feature, facts, answer)
    if feature in ("SRSO", "SRSO_ALIAS"):
        answer = rules_mitigations.of_family(feature, facts, answer)
    elif feature in ("VMCALL", "VMW_VMMCALL"):
        answer = rules_guests.of_mode(feature, facts, answer)
    return answer._replace(source=f"rule {entry.restates}: {answer.source}")


def _ordered(facts: Facts, name: Name) -> Answer | None:
    """What ``clearcpuid=`` and, in later kernels, ``setcpuid=`` say of a feature (common.c: cpu_parse_early_param()).

    What the kernel itself forces stays, and a number is taken of a feature that has a name as well.
    """
    for option, on in (("setcpuid", True), ("clearcpuid", False)):
        if on and facts.version < _SET:
            continue
        for item in _named(facts, facts.machine.found_option(option) or ""):
            if item in (str(name.number), name.printed) and (on or name.name not in forced()):
                return Answer(on, f"{option}={item} on the command line")
    return None


def _named(facts: Facts, given: str) -> list[str]:
    """The numbers and names of a list: names since 5.18, and before that numbers of any base."""
    if facts.version >= (5, 18):
        return given.split(",")
    found = []
    for item in given.split(","):
        value = cmdline.number(item)
        if value is None:
            break  # get_option() of lib/cmdline.c: the rest is not looked at
        found.append(str(value))
    return found


#: The first kernel known to have ``setcpuid=``: 6.16 has it, 6.12 not.
_SET = (6, 16)


@cache
def forced() -> frozenset[str]:
    """The features that the kernel forces after it has looked at ``clearcpuid=``: setup_force_cpu_cap() in arch/x86 of
    6.1 and 7.2, and what the selection of mitigations forces."""
    from pvops.decide import rules_mitigations
    from pvops.decide.registry import rules

    chosen = (name for name, entry in rules().items() if entry.rule.__module__ == rules_mitigations.__name__)
    return frozenset([*_FORCED, *chosen])


_FORCED = (
    *("ALWAYS", "NOPL", "CPUID", "XENPV", "PVUNLOCK", "VCPUPREEMPT", "VMCALL", "VMW_VMMCALL", "PTI", "IBRS_ENHANCED"),
    *("ZEN", "ZEN1", "ZEN2", "ZEN3", "ZEN4", "ZEN5", "ZEN6", "LS_CFG_SSBD", "XCOMPACTED", "OSXSAVE", "MSR_TSX_CTRL"),
    *("TSC_KNOWN_FREQ", "TSC_RELIABLE", "ART", "SPLIT_LOCK_DETECT", "IBPB_BRTYPE", "VERW_CLEAR"),
)
#: What every CPU with SSE2 has, but for NX.
_WITH_FXSAVE = frozenset(
    [
        "FPU",
        "VME",
        "DE",
        "PSE",
        "TSC",
        "MSR",
        "PAE",
        "MCE",
        "CX8",
        "APIC",
        "SEP",
        "MTRR",
        "PGE",
        "MCA",
        "CMOV",
        "PAT",
        "CLFLUSH",
        "CLFLSH",
        "MMX",
        "FXSR",
        "XMM",
        "XMM2",
        "NX",
    ]
)
#: Features without which a 64-bit kernel does not start (arch/x86/include/asm/required-features.h).
REQUIRED: Mapping[str, None] = dict.fromkeys(
    ("FPU", "PSE", "MSR", "PAE", "CX8", "PGE", "FXSR", "XMM", "XMM2", "CMOV", "LM", "NOPL", "ALWAYS", "CPUID")
)
