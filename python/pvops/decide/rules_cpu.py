"""Features that the identification of the CPU sets: arch/x86/kernel/cpu/{common,amd,hygon,intel,centaur,zhaoxin,tsx}.c.

Of 5.10.262, 6.1.192, 6.12.117 and 7.2.13, where they differ with the version.
"""

from __future__ import annotations

from pvops.decide.answers import Answer, Facts
from pvops.decide.registry import rule

_Models = tuple[tuple[int, int], ...]

_ZENS: dict[int, dict[int, _Models]] = {
    # family → generation → ranges of models (bsp_init_amd()).
    0x17: {1: ((0x00, 0x2F), (0x50, 0x5F)), 2: ((0x30, 0x4F), (0x60, 0x7F), (0x90, 0x91), (0xA0, 0xAF))},
    0x19: {3: ((0x00, 0x0F), (0x20, 0x5F)), 4: ((0x10, 0x1F), (0x60, 0xAF))},
    0x1A: {5: ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F), (0xD0, 0xD7))},
}
_ZEN_6 = ((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF), (0xD8, 0xEF))


@rule("common.c: early_identify_cpu()", "ALWAYS")
def always(facts: Facts) -> Answer:
    """Set on every CPU."""
    return Answer(True, "every CPU has it")


@rule("amd.c: init_amd(); intel.c: init_intel(); hygon.c, centaur.c, zhaoxin.c", "LFENCE_RDTSC")
def lfence_rdtsc(facts: Facts) -> Answer:
    """lfence stops rdtsc: Intel and, since 5.4, AMD and Hygon CPUs with SSE2; all Zhaoxin, Centaur in 64 bits."""
    if facts.vendor in ("intel", "amd", "hygon"):
        sse2 = facts.flag("sse2")
        if facts.amd and facts.version < (5, 4):
            why = "before 5.4 AMD's lfence counts where an MSR says so, which guests mostly do not see"
            if facts.xen_pv.value:  # xen/arch/x86/cpu/amd.c: amd_init_lfence(), 4.11 and later
                why = "before 5.4 AMD's lfence counts where an MSR says so, which Xen sets and shows to PV guests"
            return Answer(None if sse2 else sse2, why, bool(facts.xen_pv.value))
        return Answer(sse2, f"{facts.vendor}, {'sse2' if sse2 else 'no sse2'} in /proc/cpuinfo's flags", True)
    if facts.vendor == "zhaoxin" or (facts.vendor == "centaur" and facts.bits == 64):
        return Answer(True, f"every {facts.vendor} CPU has it")
    return Answer(None if facts.vendor is None else False, facts.cpu, True)


@rule("amd.c: init_amd(); hygon.c: init_hygon()", "MFENCE_RDTSC")
def mfence_rdtsc(facts: Facts) -> Answer:
    """mfence stops rdtsc: AMD and Hygon CPUs with SSE2 before 5.4, whose lfence is not known to."""
    if facts.version >= (5, 4):
        return Answer(False, "since 5.4 lfence does on every AMD CPU")
    if facts.vendor is None or not facts.amd:
        return Answer(None if facts.vendor is None else False, facts.cpu)
    lfence = lfence_rdtsc(facts)
    return Answer(lfence.value, lfence.source, lfence.value is None and not lfence.guess)


@rule("amd.c: init_amd()", "FXSAVE_LEAK")
def fxsave_leak(facts: Facts) -> Answer:
    """The FPU's error pointers leak between processes: AMD's CPUs of families 6 and later (a feature to 4.0)."""
    if facts.vendor is None:
        return Answer(None, facts.cpu)
    mended = facts.version >= (4, 19) and facts.has("xsaveerptr")
    return Answer(facts.vendor == "amd" and facts.family >= 6 and not mended, facts.cpu)


@rule("amd.c: init_amd()", "SYSRET_SS_ATTRS")
def sysret_ss_attrs(facts: Facts) -> Answer:
    """SYSRET leaves SS's attributes as they are: AMD's CPUs (a bug since 4.1), but under Xen PV, which sets them."""
    if facts.xen_pv.value:
        return Answer(False, facts.xen_pv.source)
    return Answer(None if facts.vendor is None else facts.vendor == "amd", facts.cpu)


@rule("common.c: identify_cpu(); amd.c: init_amd(); hygon.c: init_hygon()", "APIC_MSRS_FENCE")
def apic_msrs_fence(facts: Facts) -> Answer:
    """Writes of the APIC's MSRs want a fence on all CPUs but AMD's and Hygon's."""
    return Answer(None if facts.vendor is None else not facts.amd, facts.cpu, not facts.amd)


@rule("amd.c: early_init_amd(); hygon.c: early_init_hygon(); xen/setup.c: xen_enable_syscall()", "SYSCALL32")
def syscall32(facts: Facts) -> Answer:
    """SYSCALL from 32-bit programs: AMD and Hygon CPUs under a 64-bit kernel, unless FRED took over."""
    if facts.bits == 32 or facts.has("fred"):
        return Answer(False, "a 32-bit kernel" if facts.bits == 32 else "fred in /proc/cpuinfo's flags")
    return Answer(None if facts.vendor is None else facts.amd, facts.cpu, facts.amd)


@rule("intel.c: early_init_intel(); centaur.c, zhaoxin.c; xen/setup.c: xen_enable_sysenter()", "SYSENTER32")
def sysenter32(facts: Facts) -> Answer:
    """SYSENTER from 32-bit programs: Intel, Centaur and Zhaoxin CPUs under a 64-bit kernel, unless FRED took over."""
    if facts.bits == 32 or facts.has("fred"):
        return Answer(False, "a 32-bit kernel" if facts.bits == 32 else "fred in /proc/cpuinfo's flags")
    known = facts.vendor in ("intel", "centaur", "zhaoxin")
    return Answer(None if facts.vendor is None else known, facts.cpu, known)


@rule("common.c: get_cpu_cap(); fred.c", "SYSFAST32")
def sysfast32(facts: Facts) -> Answer:
    """A fast system call for 32-bit programs: every 64-bit kernel, or SEP; not with FRED."""
    if facts.has("fred"):
        return Answer(False, "fred in /proc/cpuinfo's flags")
    if facts.bits == 64:
        return Answer(True, "a 64-bit kernel")
    return Answer(facts.flag("sep"), "sep in /proc/cpuinfo's flags", True)


@rule("amd.c: init_amd_zen_common(); hygon.c: init_hygon()", "ZEN")
def zen(facts: Facts) -> Answer:
    """Any Zen: AMD from family 0x17 on (to 6.6 families 0x17 and 0x19), and Hygon."""
    if facts.vendor == "hygon":
        return Answer(True, "every Hygon CPU")
    families = (0x17, 0x19) if facts.version < (6, 7) else range(0x17, 0x100)
    on = facts.vendor == "amd" and facts.family in families
    return Answer(None if facts.vendor is None else on, facts.cpu)


def _zen(facts: Facts, generation: int) -> Answer:
    if facts.vendor != "amd":
        return Answer(None if facts.vendor is None else False, facts.cpu)
    ranges: _Models = _ZENS.get(facts.family, {}).get(generation, ())
    if generation == 6 and facts.family == 0x1A:
        ranges = _ZEN_6
    return Answer(any(low <= facts.model <= high for low, high in ranges), facts.cpu)


for _generation in range(1, 7):

    def _of(facts: Facts, generation: int = _generation) -> Answer:
        return _zen(facts, generation)

    rule("amd.c: bsp_init_amd()", f"ZEN{_generation}")(_of)


@rule("amd.c: bsp_init_amd(); hygon.c: bsp_init_hygon()", "LS_CFG_SSBD")
def ls_cfg_ssbd(facts: Facts) -> Answer:
    """SSBD through MSR LS_CFG: families 0x15 to 0x17 (Hygon 0x18) without a feature of their own for it.

    It forces SSBD too, so that ``ssbd`` in /proc/cpuinfo tells that the MSR could be read.
    """
    families = range(0x15, 0x18) if facts.vendor == "amd" else range(0x18, 0x19)
    if not facts.amd or facts.family not in families:
        return Answer(None if facts.vendor is None else False, facts.cpu)
    if facts.machine.flags is None:
        return Answer(None, "nothing tells ssbd", True)
    if not facts.has("ssbd"):
        return Answer(False, "no ssbd in /proc/cpuinfo's flags")
    if facts.has("virt_ssbd"):
        return Answer(False, "virt_ssbd in /proc/cpuinfo's flags")
    own = amd_ssbd(facts)
    return Answer(not own.best, f"{facts.cpu} with ssbd; AMD_SSBD: {own.source}")


@rule("CPUID 0x80000008 ebx bit 24", "AMD_SSBD")
def amd_ssbd(facts: Facts) -> Answer:
    """SSBD in MSR SPEC_CTRL on AMD CPUs.

    Only ``ssbd`` is printed, which LS_CFG forces too. CPUs that have SSBD in SPEC_CTRL have IBRS or STIBP there.
    """
    leaf = facts.machine.cpuid.get((0x80000008, 0))
    if leaf is not None:
        on = bool(leaf["ebx"] >> 24 & 1)
        return Answer(on, f"cpuid leaf 0x80000008 ebx bit 24 is {'set' if on else 'not set'}")
    if not facts.has("ssbd"):
        return Answer(None if facts.machine.flags is None else False, "no ssbd in /proc/cpuinfo's flags")
    if facts.vendor == "intel":
        return Answer(None, "an Intel CPU with ssbd, which SPEC_CTRL_SSBD explains")
    if facts.has("virt_ssbd") or (facts.amd and facts.family < 0x17):
        return Answer(False, f"ssbd is explained otherwise ({facts.cpu})")
    spec_ctrl = facts.has("ibrs") or facts.has("stibp")
    return Answer(spec_ctrl, f"ssbd and {'' if spec_ctrl else 'neither '}ibrs or stibp in /proc/cpuinfo's flags")


@rule("CPUID 7 edx bit 31", "SPEC_CTRL_SSBD")
def spec_ctrl_ssbd(facts: Facts) -> Answer:
    """SSBD in MSR SPEC_CTRL on Intel CPUs."""
    leaf = facts.machine.cpuid.get((7, 0))
    if leaf is not None:
        on = bool(leaf["edx"] >> 31 & 1)
        return Answer(on, f"cpuid leaf 7 edx bit 31 is {'set' if on else 'not set'}")
    if facts.vendor != "intel":
        return Answer(None if facts.vendor is None else False, facts.cpu)
    return Answer(facts.flag("ssbd"), f"an Intel CPU with{'' if facts.has('ssbd') else 'out'} ssbd")


@rule("common.c: init_speculation_control()", "MSR_SPEC_CTRL")
def msr_spec_ctrl(facts: Facts) -> Answer:
    """The MSR is there: with SPEC_CTRL on Intel; IBRS, STIBP or SSBD of its own on AMD."""
    if facts.machine.flags is None:
        return Answer(None, "nothing tells ibrs, stibp and ssbd")
    for name in ("ibrs", "stibp") if facts.amd else ("ibrs",):
        if facts.has(name):
            return Answer(True, f"{name} in /proc/cpuinfo's flags")
    return Answer(bool(amd_ssbd(facts).value), "neither ibrs, stibp nor AMD_SSBD")


@rule("tsx.c: tsx_init()", "MSR_TSX_CTRL")
def msr_tsx_ctrl(facts: Facts) -> Answer:
    """MSR_IA32_TSX_CTRL, which IA32_ARCH_CAPABILITIES announces and no file shows."""
    if facts.vendor != "intel":
        return Answer(None if facts.vendor is None else False, facts.cpu)
    if facts.flag("arch_capabilities") is False:
        return Answer(False, "no arch_capabilities in /proc/cpuinfo's flags")
    if facts.state("tsx_async_abort") == "Mitigation: TSX disabled":
        return Answer(True, "vulnerabilities/tsx_async_abort: 'Mitigation: TSX disabled'")
    return Answer(None, "IA32_ARCH_CAPABILITIES is not among the facts")


@rule("fpu/xstate.c: fpu__init_system_xstate()", "XCOMPACTED")
def xcompacted(facts: Facts) -> Answer:
    """The compacted XSAVE format: with XSAVEC or XSAVES."""
    if facts.machine.flags is None:
        return Answer(None, "nothing tells xsavec and xsaves")
    name = next((n for n in ("xsaves", "xsavec") if facts.has(n)), None)
    return Answer(
        name is not None and facts.has("xsave"), f"{name or 'neither xsavec nor xsaves'} in /proc/cpuinfo's flags"
    )


@rule("fpu/xstate.c: fpu__init_system_xstate()", "OSXSAVE")
def osxsave(facts: Facts) -> Answer:
    """CR4.OSXSAVE is on where the CPU has XSAVE."""
    return Answer(facts.flag("xsave"), f"{'' if facts.has('xsave') else 'no '}xsave in /proc/cpuinfo's flags", True)


@rule("amd.c: init_amd(); CPUID 7/1 eax bit 11", "FSRS")
def fsrs(facts: Facts) -> Answer:
    """Fast short rep stosb: AMD's FSRM implies it; Intel's CPUs announce it."""
    leaf = facts.machine.cpuid.get((7, 1))
    if leaf is not None and leaf["eax"] >> 11 & 1:
        return Answer(True, "cpuid leaf 7/1 eax bit 11 is set")
    if facts.amd:
        return Answer(facts.flag("fsrm"), f"an AMD CPU with{'' if facts.has('fsrm') else 'out'} fsrm")
    if leaf is not None or not facts.has("fsrm"):
        return Answer(False, "cpuid leaf 7/1 eax bit 11 is not set" if leaf is not None else "no fsrm")
    return Answer(None, "cpuid leaf 7/1 is not among the facts", facts.has("amx_tile") and not facts.virtual)


@rule("amd.c: init_amd_k6()", "K6_MTRR")
def k6_mtrr(facts: Facts) -> Answer:
    """MTRRs of the later K6."""
    late = facts.model in (9, 13) or (facts.model == 8 and (facts.machine.stepping or 0) >= 8)
    on = facts.vendor == "amd" and facts.family == 5 and late and facts.bits == 32
    return Answer(None if facts.vendor is None else on, facts.cpu)


@rule("cyrix.c: init_cyrix(); centaur.c: init_centaur()", "CYRIX_ARR", "CENTAUR_MCR")
def old_mtrr(facts: Facts) -> Answer:
    """Memory types of Cyrix and early Centaur CPUs, which no 64-bit CPU has."""
    if facts.vendor in ("cyrix", "centaur") and facts.family < 6:
        return Answer(None, facts.cpu)
    return Answer(None if facts.vendor is None else False, facts.cpu)
