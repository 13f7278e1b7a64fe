"""The CPUs of the presets (`pvops.machine.presets`), as data, and what each says of a machine.

A preset is a CPU as Linux 6.1 prints it in /proc/cpuinfo (vendor, family, model, stepping, flags, bugs), bare, with two
CPUs and an empty command line. The flags are those of the hardware with current microcode; what a firmware may switch
off (SMT, TSX) is off. No mitigations are recorded: they follow from the CPU and the command line by the kernel's own
rules (`pvops.decide.mitigations`). Options that only take a flag away (``nosmap``, ``clearcpuid=``) do not change the
flags of a preset. What a real machine prints is better than any preset; ``pvops machine`` collects it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pvops.errors import MachineError, there_are
from pvops.machine import cmdline as _cmdline
from pvops.machine.given import Given, flags_under, hypervisor_named
from pvops.tuples import NamedTuple

_X86_64 = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx "
    "lm constant_tsc rep_good nopl nonstop_tsc cpuid aperfmperf pni monitor ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
)
_AVX2 = (
    "pdpe1gb rdtscp pclmulqdq fma movbe aes xsave avx f16c rdrand abm 3dnowprefetch fsgsbase bmi1 avx2 smep bmi2 "
    "erms xsaveopt"
)
_SKYLAKE = "rdseed adx smap clflushopt xsavec xgetbv1 xsaves"
_AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"
_AVX512_2 = "avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq gfni vaes vpclmulqdq"
_INTEL = (
    "dts acpi ss tm pbe arch_perfmon pebs bts xtopology dtes64 ds_cpl vmx smx est tm2 sdbg xtpr pdcm pcid dca x2apic "
    "tsc_deadline_timer cpuid_fault epb ssbd ibrs ibpb stibp tpr_shadow vnmi flexpriority ept vpid ept_ad tsc_adjust "
    "invpcid dtherm ida arat pln pts md_clear flush_l1d"
)
_AMD = (
    "mmxext fxsr_opt extd_apicid cmp_legacy svm extapic cr8_legacy sse4a misalignsse osvw ibs skinit wdt tce topoext "
    "perfctr_core perfctr_nb bpext perfctr_llc mwaitx cpb hw_pstate ssbd ibpb stibp vmmcall clwb sha_ni clzero irperf "
    "xsaveerptr rdpru wbnoinvd arat npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists "
    "pausefilter pfthreshold avic v_vmsave_vmload vgif umip rdpid overflow_recov succor smca"
)
_SPECTRE = "spectre_v1 spectre_v2 spec_store_bypass"


class Preset(NamedTuple):
    """A CPU.

    Attributes:
        model_name, vendor, family, model, stepping: as /proc/cpuinfo has them.
        flags: names of its features, but for ``hypervisor`` and ``pti``, which depend on the boot.
        bugs: names of its bugs, as 6.1.192 lists them.
    """

    model_name: str
    vendor: str
    family: int
    model: int
    stepping: int
    flags: str
    bugs: str


_PRESETS = {
    "intel-nehalem": Preset(
        "Intel(R) Xeon(R) CPU X5570 @ 2.93GHz",
        *("GenuineIntel", 6, 26, 5),
        f"{_X86_64} rdtscp dts acpi ss tm pbe arch_perfmon pebs bts xtopology dtes64 ds_cpl vmx est tm2 xtpr pdcm dca "
        "ssbd ibrs ibpb stibp tpr_shadow vnmi flexpriority ept vpid dtherm ida flush_l1d",
        f"cpu_meltdown {_SPECTRE} l1tf mds swapgs itlb_multihit mmio_unknown",
    ),
    "intel-haswell": Preset(
        "Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz",
        *("GenuineIntel", 6, 63, 2),
        f"{_X86_64} {_AVX2} {_INTEL} cqm cqm_llc cqm_occup_llc",
        f"cpu_meltdown {_SPECTRE} l1tf mds swapgs itlb_multihit mmio_unknown",
    ),
    "intel-skylake-server": Preset(
        "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz",
        *("GenuineIntel", 6, 85, 4),
        f"{_X86_64} {_AVX2} {_INTEL} {_SKYLAKE} {_AVX512} clwb mpx pku ospke intel_pt cat_l3 cdp_l3 mba rdt_a",
        f"cpu_meltdown {_SPECTRE} l1tf mds swapgs taa itlb_multihit mmio_stale_data retbleed gds bhi",
    ),
    "intel-cascadelake-server": Preset(
        "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz",
        *("GenuineIntel", 6, 85, 7),
        f"{_X86_64} {_AVX2} {_INTEL} {_SKYLAKE} {_AVX512} ibrs_enhanced clwb mpx pku ospke avx512_vnni intel_pt "
        "cat_l3 cdp_l3 mba rdt_a arch_capabilities",
        f"{_SPECTRE} swapgs taa itlb_multihit mmio_stale_data retbleed eibrs_pbrsb gds bhi its",
    ),
    "intel-icelake-server": Preset(
        "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz",
        *("GenuineIntel", 6, 106, 6),
        f"{_X86_64} {_AVX2} {_INTEL} {_SKYLAKE} {_AVX512} {_AVX512_2} ibrs_enhanced clwb sha_ni umip pku ospke rdpid "
        "fsrm wbnoinvd la57 tme pconfig intel_pt cat_l3 mba rdt_a split_lock_detect arch_capabilities",
        f"{_SPECTRE} swapgs itlb_multihit mmio_stale_data eibrs_pbrsb gds bhi its",
    ),
    "intel-sapphirerapids-server": Preset(
        "Intel(R) Xeon(R) Platinum 8480+",
        *("GenuineIntel", 6, 143, 8),
        f"{_X86_64} {_AVX2} {_INTEL} {_SKYLAKE} {_AVX512} {_AVX512_2} ibrs_enhanced clwb sha_ni umip pku ospke rdpid "
        "fsrm wbnoinvd la57 tme pconfig intel_pt cat_l3 cat_l2 cdp_l3 cdp_l2 mba rdt_a split_lock_detect "
        "bus_lock_detect avx_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8 waitpkg cldemote movdiri "
        "movdir64b enqcmd serialize tsxldtrk arch_lbr tsc_known_freq arch_capabilities",
        f"{_SPECTRE} swapgs eibrs_pbrsb bhi",
    ),
    "amd-epyc-rome": Preset(
        "AMD EPYC 7742 64-Core Processor",
        *("AuthenticAMD", 23, 49, 0),
        f"{_X86_64} {_AVX2} {_SKYLAKE} {_AMD} cqm cat_l3 cdp_l3 mba rdt_a",
        f"sysret_ss_attrs {_SPECTRE} retbleed smt_rsb srso",
    ),
    "amd-epyc-milan": Preset(
        "AMD EPYC 7763 64-Core Processor",
        *("AuthenticAMD", 25, 1, 1),
        f"{_X86_64} {_AVX2} {_SKYLAKE} {_AMD} ibrs pcid x2apic invpcid erms fsrm pku ospke vaes vpclmulqdq cqm cat_l3 "
        "cdp_l3 mba rdt_a brs",
        f"sysret_ss_attrs {_SPECTRE} srso",
    ),
    "amd-epyc-genoa": Preset(
        "AMD EPYC 9654 96-Core Processor",
        *("AuthenticAMD", 25, 17, 1),
        f"{_X86_64} {_AVX2} {_SKYLAKE} {_AMD} {_AVX512} {_AVX512_2} avx512_bf16 ibrs ibrs_enhanced pcid x2apic invpcid "
        "fsrm pku ospke la57 flush_l1d amd_lbr_v2 perfmon_v2 cqm cat_l3 cdp_l3 mba rdt_a x2avic v_spec_ctrl vnmi",
        f"sysret_ss_attrs {_SPECTRE} srso",
    ),
}

NAMES = tuple(_PRESETS)

#: First release of a time → a CPU that was usual in servers then.
_USUAL = (
    ((6, 6), "intel-sapphirerapids-server"),
    ((5, 11), "intel-icelake-server"),
    ((5, 4), "intel-cascadelake-server"),
    ((4, 14), "intel-skylake-server"),
    ((3, 11), "intel-haswell"),
    ((0, 0), "intel-nehalem"),
)


def usual(release: str | None) -> str:
    """The preset of a CPU that was usual when a kernel came out; of one without a release, that of the newest."""
    found = re.match(r"(\d{1,3})\.(\d{1,3})", release or "")
    version = (int(found[1]), int(found[2])) if found else _USUAL[0][0]
    return next(name for first, name in _USUAL if version >= first)


def given(name: str, *, cpus: int = 2, hypervisor: str = "none", cmdline: str = "") -> Given:
    """What a preset says of a machine; the arguments are those of `pvops.machine.presets.machine`."""
    if name not in _PRESETS:
        raise MachineError(f"no preset {name!r}{there_are(name, NAMES)}", reason="no such preset")
    if cpus < 1:
        raise MachineError(f"preset {name}: {cpus} CPUs; a machine has at least one", reason="no CPU")
    preset, hypervisor = _PRESETS[name], hypervisor_named(hypervisor, name)
    flags, bugs = set(preset.flags.split()), preset.bugs.split()
    if _isolates_page_tables(bugs, cmdline):
        flags.add("pti")
    sources = {"possible_cpus": f"preset {name}"}
    if hypervisor == "none":
        sources["hypervisor"] = f"preset {name}"
    return Given(
        name=name,
        vendor=preset.vendor,
        family=preset.family,
        model=preset.model,
        stepping=preset.stepping,
        model_name=preset.model_name,
        flags=flags_under(flags, hypervisor),
        bugs=bugs,
        siblings=cpus,
        cores=cpus,
        online_cpus=cpus,
        possible_cpus=cpus,
        cmdline=cmdline,
        hypervisor=hypervisor,
        told_by=sources,
    )


def _isolates_page_tables(bugs: Sequence[str], cmdline: str) -> bool:
    """Whether the kernel sets ``pti`` (6.1 arch/x86/mm/pti.c: pti_check_boottime_disable(), but for Xen PV)."""
    options = tuple(_cmdline.options(cmdline))
    asked = _cmdline.value(options, "pti")
    if asked in ("on", "off"):
        return asked == "on"
    off = _cmdline.has(options, "nopti") or _cmdline.value(options, "mitigations") == "off"
    return "cpu_meltdown" in bugs and (asked == "auto" or not off)
