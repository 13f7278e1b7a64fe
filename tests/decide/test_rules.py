"""Rules on machines made by hand: what each kernel function does with CPUs and options that no boot here has."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import pytest

from image import small
from pvops.decide import rules_mitigations
from pvops.decide.answers import Facts
from pvops.decide.key_rules import by_place
from pvops.decide.mitigations import Mitigations
from pvops.decide.prediction import by_rule
from pvops.decide.registry import rules
from pvops.image.built import Built
from pvops.machine.machine import Machine

INTEL, AMD = "GenuineIntel", "AuthenticAMD"


def facts(
    version: tuple[int, int] = (6, 12), bits: int = 64, texts: Mapping[str, str] | None = None, **given: object
) -> Facts:
    document: dict[str, object] = {"flags": "fpu sse2 hypervisor", "bugs": "spectre_v1 spectre_v2", "cmdline": ""}
    return Facts(Machine.from_dict(document | given | {"vulnerabilities": dict(texts or {})}), version, bits)


def value(feature: str, of: Facts) -> bool | None:
    answer = by_rule(of, feature)
    assert answer is not None
    return answer.value


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("Mitigation: Retpolines; STIBP: disabled; RSB filling; BHI: Not affected", {"RETPOLINE", "RSB_CTXSW"}),
        ("Mitigation: Retpolines, STIBP: disabled, RSB filling", {"RETPOLINE", "RSB_CTXSW"}),
        ("Vulnerable: LFENCE; STIBP: disabled; RSB filling", {"RETPOLINE", "RETPOLINE_LFENCE", "RSB_CTXSW"}),
        (
            "Mitigation: IBRS; IBPB: conditional; STIBP: conditional; RSB filling",
            {"KERNEL_IBRS", "USE_IBPB", "RSB_CTXSW"},
        ),
        ("Mitigation: Enhanced / Automatic IBRS; IBPB: conditional; BHI: SW loop, KVM: SW loop", {"USE_IBPB"}),
        ("Mitigation: Enhanced / Automatic IBRS; IBPB: always-on; BHI: BHI_DIS_S", {"USE_IBPB", "CLEAR_BHB_HW"}),
        ("Mitigation: Retpolines; IBPB: disabled; IBRS_FW; RSB filling", {"RETPOLINE", "RSB_CTXSW", "USE_IBRS_FW"}),
        ("Vulnerable; STIBP: disabled", set()),
    ],
)
def test_spectre_v2(text: str, on: set[str]) -> None:
    flags = "fpu sse2 ibrs ibpb stibp" if "IBPB" in text else "fpu sse2"
    machine = facts(vendor=INTEL, family=6, model=0x55, flags=flags, texts={"spectre_v2": text})
    asked = ("RETPOLINE", "RETPOLINE_LFENCE", "RSB_CTXSW", "KERNEL_IBRS", "USE_IBPB", "USE_IBRS_FW", "CLEAR_BHB_HW")
    assert {feature for feature in asked if value(feature, machine)} == on
    assert value("CLEAR_BHB_LOOP", machine) == ("SW loop" in text)


@pytest.mark.parametrize(
    ("flags", "bugs", "on"),
    [
        ("fpu sse2", "spectre_v2", {"RSB_CTXSW", "RSB_VMEXIT"}),
        ("fpu sse2 ibrs", "spectre_v2", {"RSB_CTXSW", "RSB_VMEXIT", "USE_IBRS_FW"}),
        ("fpu sse2", "spectre_v2 bhi", {"RSB_CTXSW", "RSB_VMEXIT", "CLEAR_BHB_LOOP"}),
    ],
)
def test_a_text_of_lfence_alone_tells_nothing_else(flags: str, bugs: str, on: set[str]) -> None:
    # spectre_v2_show_state() of 6.3.8 returns there.
    machine = facts((6, 3), vendor=INTEL, flags=flags, bugs=bugs, texts={"spectre_v2": "Vulnerable: LFENCE"})
    asked = ("RSB_CTXSW", "RSB_VMEXIT", "USE_IBRS_FW", "CLEAR_BHB_LOOP")
    answers = {feature: by_rule(machine, feature) for feature in asked}
    assert {feature for feature, answer in answers.items() if answer is not None and answer.best} == on
    assert value("RETPOLINE_LFENCE", machine)
    if "bhi" in bugs:
        assert value("CLEAR_BHB_LOOP", machine) is None


@pytest.mark.parametrize(
    ("cmdline", "flags", "bugs", "mode"),
    [
        ("", "sse2", "spectre_v2", "retpoline"),
        ("mitigations=off", "sse2 ibrs_enhanced", "spectre_v2", "off"),
        ("nospectre_v2", "sse2", "spectre_v2", "off"),
        ("spectre_v2=off", "sse2", "spectre_v2", "off"),
        ("", "sse2 ibrs ibrs_enhanced", "spectre_v2", "eibrs"),
        ("", "sse2 ibrs", "spectre_v2 retbleed", "ibrs"),
        ("retbleed=stuff", "sse2 ibrs", "spectre_v2 retbleed", "retpoline"),
        ("spectre_v2=retpoline", "sse2 ibrs ibrs_enhanced", "spectre_v2", "retpoline"),
        ("spectre_v2=retpoline,lfence", "sse2", "spectre_v2", "lfence"),
        ("spectre_v2=eibrs,retpoline", "sse2 ibrs_enhanced", "spectre_v2", "eibrs,retpoline"),
        ("spectre_v2=eibrs", "sse2", "spectre_v2", "retpoline"),
        ("", "sse2", "", "off"),
        # What the CPU has not is as if nothing was asked for, and a CPU that is not affected is then left alone.
        ("spectre_v2=ibrs", "sse2", "", "off"),
        ("spectre_v2=ibrs", "sse2 ibrs", "", "ibrs"),
        ("spectre_v2=eibrs", "sse2", "", "off"),
        ("spectre_v2=eibrs,lfence", "sse2 ibrs_enhanced", "", "eibrs,lfence"),
        ("spectre_v2=retpoline,lfence", "fpu", "", "off"),
        ("spectre_v2=nonsense", "sse2", "", "off"),
        ("spectre_v2=on", "sse2", "", "retpoline"),
        ("spectre_v2=retpoline", "sse2", "", "retpoline"),
    ],
)
def test_spectre_v2_without_its_file(cmdline: str, flags: str, bugs: str, mode: str) -> None:
    machine = facts(vendor=INTEL, family=6, model=0x5E, cmdline=cmdline, flags=flags, bugs=bugs)
    assert Mitigations(machine).spectre_v2.value == mode


@pytest.mark.parametrize(
    ("vendor", "cmdline", "log", "on"),
    [
        (INTEL, "", "", True),
        (INTEL, "nopti", "", False),
        (AMD, "", "", False),
        (AMD, "pti=on", "", True),
        (INTEL, "pti=off", "", False),
        (AMD, "", "Kernel/User page tables isolation: enabled\n", True),
        (INTEL, "", "Kernel/User page tables isolation: disabled\n", False),
        (None, "", "", None),
    ],
)
def test_page_tables_are_apart_before_4_14_on_all_cpus_but_amds(
    vendor: str | None, cmdline: str, log: str, on: bool | None
) -> None:
    told = facts((3, 16), cmdline=cmdline, dmesg=log) if vendor is None else None
    assert value("KAISER", told or facts((3, 16), cmdline=cmdline, dmesg=log, vendor=vendor)) == on


BOOTING = "Booting paravirtualized kernel on bare hardware\n"


@pytest.mark.parametrize(
    ("log", "on"),
    [
        (f"{BOOTING}Spectre v2 mitigation: Filling RSB on context switch\n", True),
        (f"{BOOTING}nothing else\n", False),
        ("the ring lost what came first\n", None),
    ],
)
def test_before_4_20_the_log_alone_says_that_the_rsb_is_filled(log: str, on: bool | None) -> None:
    texts = {"spectre_v2": "Mitigation: Full generic retpoline"}
    assert value("RSB_CTXSW", facts((4, 16), texts=texts, dmesg=log)) == on


def built(mitigates: bool | None) -> Built:
    """A kernel that has ``cpu_mitigations`` as built, or does not name it."""
    data = struct.pack("<II", 7, 1 if mitigates else 0)
    symbols = {} if mitigates is None else {"cpu_mitigations": small.DATA + 4}
    return Built(small.kernel(b"\x90" * 16, data=data + bytes(56), symbols=symbols))


MITIGATED = ("RETPOLINE", "RSB_CTXSW", "FENCE_SWAPGS_KERNEL", "USE_IBPB")


@pytest.mark.parametrize("feature", MITIGATED)
def test_facts_that_say_nothing_of_mitigations_leave_them_untold(feature: str) -> None:
    machine = facts(flags="fpu sse2 ibpb fsgsbase", bugs=None)
    answer = by_rule(machine, feature)
    assert answer is not None
    assert (answer.value, answer.guess) == (None, True)
    assert "neither the CPU's bugs nor its vulnerabilities are told" in answer.source


@pytest.mark.parametrize(
    ("version", "mitigates", "cmdline", "expected"),
    [
        ((6, 8), None, "", True),
        ((6, 8), False, "", False),
        ((6, 9), None, "", None),
        ((6, 9), True, "", True),
        ((6, 9), False, "", False),
        ((6, 9), False, "mitigations=auto", True),
        ((6, 9), None, "mitigations=off", False),
    ],
)
def test_a_kernel_may_be_built_to_mitigate_nothing(
    version: tuple[int, int], mitigates: bool | None, cmdline: str, expected: bool | None
) -> None:
    document = {"flags": "fpu sse2 ibpb fsgsbase", "bugs": "spectre_v1 spectre_v2", "cmdline": cmdline}
    machine = Facts(Machine.from_dict(document), version, 64, built(mitigates))
    assert [value(feature, machine) for feature in MITIGATED] == [expected] * len(MITIGATED)


@pytest.mark.parametrize(("symbols", "expected"), [({"xen_start_kernel": small.TEXT}, True), ({}, False)])
def test_a_kernel_without_xens_code_is_no_guest_of_it(symbols: Mapping[str, int], expected: bool) -> None:
    kernel = Built(small.kernel(b"\x90" * 16, symbols=dict(symbols)))
    machine = Facts(Machine.from_dict({"flags": "fpu sse2", "hypervisor": "xen-pv"}), (6, 0), 64, kernel)
    assert value("XENPV", machine) is expected


def test_stuffing_sets_call_depth() -> None:
    machine = facts(
        vendor=INTEL,
        family=6,
        model=0x5E,
        bugs="spectre_v1 spectre_v2 retbleed its",
        cmdline="retbleed=stuff",
        texts={
            "spectre_v2": "Mitigation: Retpolines; RSB filling",
            "retbleed": "Mitigation: Stuffing",
            "indirect_target_selection": "Mitigation: Retpolines, Stuffing RSB",
        },
    )
    assert value("CALL_DEPTH", machine)
    assert value("RETHUNK", machine)
    assert not value("UNRET", machine)
    assert not value("INDIRECT_THUNK_ITS", machine)
    assert rules_mitigations.return_thunk(machine) == "call_depth_return_thunk"


@pytest.mark.parametrize(
    "texts",
    [
        {"retbleed": "Mitigation: Stuffing"},
        {"indirect_target_selection": "Mitigation: Retpolines, Stuffing RSB"},
    ],
)
def test_who_stuffs_has_retpolines(texts: Mapping[str, str]) -> None:
    machine = facts(vendor=INTEL, flags="sse2 ibrs ibrs_enhanced", bugs="spectre_v2 retbleed its", texts=texts)
    assert value("RETPOLINE", machine)
    assert value("CALL_DEPTH", machine)


def test_its_without_retpolines_takes_its_own_thunks() -> None:
    texts = {
        "spectre_v2": "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional",
        "indirect_target_selection": "Mitigation: Aligned branch/return thunks",
    }
    machine = facts(vendor=INTEL, family=6, model=0x6A, bugs="spectre_v2 its", texts=texts)
    assert value("INDIRECT_THUNK_ITS", machine)
    assert value("RETHUNK", machine)
    assert rules_mitigations.return_thunk(machine) == "its_return_thunk"


@pytest.mark.parametrize(("family", "feature"), [(0x17, "SRSO"), (0x19, "SRSO_ALIAS"), (0x1A, "SRSO")])
def test_safe_return_by_family(family: int, feature: str) -> None:
    texts = {"spec_rstack_overflow": "Mitigation: Safe RET"}
    machine = facts(vendor=AMD, family=family, model=1, bugs="srso", texts=texts)
    assert [name for name in ("SRSO", "SRSO_ALIAS") if value(name, machine)] == [feature]
    assert value("UNRET", machine)
    assert rules_mitigations.return_thunk(machine) == f"{feature.lower()}_return_thunk"


@pytest.mark.parametrize("text", ["Vulnerable: Microcode, no safe RET", "Vulnerable: No microcode", "Vulnerable"])
def test_no_safe_return(text: str) -> None:
    machine = facts(vendor=AMD, family=0x19, model=1, bugs="srso", texts={"spec_rstack_overflow": text})
    assert not value("SRSO_ALIAS", machine)
    assert not value("RETHUNK", machine)


def test_ibpb_on_entry_needs_no_thunk_unless_safe_return_follows() -> None:
    ibpb = {"retbleed": "Mitigation: IBPB; SMT disabled"}
    machine = facts(vendor=AMD, family=0x17, model=0x31, bugs="retbleed", texts=ibpb)
    assert value("ENTRY_IBPB", machine)
    assert not value("RETHUNK", machine)
    assert not value("UNRET", machine)
    both = ibpb | {"spec_rstack_overflow": "Vulnerable: Safe RET, no microcode"}
    machine = facts(vendor=AMD, family=0x17, model=0x31, bugs="retbleed srso", texts=both)
    assert value("ENTRY_IBPB", machine)
    assert value("RETHUNK", machine)


def test_unret_on_intel_hides_behind_another_text_until_6_16() -> None:
    for version, on in (((6, 12), True), ((7, 2), False)):
        texts = {"retbleed": "Vulnerable"}
        machine = facts(version, 64, texts, vendor=INTEL, family=6, bugs="retbleed", cmdline="retbleed=unret")
        assert value("UNRET", machine) is on


@pytest.mark.parametrize(
    ("flags", "bugs", "kernel", "user"),
    [
        ("fsgsbase smap pti", "spectre_v1 swapgs cpu_meltdown", True, False),
        ("fsgsbase smap kaiser", "spectre_v1 swapgs cpu_meltdown", True, False),
        ("fsgsbase smap", "spectre_v1 swapgs", True, True),
        ("smap", "spectre_v1 swapgs", False, False),
        ("smap", "spectre_v1 swapgs cpu_meltdown", True, True),
        ("", "spectre_v1", True, False),
    ],
)
def test_swapgs_fences(flags: str, bugs: str, kernel: bool, user: bool) -> None:
    text = "Mitigation: usercopy/swapgs barriers and __user pointer sanitization"
    machine = facts(flags=flags, bugs=bugs, texts={"spectre_v1": text})
    assert (value("FENCE_SWAPGS_KERNEL", machine), value("FENCE_SWAPGS_USER", machine)) == (kernel, user)


def test_tsa_in_a_guest_depends_on_the_kernel() -> None:
    texts = {"tsa": "Vulnerable: Clear CPU buffers attempted, no microcode"}
    assert value("CLEAR_CPU_BUF", facts((6, 12), vendor=AMD, family=0x19, texts=texts))
    assert not value("CLEAR_CPU_BUF", facts((7, 2), vendor=AMD, family=0x19, texts=texts))
    assert not value("CLEAR_CPU_BUF", facts((6, 12), vendor=AMD, family=0x19, flags="sse2", texts=texts))


@pytest.mark.parametrize(
    ("family", "model", "zen"),
    [(0x17, 0x01, "ZEN1"), (0x17, 0x31, "ZEN2"), (0x19, 0x01, "ZEN3"), (0x19, 0x11, "ZEN4"), (0x1A, 0x02, "ZEN5")],
)
def test_generations(family: int, model: int, zen: str) -> None:
    machine = facts(vendor=AMD, family=family, model=model)
    assert [f"ZEN{n}" for n in range(1, 7) if value(f"ZEN{n}", machine)] == [zen]
    assert value("ZEN", machine)
    assert value("ZEN", facts((6, 1), vendor=AMD, family=family, model=model)) == (family < 0x1A)


def test_vendors() -> None:
    intel, amd = facts(vendor=INTEL, family=6, model=0x3C), facts(vendor=AMD, family=0x17, model=0x31)
    assert (value("SYSCALL32", intel), value("SYSENTER32", intel)) == (False, True)
    assert (value("SYSCALL32", amd), value("SYSENTER32", amd)) == (True, False)
    assert (value("APIC_MSRS_FENCE", intel), value("APIC_MSRS_FENCE", amd)) == (True, False)
    assert value("LFENCE_RDTSC", facts(vendor=INTEL, flags="fpu")) is False
    assert value("SYSCALL32", facts(bits=32, vendor=AMD)) is False


@pytest.mark.parametrize(("hypervisor", "lfence"), [("none", False), ("xen-pv", True)])
def test_amds_lfence_before_5_4_is_a_guess_that_hangs_on_xen(hypervisor: str, lfence: bool) -> None:
    """An MSR says whether it stops rdtsc: Xen sets it, and shows it to PV guests."""
    machine = facts((4, 18), vendor=AMD, family=0x17, model=0x31, hypervisor=hypervisor)
    answers = [by_rule(machine, feature) for feature in ("LFENCE_RDTSC", "MFENCE_RDTSC")]
    assert [answer and answer.value for answer in answers] == [None, None]
    assert [answer and answer.best for answer in answers] == [lfence, not lfence]


@pytest.mark.parametrize(
    ("family", "flags", "on"),
    [(0x17, "ssbd", True), (0x17, "ssbd virt_ssbd", False), (0x17, "ssbd ibrs stibp", False), (0x19, "ssbd", False)],
)
def test_ssbd_through_ls_cfg(family: int, flags: str, on: bool) -> None:
    assert value("LS_CFG_SSBD", facts(vendor=AMD, family=family, flags=flags)) is on


def test_every_rule_answers_when_nothing_is_known() -> None:
    empty = Facts(Machine(), (6, 12), 64)
    for feature, entry in rules().items():
        answer = entry.rule(empty)
        assert answer.source, feature
        assert answer.value in (True, False, None)


def test_every_rule_says_what_it_restates() -> None:
    assert all(entry.restates for entry in rules().values())


def test_a_key_without_a_name_is_told_by_the_functions_that_ask_it() -> None:
    """The ways back to user mode of 6.6, with ``exit_to_user_mode()`` as a function and compiled into others."""
    exits = ["exc_nmi", "irqentry_exit_to_user_mode", "syscall_exit_to_user_mode"]
    assert by_place(exits) == by_place(["exit_to_user_mode", *exits]) == "mds_user_clear"
    assert by_place(["exc_nmi"]) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"vendor": INTEL, "family": 6, "model": 0x97, "flags": "fpu"}, (None, True)),
        ({"vendor": INTEL, "family": 6, "model": 0x97, "flags": "fpu hypervisor"}, (None, False)),
        ({"vendor": INTEL, "family": 6, "model": 0x6A, "flags": "fpu"}, (False, False)),
        ({"vendor": AMD, "family": 0x19, "model": 0x61, "flags": "fpu"}, (False, False)),
        ({"flags": "fpu"}, (None, False)),
    ],
)
def test_a_model_with_two_kinds_of_cores_may_have_one_of_them_turned_off(
    given: dict[str, Any], expected: tuple[bool | None, bool]
) -> None:
    answer = by_rule(facts(**given), "HYBRID_CPU")
    assert answer is not None
    assert (answer.value, answer.best) == expected
