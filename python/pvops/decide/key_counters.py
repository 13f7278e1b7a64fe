"""Static keys of the CPU's counters: how its record of last branches is read, and whether its cores are of two kinds.

Sources: arch/x86/events/intel/lbr.c of 5.15, 6.12 and 7.2: intel_pmu_lbr_init(), intel_pmu_lbr_init_hsw(),
intel_pmu_arch_lbr_init(); core.c: intel_pmu_init_hybrid(). The log has a line of what init_hw_perf_events() found.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.decide.answers import Answer, Facts
from pvops.decide.key_conditions import Entry, KeyQuery, Rule

_LINE = "Performance Events:"
_DEEP, _ARCHITECTURAL, _HYBRID = "-deep LBR", "Architectural LBR", "Hybrid events"
#: Haswell and Broadwell, whose records are LBR_FORMAT_EIP_FLAGS2; Skylake to Rocket Lake: LBR_FORMAT_INFO, _INFO2.
_FLAGS2 = frozenset((0x3C, 0x3F, 0x45, 0x46, 0x3D, 0x47, 0x4F, 0x56))
_INFO = frozenset((0x4E, 0x5E, 0x55, 0x8E, 0x9E, 0xA5, 0xA6, 0x6A, 0x6C, 0x7D, 0x7E, 0x9D, 0x8C, 0x8D, 0xA7))
#: Leaf 28 of CPUID, ecx: what an architectural record tells of a branch.
_LEAF, _BITS = 28, {"mispred": 1, "cycles": 2, "type": 4}


def _model(facts: Facts) -> int | None:
    return facts.model if facts.vendor == "intel" and facts.family == 6 else None


def _line(facts: Facts) -> str:
    return facts.machine.logged(_LINE) or ""


def _record(part: str) -> Rule:
    """Whether a record has a part: that a branch was mispredicted, how many cycles passed, which kind it is."""

    def rule(query: KeyQuery) -> Answer | None:
        facts, line = query.facts, _line(query.facts)
        if _ARCHITECTURAL in line:
            leaf = facts.machine.cpuid.get((_LEAF, 0))
            if leaf is not None:
                return Answer(bool(leaf["ecx"] & _BITS[part]), f"cpuid leaf {_LEAF:#x} ecx is {leaf['ecx']:#x}")
            return Answer(True, f'assumed, by the log: "{_ARCHITECTURAL}"')
        if _DEEP in line and part != "type" and _model(facts) in _INFO:
            return Answer(True, f'log: "{_DEEP}"; {facts.cpu}')
        return None

    return rule


def _extends_sign(query: KeyQuery) -> Answer | None:
    """lbr_from_signext_quirk_needed(): a CPU whose records have bits of TSX, and that has none (any more)."""
    facts = query.facts
    if _DEEP not in _line(facts) or _model(facts) not in _FLAGS2 or facts.machine.flags is None:
        return None
    found = next((flag for flag in ("hle", "rtm") if facts.has(flag)), None)
    return Answer(found is None, f'log: "{_DEEP}"; {facts.cpu}; {found or "no hle and no rtm"}')


def _hybrid(query: KeyQuery) -> Answer | None:
    return Answer(True, f'log: "{_HYBRID}"') if _HYBRID in _line(query.facts) else None


_INIT = "arch/x86/events/intel/lbr.c: intel_pmu_lbr_init(), intel_pmu_arch_lbr_init()"

#: Key → rule.
RULES: Mapping[str, Entry] = {
    **{f"x86_lbr_{part}": Entry(_record(part), _INIT) for part in _BITS},
    "lbr_from_quirk_key": Entry(_extends_sign, "arch/x86/events/intel/lbr.c: lbr_from_signext_quirk_needed()"),
    "perf_is_hybrid": Entry(_hybrid, "arch/x86/events/intel/core.c: intel_pmu_init_hybrid()"),
}
