"""What ``cpu_select_mitigations()`` chose: as …/cpu/vulnerabilities says, else from what it looks at itself.

Sources: arch/x86/kernel/cpu/bugs.c of 5.10.262, 6.1.192, 6.12.117 and 7.2.13, the functions named in each rule. To 6.15
each ``*_select_mitigation()`` decides and forces features at once; since 6.16 ``*_apply_mitigation()`` does, after
all have decided.
"""

from __future__ import annotations

from functools import cached_property

from pvops.decide.answers import Answer, Facts
from pvops.decide.rules_cpu import lfence_rdtsc
from pvops.tuples import NamedTuple

_SPLIT = (6, 16)

#: Modes of spectre_v2, by how its text begins, and the feature that each forces.
_MODES = (
    ("Mitigation: Enhanced / Automatic IBRS + LFENCE", "eibrs,lfence"),
    ("Mitigation: Enhanced / Automatic IBRS + Retpolines", "eibrs,retpoline"),
    ("Mitigation: Enhanced / Automatic IBRS", "eibrs"),
    ("Mitigation: Enhanced IBRS + LFENCE", "eibrs,lfence"),
    ("Mitigation: Enhanced IBRS + Retpolines", "eibrs,retpoline"),
    ("Mitigation: Enhanced IBRS", "eibrs"),
    ("Mitigation: IBRS", "ibrs"),
    ("Mitigation: Retpolines", "retpoline"),
    ("Mitigation: Full generic retpoline", "retpoline"),
    ("Mitigation: Full AMD retpoline", "lfence"),
    ("Mitigation: LFENCE", "lfence"),
    ("Vulnerable: LFENCE", "lfence"),
    ("Vulnerable: eIBRS+LFENCE", "eibrs,lfence"),
    ("Vulnerable: eIBRS", "eibrs"),
    ("Vulnerable", "off"),
    ("Not affected", "off"),
)

#: spectre_v2_show_state() says no more of eIBRS with unprivileged eBPF, nor of LFENCE in kernels before that was mended
#: (6.3.8 and 6.4.6; 6.1.192, 6.12.117 and 7.2.13 say all of it).
_MODE_ALONE = ("Vulnerable: LFENCE", "Vulnerable: eIBRS")

#: Functions by which a kernel shows what of mitigations it is built with: any of each.
_RETPOLINES = ("__x86_indirect_thunk_rax", "__x86_indirect_thunk_eax")
_UNTRAINING = ("retbleed_untrain_ret", "zen_untrain_ret")
_SAFE_RETURNS = ("srso_safe_ret", "srso_alias_safe_ret")
_ALIASED = ("srso_alias_untrain_ret", "srso_untrain_ret_alias")
_ALIGNED = ("its_return_thunk",)
_COUNTING = ("call_depth_return_thunk", "__x86_return_skl")
_NO_RETPOLINES = "the kernel is built without CONFIG_RETPOLINE"

_NO_RETPOLINE = ("off", "eibrs", "ibrs")
#: What spectre_v2= asks for and a kernel without retpolines has not: spectre_v2_parse_cmdline() takes ``auto``.
_BY_RETPOLINES = (
    *("retpoline", "retpoline,generic", "retpoline,amd", "retpoline,lfence"),
    *("eibrs,lfence", "eibrs,retpoline"),
)
#: What spectre_v2= may say; anything else is as if it said auto.
_ASKED = ("off", "on", "auto", "ibrs", "eibrs", *_BY_RETPOLINES)


def mode_alone(text: str) -> bool:
    """Whether a text of spectre_v2 tells the mode and nothing of what is done besides."""
    lfence, eibrs = _MODE_ALONE
    return text == lfence or text.startswith(eibrs)


class Mode(NamedTuple):
    """The chosen mode of spectre_v2 and its source; None where nothing tells.

    Attributes:
        value: the mode.
        source: where it is known from.
        assumed: the facts do not tell, and the mode is what most machines have.
    """

    value: str | None
    source: str
    assumed: bool = False


class Mitigations:
    """What one kernel chose on one machine."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @cached_property
    def off(self) -> str | None:
        """What turned all mitigations off, or None: kernel/cpu.c mitigations_parse_cmdline().

        The last value that it knows counts. Since 6.17 a value may go on behind it.
        """
        given = self.facts.machine.values("mitigations")
        if not given and self.facts.mitigates is False:
            return "the kernel is built without CONFIG_CPU_MITIGATIONS"
        begun = self.facts.version >= (6, 17)
        for value in reversed(given):
            for known in ("auto", "off"):
                if value == known or (known == "auto" and value == "auto,nosmt") or (begun and value.startswith(known)):
                    return f"mitigations={value} on the command line" if known == "off" else None
        return None

    def spared(self, *vectors: str) -> str | None:
        """That options leave all of these attack vectors alone, ``mitigations=auto,no_VECTOR`` (6.17 and later)."""
        if self.facts.version < (6, 17):
            return None
        given = ",".join(self.facts.machine.values("mitigations"))
        left = set(given.split(","))
        return f"mitigations={given} on the command line" if all(f"no_{name}" in left for name in vectors) else None

    @cached_property
    def missing(self) -> str | None:
        """What the facts lack to say whether this kernel mitigates anything here; None where they say it."""
        machine = self.facts.machine
        if machine.vulnerabilities or self.off:
            return None
        if machine.bugs is None:
            return "neither the CPU's bugs nor its vulnerabilities are told"
        if self.facts.mitigates is None and self.facts.option("mitigations") is None:
            return "no vulnerabilities are told, nor whether the kernel is built to mitigate them"
        return None

    @cached_property
    def spectre_v2(self) -> Mode:
        """The mode: ``off``, ``retpoline``, ``lfence``, ``ibrs``, ``eibrs``, ``eibrs,lfence``, ``eibrs,retpoline``."""
        text = self.facts.state("spectre_v2")
        if text is not None:
            mode = next((mode for begins, mode in _MODES if text.startswith(begins)), None)
            if text.startswith("Not affected") and self._forced():
                return self._selected()
            return Mode(mode, f"vulnerabilities/spectre_v2: {text.split(';')[0]!r}")
        for bug in ("retbleed", "indirect_target_selection"):
            # retbleed_select_mitigation(): only a kernel with retpolines stuffs the return stack buffer.
            if "Stuffing" in (stuffed := self.facts.state(bug) or ""):
                return Mode("retpoline", f"vulnerabilities/{bug}: {stuffed.split(';')[0]!r}")
        return self._selected()

    def _forced(self) -> bool:
        """Whether an option mitigates on a CPU that is not affected: to 6.15, where it asks for anything but that."""
        return self.facts.version < _SPLIT and self._named not in (None, "off", "auto") and not self.off

    @cached_property
    def _named(self) -> str | None:
        """What spectre_v2= names: to 6.15 the kernel looks for it by cmdline_find_option()."""
        old = self.facts.version < _SPLIT
        return self.facts.machine.found_option("spectre_v2") if old else self.facts.option("spectre_v2")

    def _selected(self) -> Mode:
        """spectre_v2_parse_cmdline() and spectre_v2_select_mitigation() on what they look at."""
        facts = self.facts
        given = facts.given("nospectre_v2")
        if facts.version < _SPLIT:
            given = "nospectre_v2" if facts.machine.found_option("nospectre_v2") == "" else None
        if why := on_line(given):
            return Mode("off", why)
        # Since 6.17 what is asked for is done, whatever mitigations= says.
        why = self.off or self.spared("user_kernel", "guest_host")
        if why and (facts.version < (6, 17) or self._named in (None, "auto")):
            return Mode("off", why)
        retpolines = not facts.without(*_RETPOLINES)
        enhanced = facts.has("ibrs_enhanced")
        intel_ibrs = facts.vendor == "intel" and facts.has("ibrs") and not facts.xen_pv.best
        asked = self._asked(retpolines, enhanced, intel_ibrs)
        if asked == "off":
            return Mode("off", "spectre_v2=off on the command line")
        if (asked == "auto" or facts.version >= _SPLIT) and facts.bug("spectre_v2") is False:
            return Mode("off", "spectre_v2 is not among the CPU's bugs")
        if facts.machine.flags is None and retpolines:
            usual = "retpoline" if asked in ("auto", "on") else None
            return Mode(usual, "assumed: nothing tells the CPU's features", True)
        plain = {"retpoline": "retpoline", "retpoline,generic": "retpoline"}
        lfence = {"retpoline,amd": "lfence", "retpoline,lfence": "lfence"}
        if asked in plain:
            return Mode(plain[asked], f"spectre_v2={asked} on the command line")
        if asked in lfence:
            return Mode(lfence[asked], f"spectre_v2={asked} on the command line")
        if asked in ("eibrs", "eibrs,lfence", "eibrs,retpoline"):
            return Mode(asked, f"spectre_v2={asked} on the command line")
        if asked == "ibrs":
            return Mode("ibrs", "spectre_v2=ibrs on the command line")
        if enhanced:
            return Mode("eibrs", "the CPU has ibrs_enhanced")
        may = asked == "auto" or facts.version < _SPLIT
        if may and facts.bug("retbleed") and intel_ibrs and self.asked_of_retbleed not in ("off", "stuff"):
            return Mode("ibrs", "an Intel CPU with the retbleed bug and ibrs")
        if not retpolines:
            return Mode("off", _NO_RETPOLINES, facts.machine.flags is None)
        return Mode("retpoline", "neither ibrs_enhanced nor a need of ibrs")

    def _asked(self, retpolines: bool, enhanced: bool, intel_ibrs: bool) -> str:
        """spectre_v2= as it counts: ``auto`` where the kernel switches to that ("Switching to AUTO select")."""
        asked = self._named or "auto"
        if asked not in _ASKED or (not retpolines and asked in _BY_RETPOLINES):
            return "auto"
        if self.facts.machine.flags is None and retpolines:
            return asked
        lacks = (
            (asked.startswith("eibrs") and not enhanced)
            or (asked.endswith(("lfence", "amd")) and not lfence_rdtsc(self.facts).best)
            or (asked == "ibrs" and not intel_ibrs)
        )
        return "auto" if lacks else asked

    def mode_is(self, *modes: str) -> Answer:
        """Whether spectre_v2 is in one of these modes."""
        mode, source, assumed = self.spectre_v2
        return Answer(None if mode is None or assumed else mode in modes, source, mode in modes)

    @cached_property
    def retpoline(self) -> Answer:
        """RETPOLINE: spectre_v2_select_mitigation() / spectre_v2_apply_mitigation()."""
        mode, source, assumed = self.spectre_v2
        on = mode not in _NO_RETPOLINE
        return Answer(None if mode is None or assumed else on, source, on)

    @cached_property
    def untrains(self) -> bool:
        """Whether retbleed would be mitigated by untraining: on AMD CPUs, where the kernel is built to do it."""
        return self.facts.amd and not self.facts.without(*_UNTRAINING)

    @cached_property
    def asked_of_retbleed(self) -> str | None:
        """What the last retbleed= asks for that asks: off, auto, unret, ibpb, stuff (retbleed_parse_cmdline())."""
        known = ("off", "auto", "unret", "ibpb", *(["stuff"] if self.facts.version >= (6, 2) else []))
        words = ",".join(self.facts.machine.values("retbleed")).split(",")
        return next((word for word in reversed(words) if word in known), None)

    @cached_property
    def retbleed(self) -> tuple[str | None, str]:
        """What retbleed's mitigation forces: ``unret``, ``ibpb``, ``stuff``, "" (nothing), or None (not known).

        On Intel CPUs of kernels to 6.15 the text shows IBRS, or nothing, whatever the option retbleed= also forced.
        """
        facts, text = self.facts, self.facts.state("retbleed")
        asked = self.asked_of_retbleed
        force = any("force" in value.split(",") for value in facts.machine.values("retbleed"))
        if facts.bug("retbleed") is False and not force:
            return "", "retbleed is not among the CPU's bugs"
        if self.off and facts.version < _SPLIT:
            return "", self.off
        if facts.vendor == "intel" and facts.version < _SPLIT:
            if asked == "unret" and not facts.without(*_UNTRAINING):
                return "unret", "retbleed=unret on the command line"
            if asked == "ibpb" and facts.has("ibpb"):
                return "ibpb", "retbleed=ibpb on the command line"
        if text is None:
            if facts.machine.bugs is None:
                return None, "nothing tells whether the CPU has the retbleed bug"
            return self._retbleed_selected()
        source = f"vulnerabilities/retbleed: {text!r}"
        if "untrained return thunk / IBPB" in text:
            return ("ibpb" if asked == "ibpb" and facts.has("ibpb") else "unret"), source
        for begins, forced in _RETBLEED:
            if text.startswith(begins):
                return forced, source
        return "", source

    def _retbleed_selected(self) -> tuple[str | None, str]:
        """retbleed_select_mitigation() on what it looks at: an affected CPU, no file that tells."""
        facts, option = self.facts, self.asked_of_retbleed
        if option in (None, "auto") and (why := self.spared("user_kernel", "guest_host")):
            return "", why
        if self.off or option == "off":
            return "", self.off or "retbleed=off on the command line"
        if option == "ibpb" and facts.has("ibpb"):
            return "ibpb", "retbleed=ibpb on the command line"
        counts = facts.version >= (6, 2) and not facts.without(*_COUNTING)
        if option == "stuff" and counts and self.spectre_v2.value == "retpoline":
            return "stuff", "retbleed=stuff on the command line"
        if facts.amd and not self.untrains:
            return (None if facts.has("ibpb") else ""), "the kernel is built without CONFIG_CPU_UNRET_ENTRY"
        return ("unret", "the default on AMD CPUs") if facts.amd else ("", "no mitigation of its own on this CPU")

    def _unfiled(self, bug: str, option: str, functions: tuple[str, ...]) -> bool:
        """Whether a mitigation is on by default: the CPU is affected, no file tells, no option turns it off, and the
        kernel is built with its functions."""
        facts = self.facts
        return (
            not facts.machine.vulnerabilities
            and bool(facts.bug(bug))
            and not self.off
            and facts.option(option) != "off"
            and not facts.without(*functions)
        )

    def _one_thread_a_core(self) -> bool:
        """Whether srso_select_mitigation() lets a Zen 1 or 2 off for having no SMT.

        To 6.15 that takes microcode that flushes branch predictions (IBPB_BRTYPE), which guests seldom see.
        """
        facts, machine = self.facts, self.facts.machine
        smt = machine.siblings is None or machine.cores is None or machine.siblings > machine.cores
        microcode = facts.version >= _SPLIT or not facts.virtual
        return facts.family < 0x19 and microcode and (not smt or facts.given("nosmt") is not None)

    @cached_property
    def srso(self) -> tuple[str, str]:
        """What spec_rstack_overflow's mitigation forces: ``safe-ret``, ``ibpb``, or "" (nothing)."""
        text = self.facts.state("spec_rstack_overflow")
        asked = self.facts.last("spec_rstack_overflow", ("off", "microcode", "safe-ret", "ibpb", "ibpb-vmexit"))
        if not self.facts.machine.vulnerabilities and asked not in (None, "safe-ret"):
            # All but safe returns need microcode, which /proc/cpuinfo tells of.
            ibpb = asked == "ibpb" and bool(self.facts.bug("srso")) and self.facts.has("ibpb_brtype") and not self.off
            return "ibpb" if ibpb else "", f"spec_rstack_overflow={asked} on the command line"
        if text is None and asked is None and (why := self.spared("user_kernel", "guest_host")):
            return "", why
        if text is None and self._unfiled("srso", "spec_rstack_overflow", _SAFE_RETURNS):
            if self.facts.built is not None and self.facts.built.returns_at_once(*_ALIASED):
                return "", "the kernel is built without CONFIG_CPU_SRSO: srso_alias_untrain_ret() returns at once"
            if self._one_thread_a_core():
                return "", "Zen 1 and 2 with one thread a core have no srso"
            return "safe-ret", "the default for CPUs with the srso bug"
        if text is None:
            return "", "no vulnerabilities/spec_rstack_overflow"
        source = f"vulnerabilities/spec_rstack_overflow: {text!r}"
        lower = text.lower()
        if "safe ret" in lower and "no safe ret" not in lower:
            return "safe-ret", source
        return ("ibpb" if text == "Mitigation: IBPB" else ""), source

    @cached_property
    def its(self) -> tuple[str, str]:
        """What indirect_target_selection's mitigation forces: ``thunks``, ``stuff``, or "" (nothing)."""
        text = self.facts.state("indirect_target_selection")
        asked = self.facts.last("indirect_target_selection", ("off", "on", "force", "vmexit", "stuff"))
        if text is None and asked is None and (why := self.spared("user_kernel", "guest_host")):
            return "", why
        if text is None and asked == "vmexit" and self.facts.bug("its_native_only"):
            return "", "indirect_target_selection=vmexit on the command line"
        if text is None and self._unfiled("its", "indirect_target_selection", _ALIGNED):
            plain = self.spectre_v2.value in ("off", "lfence", "eibrs,lfence") or self.facts.bits == 32
            stuffed = self.retbleed[0] == "stuff"
            return "" if plain else "stuff" if stuffed else "thunks", "the default for CPUs with the its bug"
        if text is None:
            return "", "no vulnerabilities/indirect_target_selection"
        source = f"vulnerabilities/indirect_target_selection: {text!r}"
        if text.startswith("Mitigation: Aligned branch/return thunks"):
            return "thunks", source
        return ("stuff" if "Stuffing RSB" in text else ""), source

    @cached_property
    def returns(self) -> tuple[Answer, str | None]:
        """RETHUNK, and the thunk that was set last.

        Applied in this order: retbleed, srso, its. IBPB on entry clears what an earlier one had forced.
        """
        rethunk, thunk = Answer(False, "no mitigation needs a return thunk"), None
        forced, source = self.retbleed
        if forced is None:
            rethunk = Answer(None, source, self.untrains)
        elif forced == "unret":
            rethunk, thunk = Answer(True, source), "retbleed_return_thunk"
        elif forced == "stuff":
            rethunk, thunk = Answer(True, source), "call_depth_return_thunk"
        elif forced == "ibpb":
            rethunk = Answer(False, f"{source}: IBPB on entry needs no return thunk")
        forced, source = self.srso
        if forced == "safe-ret":
            rethunk, thunk = Answer(True, source), "srso_return_thunk"
            if self.facts.family == 0x19:
                thunk = "srso_alias_return_thunk"
        elif forced == "ibpb":
            rethunk = Answer(False, f"{source}: IBPB on entry needs no return thunk")
        forced, source = self.its
        if forced:
            rethunk = Answer(True, source)
            thunk = "its_return_thunk" if forced == "thunks" else "call_depth_return_thunk"
        return rethunk, thunk


def on_line(option: str | None) -> str | None:
    """That an option is given, in words; None where it is not."""
    return None if option is None else f"{option} on the command line"


_RETBLEED = (
    ("Mitigation: untrained return thunk", "unret"),
    ("Mitigation: IBPB", "ibpb"),
    ("Mitigation: Stuffing", "stuff"),
)
