"""Features that are bits of CPUID registers and that /proc/cpuinfo does not print.

Where the facts hold the leaf, the leaf tells. Where they do not, some follow from a printed feature that cannot be
without them or from the CPU's generation; what remains is not known, and assumed absent. Sources: arch/x86/kernel/cpu/
{common,scattered,cpuid-deps}.c of 6.1, 6.12 and 7.2.
"""

from __future__ import annotations

from pvops.decide.answers import Answer, Facts
from pvops.decide.registry import rule
from pvops.machine.cpuid import SCATTERED, WORDS

_HYBRID = (0x8A, 0x97, 0x9A, 0xAA, 0xAC, 0xB7, 0xBA, 0xBD, 0xB5, 0xBF, 0xC5, 0xC6, 0xCC)


def leaf_bit(facts: Facts, feature: str, number: int) -> Answer | None:
    """What the facts' own CPUID leaves say of a feature; None where they have not the leaf."""
    place = SCATTERED.get(feature)
    if place is None and number // 32 in WORDS:
        place = (*WORDS[number // 32], number % 32)
    if place is None:
        return None
    leaf, sub, register, bit = place
    registers = facts.machine.cpuid.get((leaf, sub))
    where = f"cpuid leaf {leaf:#x}{f'/{sub}' if sub else ''}"
    if registers is not None:
        on = bool(registers[register] >> bit & 1)
        return Answer(on, f"{where} {register} bit {bit} is {'set' if on else 'not set'}")
    highest = facts.machine.cpuid.get((leaf & 0x80000000, 0))
    if highest is not None and highest["eax"] < leaf:
        return Answer(False, f"the CPU has no {where}")
    return None


def unknown(facts: Facts, feature: str) -> Answer:
    """A bit that nothing tells."""
    return Answer(None, f"/proc/cpuinfo does not print it, and no cpuid leaf is among the facts ({facts.cpu})")


def _implied(facts: Facts, flag: str, otherwise: bool = False) -> Answer:
    """There exactly where a printed feature is."""
    value = facts.flag(flag)
    return Answer(value, f"{'' if value else 'no '}{flag} in /proc/cpuinfo's flags", otherwise)


def _needs(facts: Facts, feature: str, *flags: str) -> Answer:
    """Absent where none of these is printed, else not known."""
    if facts.machine.flags is not None and not any(facts.has(flag) for flag in flags):
        return Answer(False, f"no {' or '.join(flags)} in /proc/cpuinfo's flags")
    return unknown(facts, feature)


def _from(facts: Facts, feature: str, family: int) -> Answer:
    """AMD's, from a family on."""
    if facts.vendor not in (None, "amd") or (facts.vendor == "amd" and facts.family < family):
        return Answer(False, f"AMD has it from family {family:#x} on, this is {facts.cpu}")
    return unknown(facts, feature)


@rule("cpuid-deps.c: AMX_TILE needs XFD, and nothing else has it", "XFD")
def xfd(facts: Facts) -> Answer:
    """Extended feature disable."""
    return _implied(facts, "amx_tile")


@rule("cpuid-deps.c: USER_SHSTK needs SHSTK; common.c: setup_cet()", "SHSTK")
def shstk(facts: Facts) -> Answer:
    """Shadow stacks; ``user_shstk`` is printed."""
    if option := facts.given("nousershstk"):
        return Answer(None, f"{option} on the command line hides it")
    return _implied(facts, "user_shstk")


@rule("scattered.c, cpuid-deps.c: SGX2 needs SGX1", "SGX1", "SGX2", "SGX_EUPDATESVN", "SGX_EDECCSSA")
def sgx2(facts: Facts) -> Answer:
    """Parts of SGX."""
    return _needs(facts, "SGX2", "sgx")


@rule("CPUID 6 eax bit 15", "HWP_HIGHEST_PERF_CHANGE")
def hwp_change(facts: Facts) -> Answer:
    """An interrupt of HWP."""
    return _needs(facts, "HWP_HIGHEST_PERF_CHANGE", "hwp")


@rule("CPUID 7 edx bit 9; bugs.c: srbds_select_mitigation()", "SRBDS_CTRL")
def srbds_ctrl(facts: Facts) -> Answer:
    """The MSR that turns off the mitigation of SRBDS: what its vulnerability file tells."""
    text = facts.state("srbds")
    if facts.vendor not in (None, "intel"):
        return Answer(False, facts.cpu)
    if text == "Mitigation: Microcode":
        return Answer(True, f"vulnerabilities/srbds: {text!r}")
    if text == "Vulnerable: No microcode":
        return Answer(False, f"vulnerabilities/srbds: {text!r}")
    return unknown(facts, "SRBDS_CTRL")


@rule("CPUID 7 edx bit 15", "HYBRID_CPU")
def hybrid(facts: Facts) -> Answer:
    """Cores of several kinds: Lakefield, and client CPUs from Alder Lake on, but where the small cores are turned off,
    and seldom their guests."""
    if facts.vendor not in (None, "intel"):
        return Answer(False, facts.cpu)
    if facts.machine.family is None or facts.machine.model is None:
        return unknown(facts, "HYBRID_CPU")
    if facts.family != 6 or facts.model not in _HYBRID:
        return Answer(False, facts.cpu)
    return Answer(None, f"{facts.cpu}, and no cpuid leaf says whether cores of both kinds are there", not facts.virtual)


@rule("CPUID 0x8000001f eax bit 10; scattered.c", "SME_COHERENT", "COHERENCY_SFW_NO")
def sme_coherent(facts: Facts) -> Answer:
    """Coherence of encrypted and plain mappings."""
    if facts.vendor != "amd" or not (facts.has("sme") or facts.has("sev")):
        return Answer(None if facts.vendor is None else False, f"no sme or sev ({facts.cpu})")
    return unknown(facts, "SME_COHERENT")


@rule("CPUID 7/1 eax bits 17 to 19", "LKGS", "WRMSRNS")
def fred_age(facts: Facts) -> Answer:
    """Instructions that came with FRED, to CPUs that all have AVX-VNNI, which is printed."""
    answer = _needs(facts, "LKGS", "avx_vnni", "fred")
    return answer._replace(guess=facts.has("fred"))


@rule("CPUID 0x80000008 ebx bit 3", "INVLPGB")
def invlpgb(facts: Facts) -> Answer:
    """Broadcast TLB invalidation."""
    return _from(facts, "INVLPGB", 0x19)


@rule("scattered.c", "FAST_CPPC", "AMD_FAST_CPPC")
def fast_cppc(facts: Facts) -> Answer:
    """Fast CPPC."""
    return _from(facts, "FAST_CPPC", 0x19)


@rule(
    "scattered.c; CPUID 0x8000001f", "AMD_HTR_CORES", "AMD_WORKLOAD_CLASS", "CPPC_PERF_PRIO", "RMPREAD", "SEGMENTED_RMP"
)
def zen5_age(facts: Facts) -> Answer:
    """What came with Zen 5."""
    return _from(facts, "AMD_HTR_CORES", 0x1A)
