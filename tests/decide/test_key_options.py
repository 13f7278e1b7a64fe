"""Keys that options of the command line turn, on machines made by hand."""

from __future__ import annotations

import struct
from typing import cast

import pytest

from image import small
from pvops.assembler.elf import ALLOC, WRITE, ElfSection
from pvops.decide.answers import Facts
from pvops.decide.key_conditions import KeyQuery, truth
from pvops.decide.key_rules import RULES
from pvops.decide.keys import predict_keys
from pvops.decide.prediction import FeatureWords, predict
from pvops.decide.preempt import preempt_mode
from pvops.image.built import Built
from pvops.kernel import Kernel
from pvops.machine.machine import Machine


def state(key: str, cmdline: str, *, version: tuple[int, int] = (6, 12), log: str = "", offset: int = 0) -> bool | None:
    machine = Machine(cmdline=cmdline, dmesg=log)
    query = KeyQuery(Facts(machine, version, 64), cast(FeatureWords, None), offset)
    answer = RULES[key].rule(query)
    return None if answer is None else answer.value


@pytest.mark.parametrize(
    ("given", "value"),
    [("on", True), ("Y", True), ("1", True), ("off", False), ("0", False), ("x", None), ("", None)],
)
def test_what_a_boolean_option_says(given: str, value: bool | None) -> None:
    assert truth(given, (6, 12)) is value


@pytest.mark.parametrize(
    ("key", "cmdline", "on"),
    [
        ("psi_disabled", "psi=0", True),
        ("psi_disabled", "psi=1", False),
        ("psi_disabled", "quiet", None),
        ("psi_cgroups_enabled", "psi=0", False),
        ("psi_cgroups_enabled", "cgroup_disable=cpu,pressure", False),
        ("psi_cgroups_enabled", "psi=1", None),
        ("slub_debug_enabled", "slub_debug", True),
        ("slub_debug_enabled", "slub_debug=FZ", True),
        ("slub_debug_enabled", "slab_debug=-", False),
        ("slub_debug_enabled", "slub_debug=O", False),
        ("slub_debug_enabled", "slub_debug=,dentry", True),
        ("slub_debug_enabled", "quiet", None),
        ("memory_cgrp_subsys_enabled_key", "cgroup_disable=memory", False),
        ("memory_cgrp_subsys_enabled_key", "cgroup_disable=cpu cgroup_disable=hugetlb,memory", False),
        ("memory_cgrp_subsys_enabled_key", "cgroup_disable=cpu", None),
        ("io_cgrp_subsys_enabled_key", "cgroup_disable=blkio", False),
        ("sched_numa_balancing", "numa_balancing=enable", True),
        ("sched_numa_balancing", "quiet", None),
        ("page_alloc_shuffle_key", "page_alloc.shuffle=1", True),
        ("sched_schedstats", "schedstats=enable", True),
        ("sched_schedstats", "schedstats=1", None),
        ("sched_schedstats", "schedstats=disable sysctl.kernel.sched_schedstats=1", True),
        ("sched_numa_balancing", "numa_balancing=enable sysctl.kernel.numa_balancing=0", False),
        ("delayacct_key", "sysctl.kernel.task_delayacct=1", True),
        ("bypass_usercopy_checks", "hardened_usercopy=off", True),
        ("bypass_usercopy_checks", "hardened_usercopy=on", False),
        ("bypass_usercopy_checks", "quiet", None),
        ("validate_usercopy_range", "hardened_usercopy=0", False),
        ("validate_usercopy_range", "quiet", None),
        ("delayacct_key", "delayacct", True),
        ("tracepoint_printk_key", "tp_printk", True),
        ("tracepoint_printk_key", "tp_printk=off", False),
        ("tracepoint_printk_key", "tp_printk tp_printk_stop_on_boot", False),
        ("tracepoint_printk_key", "quiet", None),
        ("_page_poisoning_enabled", "page_poison=1", True),
        ("_debug_pagealloc_enabled", "debug_pagealloc=on", True),
    ],
)
def test_an_option_turns_its_key(key: str, cmdline: str, on: bool | None) -> None:
    assert state(key, cmdline) is on


HEAP = "[    0.1] mem auto-init: stack:all(zero), heap alloc:{}, heap free:off\n"
TOOK = (
    "[    0.1] mem auto-init: CONFIG_PAGE_POISONING is on, will take precedence over init_on_alloc and init_on_free\n"
)


def test_what_the_heap_is_filled_with() -> None:
    assert state("init_on_alloc", "", log=HEAP.format("on")) is True
    # The log's first line with these words says another thing.
    assert state("init_on_alloc", "page_poison=1", log=TOOK + HEAP.format("off")) is False
    assert state("init_on_alloc", "init_on_alloc=1 page_poison=1") is False
    assert state("init_on_alloc", "init_on_alloc=0") is False
    assert state("init_on_alloc", "") is None
    # 5.10 says "off" of what poisoned pages need not, and leaves the key on.
    assert state("init_on_free", "init_on_free=1 page_poison=1", version=(5, 10), log=HEAP.format("off")) is True


def test_what_makes_pages_be_checked() -> None:
    assert state("check_pages_enabled", "", log=HEAP.format("on")) is True
    assert state("check_pages_enabled", "", log=HEAP.format("off")) is False
    assert state("check_pages_enabled", "debug_pagealloc=on", log=HEAP.format("off")) is True
    assert state("check_pages_enabled", "page_poison=1", log=TOOK + HEAP.format("off")) is True
    assert state("check_pages_enabled", "") is None


@pytest.mark.parametrize(
    ("said", "protocol", "hook", "on"),
    [
        ("AppArmor: AppArmor initialized", 2, 4, True),
        ("AppArmor: AppArmor initialized", 2, 3, False),
        ("SELinux:  Initializing.", 2, 3, True),
        ("SELinux:  Initializing.", 10, 2, True),
        ("Smack:  Initializing.", 10, 3, True),
        ("Smack:  Initializing.", 10, 4, False),
        ("nothing", 2, 4, False),
        ("SELinux:  Initializing.", 2, 0, None),
        ("SELinux:  Initializing.", 7, 4, None),
    ],
)
def test_hooks_that_security_modules_register(said: str, protocol: int, hook: int, on: bool | None) -> None:
    log = f"[    0.1] Booting paravirtualized kernel on bare hardware\n[    0.2] {said}\n[    0.5] Run /init\n"
    assert state("nf_hooks_needed", "", log=log, offset=(protocol * 5 + hook) * 16) is on


def test_a_mode_of_preemption_that_there_is_not_changes_nothing() -> None:
    log = "[    0.0] Dynamic Preempt: unsupported mode: lazy\n[    0.1] Dynamic Preempt: voluntary\n"
    assert preempt_mode(Facts(Machine(cmdline="preempt=lazy", dmesg=log), (6, 12), 64))[0] == "voluntary"


def test_whether_stalls_are_counted_is_what_the_image_is_built_with() -> None:
    data = bytearray(64)
    data[8] = 1
    on = small.kernel(b"\x90" * 64, data=bytes(data), symbols={"psi_enable": small.DATA + 8})
    off = small.kernel(b"\x90" * 64, data=bytes(data), symbols={"psi_enable": small.DATA + 9})
    assert (Built(on).stalls, Built(off).stalls) == (True, False)
    assert Built(small.kernel(b"\x90" * 64)).stalls is None


def test_what_the_heap_is_filled_with_by_default_is_what_the_image_is_built_with() -> None:
    data = struct.pack("<4Q", 1, 0, 0, 0)
    opened = small.kernel(b"\x90" * 64, data=data.ljust(64, b"\0"), symbols={"init_on_alloc": small.DATA})
    assert (Built(opened).fills("alloc"), Built(opened).fills("free")) == (True, None)
    query = KeyQuery(Facts(Machine(), (6, 12), 64, Built(opened)), cast(FeatureWords, None))
    answer = RULES["check_pages_enabled"].rule(query)
    assert answer is not None
    assert answer.value is True


@pytest.mark.parametrize(
    ("clock", "cmdline", "on"), [("hpet", "", False), ("hpet", "clocksource=hpet", True), ("tsc", "", True)]
)
def test_a_log_that_is_cut_leaves_the_clock_to_its_source(clock: str, cmdline: str, on: bool) -> None:
    given = {"flags": "fpu tsc", "clocksource": clock, "cmdline": cmdline, "dmesg": "[    9.0] late\n"}
    query = KeyQuery(Facts(Machine.from_dict(given), (6, 1), 64), cast(FeatureWords, None))
    answer = RULES["__sched_clock_stable"].rule(query)
    assert answer is not None
    assert answer.value is on


@pytest.mark.parametrize(
    ("clock", "cmdline", "on"), [("tsc", "", True), ("tsc", "nohz=off", False), ("refined-jiffies", "", False)]
)
def test_timers_wait_for_no_tick_where_a_clock_event_can_be_asked_for(clock: str, cmdline: str, on: bool) -> None:
    given = {"clocksource": clock, "cmdline": cmdline}
    query = KeyQuery(Facts(Machine.from_dict(given), (5, 4), 64), cast(FeatureWords, None))
    answer = RULES["timers_nohz_active"].rule(query)
    assert answer is not None
    assert answer.value is on


@pytest.mark.parametrize(("version", "on"), [((4, 15), True), ((4, 18), False)])
def test_one_cpu_of_xen_needs_no_lock_of_its_own_since_4_18(version: tuple[int, int], on: bool) -> None:
    given = {"hypervisor": "xen-pv", "flags": "fpu hypervisor", "possible_cpus": 1}
    query = KeyQuery(Facts(Machine.from_dict(given), version, 64), cast(FeatureWords, None))
    answer = RULES["virt_spin_lock_key"].rule(query)
    assert answer is not None
    assert answer.value is on


MESSAGES, STRINGS, LABELS = (small.TEXT + at for at in (0x60_0000, 0x68_0000, 0x70_0000))
#: Module, function, file, line; as many as a table of labels needs.
TOLD = [
    ("acpi", "acpi_init", "drivers/acpi/bus.c", 10),
    ("acpi", "acpi_scan", "drivers/acpi/scan.c", 20),
    ("usbcore", "usb_init", "drivers/usb/core/usb.c", 30),
    *(("main", f"call_{number}", "init/main.c", 100 + number) for number in range(17)),
]


def messages() -> Kernel:
    """Twenty debug messages, their keys and a label for each."""
    strings, rows, labels = bytearray(), b"", b""

    def string(text: str) -> int:
        at = STRINGS + len(strings)
        strings.extend(text.encode() + b"\0")
        return at

    for index, (module, function, file, line) in enumerate(TOLD):
        pointers = [string(text) for text in (module, function, file, f"{function} is here\n")]
        rows += struct.pack("<4QIIQQ", *pointers, line | 63 << 18, 0, 0, 0)
        here, at = LABELS + 16 * index, small.TEXT + 32 * index
        key = MESSAGES + 56 * index + 40
        labels += struct.pack("<iiq", at - here, at + 16 - here - 4, key - here - 8)
    text = (bytes.fromhex("0f1f440000") + b"\x90" * 27) * len(TOLD)
    more = [
        ElfSection("__dyndbg", MESSAGES, rows, ALLOC | WRITE),
        ElfSection(".strings", STRINGS, bytes(strings), ALLOC),
        ElfSection(".jump_table_of_a_linker", LABELS, labels, ALLOC),
    ]
    return small.kernel(text.ljust(0x1000, b"\xc3"), release="6.12.0-small", more=more, stripped=True)


@pytest.mark.parametrize(
    ("cmdline", "printed"),
    [
        ("quiet", []),
        ("dyndbg", range(20)),
        ("dyndbg=+p", range(20)),
        ("dyndbg=+f", []),
        ('dyndbg="file drivers/acpi/* +p"', [0, 1]),
        ('dyndbg="file scan.c =pf; func usb_init +p"', [1, 2]),
        ('dyndbg="module acpi +p; func acpi_* -p; line 30 +p"', [2]),
        ('dyndbg="file init/main.c:100-102 +p"', [3, 4, 5]),
        ('dyndbg="file main.c:call_1? +p"', range(13, 20)),
        ("dyndbg=\"format 'usb_init is' +p\"", [2]),
        ("usbcore.dyndbg=+p", [2]),
        ('dyndbg="file +p"', []),
        ('dyndbg="class DRM_UT_CORE +p"', []),
        ('dyndbg="colour red +p"', []),
    ],
)
def test_which_debug_messages_are_printed(cmdline: str, printed: list[int]) -> None:
    opened = messages()
    keys = predict_keys(predict(Machine.from_dict({"cmdline": cmdline}), opened), opened)
    on = [index for index in range(len(TOLD)) if keys[MESSAGES + 56 * index + 40].enabled]
    assert on == list(printed)
