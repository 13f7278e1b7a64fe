"""Options given twice, in other words than usual, or to a CPU that cannot have what they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from image import small
from pvops.decide.answers import Facts
from pvops.decide.calls import _idle
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES
from pvops.decide.mitigations import Mitigations
from pvops.decide.prediction import FeatureWords, by_rule, predict
from pvops.decide.returns import uniprocessor
from pvops.machine import cmdline
from pvops.machine.machine import Machine

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
FIRMWARE = "Enabling Speculation Barrier for firmware calls"


def facts(version: tuple[int, int], texts: Mapping[str, str] | None = None, **given: object) -> Facts:
    document: dict[str, object] = {"flags": "fpu sse2", "bugs": "spectre_v1 spectre_v2", "cmdline": ""}
    return Facts(Machine.from_dict(document | given | {"vulnerabilities": dict(texts or {})}), version, 64)


def value(feature: str, of: Facts) -> bool | None:
    answer = by_rule(of, feature)
    assert answer is not None
    return answer.value


@pytest.mark.parametrize(
    ("given", "version", "off"),
    [
        ("mitigations=off", (5, 10), True),
        ("mitigations=off mitigations=nonsense", (6, 1), True),
        ("mitigations=off mitigations=auto", (6, 1), False),
        ("mitigations=auto,nosmt mitigations=off", (6, 1), True),
        ("mitigations=off,no_user_user", (6, 12), False),
        ("mitigations=off,no_user_user", (6, 17), True),
        ("mitigations=off mitigations=auto,no_user_user", (7, 2), False),
        ('"mitigations=off"', (7, 2), True),
        ("mitigations", (7, 2), False),
    ],
)
def test_what_turns_all_mitigations_off(given: str, version: tuple[int, int], off: bool) -> None:
    assert (Mitigations(facts(version, cmdline=given)).off is not None) is off


@pytest.mark.parametrize(
    ("given", "version", "asked"),
    [
        ("retbleed=ibpb,nosmt", (6, 1), "ibpb"),
        ("retbleed=ibpb retbleed=nosmt", (6, 1), "ibpb"),
        ("retbleed=ibpb,unret", (6, 1), "unret"),
        ("retbleed=off retbleed=unret,bogus", (6, 1), "unret"),
        ("retbleed=ibpb,stuff", (6, 1), "ibpb"),
        ("retbleed=ibpb,stuff", (6, 2), "stuff"),
        ("retbleed=force", (7, 2), None),
    ],
)
def test_the_last_word_that_the_kernel_knows_counts(given: str, version: tuple[int, int], asked: str | None) -> None:
    assert Mitigations(facts(version, cmdline=given)).asked_of_retbleed == asked


def test_since_6_16_a_cpu_that_is_not_affected_is_left_alone_whatever_is_asked_for() -> None:
    not_affected = {"spectre_v2": "Not affected"}
    for version, mode in (((6, 12), "retpoline"), ((6, 16), "off"), ((7, 2), "off")):
        for texts in (not_affected, None):
            machine = facts(version, texts, vendor="CentaurHauls", bugs="", cmdline="spectre_v2=retpoline")
            assert Mitigations(machine).spectre_v2.value == mode


@pytest.mark.parametrize(
    ("given", "version", "mode"),
    [
        ("mitigations=off spectre_v2=retpoline", (6, 12), "off"),
        ("mitigations=off spectre_v2=retpoline", (7, 2), "retpoline"),
        ("mitigations=off", (7, 2), "off"),
        ("mitigations=auto,no_user_kernel", (7, 2), "retpoline"),
        ("mitigations=auto,no_user_kernel,no_guest_host", (7, 2), "off"),
        ("mitigations=auto,no_user_kernel mitigations=auto,no_guest_host", (7, 2), "off"),
        ("mitigations=auto,no_user_kernel,no_guest_host spectre_v2=retpoline", (7, 2), "retpoline"),
        ("mitigations=auto,no_user_kernel,no_guest_host", (6, 12), "retpoline"),
    ],
)
def test_what_is_asked_for_by_name_is_done_since_6_17(given: str, version: tuple[int, int], mode: str) -> None:
    assert Mitigations(facts(version, vendor=INTEL, cmdline=given)).spectre_v2.value == mode


def test_vectors_that_are_spared_need_no_fences() -> None:
    for given, on in (
        ("mitigations=auto", True),
        ("mitigations=auto,no_guest_host", True),
        ("mitigations=auto,no_user_kernel", False),
    ):
        assert value("FENCE_SWAPGS_KERNEL", facts((7, 2), vendor=INTEL, cmdline=given)) is on


@pytest.mark.parametrize(
    ("given", "flags", "forced"),
    [
        ("", "fpu", "safe-ret"),
        ("spec_rstack_overflow=safe-ret", "fpu", "safe-ret"),
        ("spec_rstack_overflow=ibpb", "fpu", ""),
        ("spec_rstack_overflow=ibpb", "fpu ibpb_brtype", "ibpb"),
        ("spec_rstack_overflow=ibpb-vmexit", "fpu ibpb_brtype", ""),
        ("spec_rstack_overflow=off spec_rstack_overflow=bogus", "fpu", ""),
        ("mitigations=auto,no_user_kernel,no_guest_host", "fpu", ""),
    ],
)
def test_safe_returns_where_no_file_tells(given: str, flags: str, forced: str) -> None:
    machine = facts((7, 2), vendor=AMD, family=0x19, model=1, flags=flags, bugs="srso", cmdline=given)
    assert Mitigations(machine).srso[0] == forced


@pytest.mark.parametrize(("vendor", "mode"), [(INTEL, "lfence"), ("GenuineOther", "retpoline")])
def test_lfence_is_taken_where_it_stops_everything(vendor: str, mode: str) -> None:
    assert Mitigations(facts((6, 12), vendor=vendor, cmdline="spectre_v2=retpoline,lfence")).spectre_v2.value == mode


@pytest.mark.parametrize(("version", "mode"), [((6, 12), "ibrs"), ((7, 2), "retpoline")])
def test_since_6_16_ibrs_is_chosen_for_who_asks_for_nothing(version: tuple[int, int], mode: str) -> None:
    machine = facts(version, vendor=INTEL, flags="sse2 ibrs", bugs="spectre_v2 retbleed", cmdline="spectre_v2=on")
    assert Mitigations(machine).spectre_v2.value == mode


@pytest.mark.parametrize(
    ("version", "given", "text", "log", "on"),
    [
        ((6, 12), "retbleed=ibpb", "Mitigation: IBPB", "", False),
        ((6, 12), "retbleed=ibpb retbleed=auto", "Mitigation: untrained return thunk", "", True),
        ((6, 12), "spec_rstack_overflow=ibpb", "Mitigation: untrained return thunk", "", True),
        ((7, 2), "spec_rstack_overflow=ibpb", "Mitigation: IBPB", "", False),
        ((7, 2), "", "Mitigation: untrained return thunk", f"[    0.1] {FIRMWARE}\n", True),
        ((7, 2), "", "Mitigation: untrained return thunk", "[    0.0] Booting paravirtualized kernel on bare\n", False),
    ],
)
def test_ibpb_before_firmware_calls(version: tuple[int, int], given: str, text: str, log: str, on: bool) -> None:
    texts = {"retbleed": text, "spectre_v2": "Mitigation: Retpolines; IBPB: conditional; RSB filling"}
    machine = facts(
        version,
        texts,
        vendor=AMD,
        family=0x17,
        model=0x31,
        flags="sse2 ibpb",
        bugs="retbleed",
        cmdline=given,
        dmesg=log,
    )
    assert value("USE_IBPB_FW", machine) is on


@pytest.mark.parametrize(
    ("version", "text", "on"),
    [
        ((7, 2), "Mitigation: Safe RET", True),
        ((7, 2), "Mitigation: IBPB", False),
        ((6, 12), "Mitigation: IBPB on VMEXIT only", False),
        ((6, 1), "Mitigation: IBPB", None),
    ],
)
def test_ibpb_empties_the_return_stack_buffer(version: tuple[int, int], text: str, on: bool | None) -> None:
    texts = {"spectre_v2": "Mitigation: Retpolines; RSB filling", "spec_rstack_overflow": text}
    machine = facts(version, texts, vendor=AMD, family=0x19, model=1, bugs="srso")
    assert value("RSB_VMEXIT", machine) is on
    assert value("RSB_CTXSW", machine)


ATTEMPTED = "Vulnerable: Clear CPU buffers attempted, no microcode"


@pytest.mark.parametrize(
    ("version", "bugs", "texts", "threads", "on"),
    [
        ((6, 12), "mds", {"mds": "Mitigation: Clear CPU buffers; SMT vulnerable"}, 2, False),
        ((6, 12), "mds msbds_only", {"mds": "Mitigation: Clear CPU buffers; SMT vulnerable"}, 2, True),
        ((6, 12), "mds msbds_only", {"mds": "Mitigation: Clear CPU buffers; SMT disabled"}, 1, False),
        ((6, 12), "mds", {"mds": ATTEMPTED, "mmio_stale_data": ATTEMPTED}, 1, True),
        ((7, 2), "tsa", {"tsa": "Mitigation: Clear CPU buffers"}, 2, True),
        ((7, 2), "tsa", {"tsa": "Mitigation: Clear CPU buffers: VM"}, 1, False),
        ((6, 12), "tsa", {"tsa": ATTEMPTED}, 2, True),
        ((6, 16), "tsa", {"tsa": ATTEMPTED}, 2, False),
    ],
)
def test_who_clears_buffers_when_idle(
    version: tuple[int, int], bugs: str, texts: Mapping[str, str], threads: int, on: bool
) -> None:
    machine = facts(version, texts, bugs=bugs, siblings=threads, cores=1)
    answer = RULES["cpu_buf_idle_clear"].rule(KeyQuery(machine, cast(FeatureWords, None)))
    assert answer is not None
    assert answer.value is on


@pytest.mark.parametrize(
    ("key", "given", "version", "on"),
    [
        ("timers_nohz_active", "nohz=n", (5, 10), False),
        ("timers_nohz_active", "nohz=f", (5, 10), True),
        ("timers_nohz_active", "nohz=f", (5, 18), False),
        ("timers_nohz_active", "nohz=d", (6, 12), True),
        ("timers_nohz_active", "nohz=disabled", (6, 16), False),
        ("hrtimer_highres_enabled_key", "highres=off highres=maybe", (6, 1), False),
        ("init_on_alloc", "init_on_alloc=0 init_on_alloc=e", (6, 12), False),
        ("init_on_alloc", "init_on_alloc=0 init_on_alloc=e", (6, 16), True),
    ],
)
def test_what_a_boolean_option_takes_depends_on_the_kernel(
    key: str, given: str, version: tuple[int, int], on: bool
) -> None:
    answer = RULES[key].rule(KeyQuery(facts(version, cmdline=given), cast(FeatureWords, None)))
    assert answer is not None
    assert answer.value is on


def test_an_idle_routine_that_the_kernel_does_not_know_leaves_the_one_before() -> None:
    machine = facts((6, 12), flags="fpu monitor", bugs="", cmdline="idle=halt idle=bogus")
    kernel = cast(Any, SimpleNamespace(address_of=lambda name: None))
    assert _idle(machine, kernel)["x86_idle"].symbol == "default_idle"


@pytest.mark.parametrize(
    ("flags", "log", "goes"),
    [
        ("fpu monitor", "[    0.1] process: using mwait in idle threads\n", "mwait_idle"),
        ("fpu monitor hypervisor", "[    0.1] process: using mwait in idle threads\n", "mwait_idle"),
        ("fpu monitor", "[    0.0] Booting paravirtualized kernel on bare hardware\n", "default_idle"),
        ("fpu monitor", "[    9.0] late\n", "mwait_idle"),
    ],
)
def test_the_log_says_what_is_done_when_idle(flags: str, log: str, goes: str) -> None:
    machine = facts((7, 2), flags=flags, bugs="", dmesg=log)
    kernel = cast(Any, SimpleNamespace(address_of=lambda name: None))
    assert _idle(machine, kernel)["x86_idle"].symbol == goes


@pytest.mark.parametrize(
    ("log", "on"),
    [
        ("tsc: HPET/PMTIMER calibration failed\n", False),
        ("tsc: HPET/PMTIMER calibration failed\ntsc: Detected 2000.000 MHz processor\n", True),
        ("tsc: Marking TSC unstable due to running on Hyper-V\n", True),
        ("tsc: Marking TSC unstable due to could not calculate TSC khz\n", False),
    ],
)
def test_a_tsc_that_could_not_be_calibrated_is_not_used(log: str, on: bool) -> None:
    machine = facts((6, 12), flags="fpu tsc hypervisor", dmesg=log)
    answer = RULES["__use_tsc"].rule(KeyQuery(machine, cast(FeatureWords, None)))
    assert answer is not None
    assert answer.value is on


@pytest.mark.parametrize(
    ("given", "before", "since"),
    [
        ('"spectre_v2=off"', "retpoline", "off"),
        ('spectre_v2="off"', "retpoline", "off"),
        ("spectre-v2=off", "retpoline", "off"),
        ("quiet -- spectre_v2=off", "off", "retpoline"),
        ("spectre_v2=off spectre_v2=retpoline,lfence", "lfence", "lfence"),
        ("nospectre_v2", "off", "off"),
        ("quiet -- nospectre_v2", "off", "retpoline"),
    ],
)
def test_to_6_15_spectre_v2_is_looked_for_without_quotes(given: str, before: str, since: str) -> None:
    for version, mode in (((6, 12), before), ((7, 2), since)):
        assert Mitigations(facts(version, vendor=INTEL, cmdline=given)).spectre_v2.value == mode


#: X86_FEATURE_ALWAYS, which the kernel forces, and X86_FEATURE_LFENCE_RDTSC of 5.10 and 6.1, which init_intel() sets.
ALWAYS, LFENCE_RDTSC = 3 * 32 + 21, 3 * 32 + 18


@pytest.mark.parametrize(
    ("release", "given", "lfence"),
    [
        ("6.1.90-small", f"clearcpuid={ALWAYS},{LFENCE_RDTSC}", False),
        ("6.1.90-small", f"clearcpuid={ALWAYS},{LFENCE_RDTSC:#x}", True),
        ("6.1.90-small", f"clearcpuid=bogus,{LFENCE_RDTSC}", False),
        ("5.10.200-small", f"clearcpuid={ALWAYS},{LFENCE_RDTSC:#x}", False),
        ("5.10.200-small", f"clearcpuid={ALWAYS},bogus,{LFENCE_RDTSC}", True),
    ],
)
def test_what_the_kernel_forces_is_not_cleared(release: str, given: str, lfence: bool) -> None:
    rows = [small.Alternative(8 * i, 3, number, b"\x0f\x01\xca") for i, number in enumerate((ALWAYS, LFENCE_RDTSC))]
    kernel = small.kernel(b"\x90" * 64, rows, release=release)
    machine = Machine.from_dict({"vendor": INTEL, "family": 6, "model": 0x3C, "flags": "fpu sse2", "cmdline": given})
    words = predict(machine, kernel)
    assert words[ALWAYS].value is True
    assert words[LFENCE_RDTSC].value is lfence


@pytest.mark.parametrize(("release", "on"), [("6.1.90-small", False), ("6.18.90-small", True)])
def test_a_feature_is_set_by_an_option_of_later_kernels(release: str, on: bool) -> None:
    number = 3 * 32 + 18
    kernel = small.kernel(b"\x90" * 64, [small.Alternative(0, 3, number, b"\x0f\x01\xca")], release=release)
    machine = Machine.from_dict({"vendor": INTEL, "family": 6, "flags": "fpu", "cmdline": f"setcpuid={number}"})
    assert predict(machine, kernel)[number].value is on


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ("maxcpus=1", True),
        ("maxcpus=0x1", True),
        ("maxcpus=2 maxcpus=01", True),
        ("maxcpus=many", True),
        ("maxcpus=-1", False),
        ("maxcpus=2", False),
        ("maxcpus", False),
        ("maxcpus=1 noreplace-smp", False),
    ],
)
def test_how_many_processors_may_come_up(given: str, one: bool) -> None:
    sections = [(".text", small.TEXT, 64, True), (".smp_locks", small.TEXT + 4096, 0, False)]
    kernel = cast(Any, SimpleNamespace(image=SimpleNamespace(sections=lambda: sections)))
    machine = Machine.from_dict({"cmdline": given, "possible_cpus": 2, "online_cpus": 1})
    assert uniprocessor(machine, kernel).value is one


def test_one_processor_that_is_up_may_be_one_of_several() -> None:
    sections = [(".smp_locks", small.TEXT + 4096, 0, False)]
    kernel = cast(Any, SimpleNamespace(image=SimpleNamespace(sections=lambda: sections)))
    answer = uniprocessor(Machine.from_dict({"cmdline": "nosmt", "online_cpus": 1}), kernel)
    assert (answer.value, answer.guess) == (None, True)


@pytest.mark.parametrize(
    ("text", "number"), [("0x94", 148), ("0160", 112), ("0", 0), ("12,3", 12), ("-1", None), ("", None), ("xx", None)]
)
def test_numbers_are_read_as_the_kernel_reads_them(text: str, number: int | None) -> None:
    assert cmdline.number(text) == number
