"""Features that the selection of mitigations forces or clears: arch/x86/kernel/cpu/bugs.c of 5.10, 6.1, 6.12 and 7.2.

Function names are those of 6.12; since 6.16 the same decisions stand in ``*_apply_mitigation()``.
"""

from __future__ import annotations

from pvops.decide.answers import Answer, Facts
from pvops.decide.mitigations import Mitigations, mode_alone, on_line
from pvops.decide.registry import rule

_SPLIT = (6, 16)


def _mitigations(facts: Facts) -> Mitigations:
    found = facts.__dict__.get("mitigations")
    if not isinstance(found, Mitigations):
        found = facts.__dict__["mitigations"] = Mitigations(facts)
    return found


@rule("bugs.c: spectre_v2_select_mitigation()", "RETPOLINE")
def retpoline(facts: Facts) -> Answer:
    """Retpolines, alone or with eIBRS, and the lfence variants."""
    return _mitigations(facts).retpoline


@rule("bugs.c: spectre_v2_select_mitigation()", "RETPOLINE_LFENCE")
def retpoline_lfence(facts: Facts) -> Answer:
    """spectre_v2=retpoline,lfence or eibrs,lfence."""
    return _mitigations(facts).mode_is("lfence", "eibrs,lfence")


@rule("bugs.c: spectre_v2_select_mitigation()", "KERNEL_IBRS")
def kernel_ibrs(facts: Facts) -> Answer:
    """Plain IBRS on entry, on Intel CPUs with the retbleed bug."""
    return _mitigations(facts).mode_is("ibrs")


@rule("mm/kaiser.c: kaiser_check_boottime_disable() of stable 3.16, 4.4 and 4.9", "KAISER")
def kaiser(facts: Facts) -> Answer:
    """Page tables apart for users, in kernels before 4.14: on all CPUs but AMD's."""
    for said in ("enabled", "disabled"):
        if facts.logged(line := f"Kernel/User page tables isolation: {said}"):
            return Answer(said == "enabled", f'log: "{line}"')
    asked = facts.option("pti")
    if asked == "on":
        return Answer(True, "pti=on on the command line")
    if off := on_line(facts.given("nopti", "nokaiser")) or on_line("pti=off" if asked == "off" else None):
        return Answer(False, off)
    if facts.xen_pv.best:
        return Answer(False, facts.xen_pv.source)
    if facts.vendor is None:
        return Answer(None, "nothing tells the CPU's vendor", True)
    return Answer(facts.vendor != "amd", f"{facts.cpu}, and nothing turns it on or off")


@rule("bugs.c: spectre_v2_select_rsb_mitigation()", "RSB_CTXSW")
def rsb_filling(facts: Facts) -> Answer:
    """Filling the RSB: with retpolines, lfence and IBRS; to 6.0-stable with any mode but off."""
    text = _spectre_v2(facts)
    if text is not None:
        on = "RSB filling" in _parts(text)
        if not on and facts.version < (4, 20) and text.startswith("Mitigation: Full"):
            line = "Filling RSB on context switch"
            if (said := facts.logged(line)) is not None:
                return Answer(said, f'log: {"" if said else "no "}"{line}"')
            return Answer(None, "before 4.20 vulnerabilities/spectre_v2 says nothing of filling the RSB", True)
        return Answer(on, f"vulnerabilities/spectre_v2 {'says' if on else 'does not say'} 'RSB filling'")
    modes = ["retpoline", "lfence", "ibrs"]
    if facts.version < (6, 0):
        modes += ["eibrs", "eibrs,lfence", "eibrs,retpoline"]
    return _mitigations(facts).mode_is(*modes)


@rule("bugs.c: spectre_v2_select_rsb_mitigation(), retbleed_, srso_select_mitigation()", "RSB_VMEXIT")
def rsb_on_exit(facts: Facts) -> Answer:
    """Filling it when a guest was left: likewise, but where IBPB on entry or on that way empties it."""
    mitigations = _mitigations(facts)
    text = facts.state("spec_rstack_overflow") or ""
    ibpb = "ibpb" in (mitigations.retbleed[0], mitigations.srso[0]) or text.startswith("Mitigation: IBPB on VMEXIT")
    answer = rsb_filling(facts)
    if not ibpb or not answer.best:
        return answer
    # 6.1.192 and 6.12.117 clear the feature then; older stable kernels did not.
    return Answer(False if facts.version >= (6, 12) else None, f"{answer.source}; IBPB empties it")


@rule("bugs.c: spectre_v2_user_select_mitigation()", "USE_IBPB")
def use_ibpb(facts: Facts) -> Answer:
    """IBPB between processes: where the CPU has it and spectre_v2_user= does not turn it off."""
    if facts.flag("ibpb") is False:
        return Answer(False, "no ibpb in /proc/cpuinfo's flags")
    text = facts.state("spectre_v2")
    if text is not None and (said := next((p for p in _parts(text) if p.startswith("IBPB: ")), None)):
        return Answer(said != "IBPB: disabled", f"vulnerabilities/spectre_v2: {said!r}")
    mitigations = _mitigations(facts)
    if why := mitigations.off or on_line(facts.given("nospectre_v2")):
        return Answer(False, why)
    for name in ("spectre_v2", "spectre_v2_user"):
        if facts.option(name) == "off":
            return Answer(False, f"{name}=off on the command line")
    return Answer(facts.flag("ibpb"), "the CPU has ibpb")


@rule("bugs.c: spectre_v2_select_mitigation()", "USE_IBRS_FW")
def use_ibrs_fw(facts: Facts) -> Answer:
    """IBRS around firmware calls: where the CPU has it, spectre_v2 does not use it, and IBPB does not do the same."""
    text = _spectre_v2(facts)
    if text is not None:
        on = "IBRS_FW" in _parts(text)
        return Answer(on, f"vulnerabilities/spectre_v2 {'says' if on else 'does not say'} 'IBRS_FW'")
    mode, source, _ = _mitigations(facts).spectre_v2
    if mode == "off" and facts.bug("spectre_v2") is False:
        return Answer(False, source)
    ibrs = facts.flag("ibrs")
    on = bool(ibrs) and mode is not None and mode != "off" and "ibrs" not in mode and not _ibpb_fw(facts)
    return Answer(None if ibrs is None else on, f"{source}; {'' if ibrs else 'no '}ibrs in /proc/cpuinfo's flags")


@rule("bugs.c: spectre_v2_select_mitigation()", "USE_IBPB_FW")
def use_ibpb_fw(facts: Facts) -> Answer:
    """IBPB before firmware calls: AMD and Hygon CPUs with the retbleed bug and IBPB."""
    line = "Enabling Speculation Barrier for firmware calls"
    if (said := facts.logged(line)) is not None:
        return Answer(said, f'log: {"" if said else "no "}"{line}"')
    mode, source, _ = _mitigations(facts).spectre_v2
    if not facts.amd:
        return Answer(False, f"no AMD CPU ({facts.cpu})")
    if mode == "off" and (facts.version >= _SPLIT or _mitigations(facts).off or facts.option("spectre_v2") == "off"):
        return Answer(False, source)
    on = _ibpb_fw(facts)
    return Answer(
        on, "an AMD CPU with the retbleed bug and ibpb" if on else "no retbleed bug, no ibpb, or retbleed=ibpb"
    )


def _ibpb_fw(facts: Facts) -> bool:
    """To 6.15 retbleed=ibpb keeps it from being done, since then that IBPB is chosen."""
    mitigations = _mitigations(facts)
    chosen = mitigations.retbleed[0] if facts.version >= _SPLIT else mitigations.asked_of_retbleed
    return facts.amd and bool(facts.bug("retbleed")) and facts.has("ibpb") and chosen != "ibpb"


@rule("bugs.c: retbleed_select_mitigation(), srso_select_mitigation(), its_select_mitigation()", "RETHUNK")
def rethunk(facts: Facts) -> Answer:
    """Returns through a thunk."""
    return _mitigations(facts).returns[0]


@rule("bugs.c: retbleed_select_mitigation(), srso_select_mitigation()", "UNRET")
def unret(facts: Facts) -> Answer:
    """Untraining on entry: retbleed's, or as part of SRSO's safe return."""
    mitigations = _mitigations(facts)
    (forced, source), (srso, why) = mitigations.retbleed, mitigations.srso
    if srso == "safe-ret":
        return Answer(True, why)
    if srso == "ibpb":
        return Answer(False, f"{why}: IBPB on entry needs no untraining")
    return Answer(None if forced is None else forced == "unret", source, mitigations.untrains)


@rule("bugs.c: retbleed_select_mitigation(), srso_select_mitigation()", "ENTRY_IBPB")
def entry_ibpb(facts: Facts) -> Answer:
    """IBPB on entry."""
    mitigations = _mitigations(facts)
    (forced, source), (srso, why) = mitigations.retbleed, mitigations.srso
    if srso == "ibpb":
        return Answer(True, why)
    return Answer(None if forced is None else forced == "ibpb", source)


@rule("bugs.c: srso_select_mitigation()", "SRSO", "SRSO_ALIAS")
def srso(facts: Facts) -> Answer:
    """Safe return; with the aliases of family 0x19 under a feature of its own. Split below by feature."""
    forced, source = _mitigations(facts).srso
    return Answer(forced == "safe-ret", source)


@rule("bugs.c: retbleed_select_mitigation(), its_select_mitigation()", "CALL_DEPTH")
def call_depth(facts: Facts) -> Answer:
    """Call depth tracking: retbleed=stuff or indirect_target_selection=stuff."""
    mitigations = _mitigations(facts)
    (forced, source), (its, why) = mitigations.retbleed, mitigations.its
    if its == "stuff":
        return Answer(True, why)
    return Answer(forced == "stuff", source)


@rule("bugs.c: its_select_mitigation()", "INDIRECT_THUNK_ITS")
def its_thunk(facts: Facts) -> Answer:
    """Aligned thunks for indirect branches, where there are no retpolines."""
    mitigations = _mitigations(facts)
    forced, source = mitigations.its
    if forced != "thunks":
        return Answer(False, source)
    plain = mitigations.retpoline
    return Answer(None if plain.value is None else not plain.value, f"{source}; {plain.source}")


@rule("bugs.c: spectre_v1_select_mitigation()", "FENCE_SWAPGS_KERNEL")
def fence_swapgs_kernel(facts: Facts) -> Answer:
    """lfence on entries without swapgs: where SMAP does not hold speculatively, since 5.9 with FSGSBASE too.

    978e1342c3c4 (5.9): user space chooses the kernel's GS base itself only where FSGSBASE is enabled.
    """
    mitigations = _mitigations(facts)
    text = facts.state("spectre_v1")
    if text is not None and "Mitigation: usercopy/swapgs barriers" not in text:
        return Answer(False, f"vulnerabilities/spectre_v1: {text!r}")
    if text is None:
        if why := mitigations.off or mitigations.spared("user_kernel") or on_line(facts.given("nospectre_v1")):
            return Answer(False, why)
        if facts.bug("spectre_v1") is False:
            return Answer(False, "spectre_v1 is not among the CPU's bugs")
    if facts.machine.flags is None:
        return Answer(None, "nothing tells fsgsbase and smap", True)
    if facts.version >= (5, 9) and facts.has("fsgsbase"):
        return Answer(True, "spectre_v1 is mitigated and the CPU has fsgsbase")
    if facts.has("smap") and not facts.bug("cpu_meltdown"):
        return Answer(False, "no fsgsbase, and smap works speculatively")
    return Answer(True, "spectre_v1 is mitigated and smap does not work speculatively")


@rule("bugs.c: spectre_v1_select_mitigation()", "FENCE_SWAPGS_USER")
def fence_swapgs_user(facts: Facts) -> Answer:
    """lfence after swapgs on entry from user space: CPUs with the swapgs bug and without PTI."""
    kernel = fence_swapgs_kernel(facts)
    if not kernel.best:
        return kernel
    if facts.machine.bugs is None or facts.machine.flags is None:
        return Answer(None, "nothing tells the swapgs bug and pti")
    if not facts.bug("swapgs"):
        return Answer(False, "swapgs is not among the CPU's bugs")
    on = not facts.has("pti") and not facts.has("kaiser")  # the flag of PTI in stable 4.4 and 4.9
    return Answer(on, f"the CPU has the swapgs bug and {'no ' if on else ''}pti")


@rule("bugs.c: mds_, taa_, mmio_, rfds_ and tsa_select_mitigation()", "CLEAR_CPU_BUF")
def clear_cpu_buf(facts: Facts) -> Answer:
    """VERW on exit to user space. MMIO alone does not force it: that is for guests of this kernel only."""
    for name in ("mds", "tsx_async_abort"):
        text = facts.state(name)
        if text and "Clear CPU buffers" in text:
            return Answer(True, f"vulnerabilities/{name}: {text!r}")
    text = facts.state("reg_file_data_sampling")
    if text == "Mitigation: Clear Register File":
        return Answer(True, f"vulnerabilities/reg_file_data_sampling: {text!r}")
    text = facts.state("tsa")
    if text and "Clear CPU buffers" in text and ": VM" not in text:
        if "no microcode" in text and (facts.version >= _SPLIT or not facts.virtual):
            return Answer(False, f"vulnerabilities/tsa: {text!r}, and no guest")
        return Answer(True, f"vulnerabilities/tsa: {text!r}")
    if not facts.machine.vulnerabilities and not _mitigations(facts).off:
        affected = bool(facts.bug("mds"))
        return Answer(None, "no vulnerabilities in the facts", affected)
    return Answer(False, "none of the vulnerabilities mds, tsx_async_abort, reg_file_data_sampling, tsa clears buffers")


@rule("bugs.c: bhi_select_mitigation()", "CLEAR_BHB_LOOP")
def clear_bhb_loop(facts: Facts) -> Answer:
    """The loop that clears the branch history, on system calls."""
    return _bhi(facts, "BHI: SW loop", "BHI: Syscall hardening")


@rule("bugs.c: spec_ctrl_bhi_dis()", "CLEAR_BHB_HW")
def clear_bhb_hw(facts: Facts) -> Answer:
    """BHI_DIS_S in the CPU."""
    return _bhi(facts, "BHI: BHI_DIS_S")


def _bhi(facts: Facts, *texts: str) -> Answer:
    text = facts.state("spectre_v2")
    if text is None:
        return Answer(False if facts.bug("bhi") is False else None, "no vulnerabilities/spectre_v2")
    if mode_alone(text):
        if facts.bug("bhi") is False:
            return Answer(False, "no bhi in /proc/cpuinfo's bugs")
        return Answer(None, f"vulnerabilities/spectre_v2: {text!r}, which does not tell BHI", "BHI: SW loop" in texts)
    said = next((part for part in _parts(text) if part.startswith("BHI: ")), None)
    if said is None:
        return Answer(False, "vulnerabilities/spectre_v2 has no BHI")
    return Answer(said in texts, f"vulnerabilities/spectre_v2: {said!r}")


def _spectre_v2(facts: Facts) -> str | None:
    """The text of vulnerabilities/spectre_v2 where it tells what is done besides the mode."""
    text = facts.state("spectre_v2")
    return None if text is None or text.startswith("Not affected") or mode_alone(text) else text


def _parts(text: str) -> list[str]:
    """The parts of spectre_v2's text: separated by commas in 5.10, by semicolons since 6.9 and its backports."""
    return [part.strip() for part in text.replace(";", ",").split(",")]


@rule("bugs.c: ssb_select_mitigation()", "SPEC_STORE_BYPASS_DISABLE")
def ssb_disable(facts: Facts) -> Answer:
    """Speculative store bypass off for everyone: spec_store_bypass_disable=on."""
    text = facts.state("spec_store_bypass")
    if text is None:
        return Answer(facts.option("spec_store_bypass_disable") == "on" and facts.has("ssbd"), "the command line")
    return Answer(
        text == "Mitigation: Speculative Store Bypass disabled", f"vulnerabilities/spec_store_bypass: {text!r}"
    )


@rule("bugs.c: vmscape_select_mitigation()", "IBPB_EXIT_TO_USER")
def ibpb_exit_to_user(facts: Facts) -> Answer:
    """IBPB before the return of a virtual machine monitor to user space."""
    text = facts.state("vmscape")
    if text is None:
        return Answer(False, "no vulnerabilities/vmscape")
    return Answer(text == "Mitigation: IBPB before exit to userspace", f"vulnerabilities/vmscape: {text!r}")


#: What an affected CPU alone decides, where no file of vulnerabilities does: feature → whose CPUs may be.
_AFFECTED = {"SRSO": "amd", "SRSO_ALIAS": "amd", "USE_IBPB_FW": "amd", "INDIRECT_THUNK_ITS": "intel"}


def where_told(feature: str, facts: Facts, answer: Answer) -> Answer:
    """An answer that stands on facts which do not say whether this kernel mitigates anything is a guess."""
    missing = _mitigations(facts).missing
    if missing is None or answer.value is None:
        return answer
    affected = facts.machine.bugs is None and feature in _AFFECTED and facts.vendor in (None, _AFFECTED[feature])
    return Answer(None, f"{missing}; {answer.source}", answer.value) if answer.value or affected else answer


def of_family(feature: str, facts: Facts, answer: Answer) -> Answer:
    """SRSO and SRSO_ALIAS share a rule: family 0x19 takes the aliased one, all others the plain one."""
    alias = facts.family == 0x19
    if answer.value and alias != (feature == "SRSO_ALIAS"):
        return Answer(False, f"{answer.source}, but family {facts.family:#x} takes SRSO{'_ALIAS' if alias else ''}")
    return answer


def return_thunk(facts: Facts) -> str | None:
    """The function that ``x86_return_thunk`` points to after the selection; None for the one it is built with."""
    return _mitigations(facts).returns[1]
