"""Keys that options turn which count, isolate or write to /proc/sys, on machines made by hand."""

from __future__ import annotations

from typing import Any, cast

import pytest

from image import small
from pvops.decide.answers import Facts
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES
from pvops.decide.prediction import FeatureWords
from pvops.image.built import Built
from pvops.machine.machine import Machine


def state(key: str, cmdline: str, *, version: tuple[int, int] = (6, 12), log: str = "", **given: object) -> bool | None:
    machine = Machine.from_dict({"cmdline": cmdline, "dmesg": log, **given})
    answer = RULES[key].rule(KeyQuery(Facts(machine, version, 64), cast(FeatureWords, None)))
    return None if answer is None else answer.value


@pytest.mark.parametrize(
    ("key", "cmdline", "on"),
    [
        ("vm_numa_stat_key", "sysctl.vm.numa_stat=0", False),
        ("vm_numa_stat_key", "sysctl.vm.numa_stat=2", None),
        ("vm_numa_stat_key", "sysctl/vm/numa_stat=0x0", False),
        ("vm_numa_stat_key", "quiet", None),
        ("bpf_stats_enabled_key", "sysctl.kernel.bpf_stats_enabled=1", True),
        ("net_high_order_alloc_disable_key", "sysctl.net.core.high_order_alloc_disable=1", True),
        ("rps_needed", "sysctl.net.core.rps_sock_flow_entries=256", True),
        ("rfs_needed", "sysctl.net/core/rps_sock_flow_entries=0400", True),
        ("rfs_needed", "sysctl.net.core.rps_sock_flow_entries=0", False),
        ("rfs_needed", "sysctl.net.core.rps_sock_flow_entries=-1", None),
        ("skb_defer_disable_key", "sysctl.net.core.skb_defer_max=0", True),
        ("skb_defer_disable_key", "sysctl.net.core.skb_defer_max=64", False),
        ("sched_uclamp_used", "sysctl.kernel.sched_util_clamp_min=512", True),
        ("sched_uclamp_used", "sysctl.kernel.sched_util_clamp_max=1024", None),
        ("sched_uclamp_used", "sysctl.kernel.sched_util_clamp_max=2048", None),
        ("timers_migration_enabled", "sysctl.kernel.timer_migration=0", False),
        ("timers_migration_enabled", "sysctl.kernel.timer_migration=1", True),
        ("timers_migration_enabled", "sysctl.kernel.timer_migration=1 nohz=off", False),
        ("sched_schedstats", "sysctl.kernel.sched_schedstats=1 sysctl.kernel.sched_schedstats=x", True),
        ("sched_numa_balancing", "sysctl.kernel.numa_balancing=2", True),
    ],
)
def test_a_file_below_proc_sys_is_written_before_init_runs(key: str, cmdline: str, on: bool | None) -> None:
    assert state(key, cmdline) is on


def test_what_older_kernels_refuse_to_have_written() -> None:
    assert state("vm_numa_stat_key", "sysctl.vm.numa_stat=0", version=(5, 4)) is None
    assert state("sched_numa_balancing", "sysctl.kernel.numa_balancing=2", version=(5, 10)) is None


@pytest.mark.parametrize(
    ("key", "cmdline", "on"),
    [
        ("x32_enabled_skey", "syscall.x32=y", True),
        ("use_backlog_threads_key", "thread_backlog_napi", True),
        ("rseq_debug_enabled", "rseq_debug=1", True),
        ("page_owner_inited", "page_owner=on", True),
        ("irqhandler_duration_check_enabled", "irqhandler.duration_warn_us=10", True),
        ("irqhandler_duration_check_enabled", "irqhandler.duration_warn_us=0", False),
        ("_debug_guardpage_enabled", "debug_pagealloc=on debug_guardpage_minorder=1", True),
        ("_debug_guardpage_enabled", "debug_guardpage_minorder=1", None),
        ("trace_pagefault_key", "trace_event=exceptions", True),
        ("trace_pagefault_key", "trace_event=:page_fault_kernel", True),
        ("trace_pagefault_key", "trace_event=irq:*", None),
        ("i2c_trace_msg_key", "trace_event=i2c:i2c_read", True),
        ("rseq_slice_extension_key", "rseq_slice_ext=off", False),
        ("mc_debug", "xen_mc_debug", True),
        ("csdlock_debug_enabled", "csdlock_debug=1", True),
        ("csdlock_debug_enabled", "csdlock_debug=0", False),
        ("rt_group_sched", "rt_group_sched=0", False),
        ("rt_group_sched", "rt_group_sched=x", None),
        ("__sched_proxy_exec", "sched_proxy_exec", True),
        ("__sched_proxy_exec", "sched_proxy_exec=0", False),
        ("__sched_proxy_exec", "quiet", None),
        ("page_table_check_disabled", "page_table_check=on", False),
        ("iommu_debug_initialized", "iommu.debug_pagealloc=1", True),
        ("stack_erasing_bypass", "sysctl.kernel.stack_erasing=0", True),
        ("slub_debug_enabled", "slub_debug=FZ-", False),
        ("slub_debug_enabled", "slub_debug=-FZ", True),
        ("slub_debug_enabled", "slub-debug=F", True),
        ("slub_debug_enabled", "slub_debug=FZ,dentry;-", True),
        ("slub_debug_enabled", "slub_debug=F;;-", False),
        ("slub_debug_enabled", "slub_debug=FZ slub_debug=-", False),
        ("slub_debug_enabled", "slub_debug=F,dentry slub_debug=-", True),
    ],
)
def test_an_option_turns_its_key(key: str, cmdline: str, on: bool | None) -> None:
    assert state(key, cmdline) is on


def test_an_option_turns_nothing_before_it_was_there() -> None:
    assert [state("slub_debug_enabled", "slab_debug=FZ", version=version) for version in ((6, 1), (6, 12))] == [
        None,
        True,
    ]
    checks = [state("check_pages_enabled", "check_pages=1", version=version) for version in ((6, 12), (7, 2))]
    assert checks == [None, True]


def test_sleep_that_is_profiled_is_counted() -> None:
    line = "[    0.1] kernel profiling enabled schedstats, disable via kernel.sched_schedstats.\n"
    assert state("sched_schedstats", "profile=sleep", version=(6, 1), log=line) is True
    assert state("sched_schedstats", "profile=sleep schedstats=disable", version=(6, 1), log=line) is False
    assert state("sched_schedstats", "profile=sleep", version=(5, 10), log=line) is None
    assert state("sched_schedstats", "profile=sleep", version=(6, 12)) is None


def test_data_are_flushed_where_the_cpu_can() -> None:
    assert state("switch_mm_cond_l1d_flush", "l1d_flush=on", flags="fpu flush_l1d") is True
    assert state("switch_mm_cond_l1d_flush", "l1d_flush=on", flags="fpu") is False
    assert state("switch_mm_cond_l1d_flush", "l1d_flush=off", flags="fpu flush_l1d") is None


@pytest.mark.parametrize(
    ("cmdline", "made", "version", "on"),
    [
        ("hugetlb_free_vmemmap=on hugepages=4", 4, (6, 1), True),
        ("hugetlb_free_vmemmap=on", 0, (6, 1), False),
        ("hugetlb_free_vmemmap=on sysctl.vm.nr_hugepages=4", 0, (6, 12), True),
        ("hugetlb_free_vmemmap=off hugepages=4", 4, (6, 1), False),
        ("hugepages=4", 4, (6, 1), None),
        ("hugetlb_free_vmemmap=on", 0, (5, 19), True),
    ],
)
def test_page_structures_are_freed_where_there_are_huge_pages(
    cmdline: str, made: int, version: tuple[int, int], on: bool | None
) -> None:
    log = f"[    0.2] HugeTLB: registered 2.00 MiB page size, pre-allocated {made} pages\n"
    assert state("hugetlb_optimize_vmemmap_key", cmdline, version=version, log=log) is on


@pytest.mark.parametrize(("said", "on"), [("Enabling", True), ("Disabling", False)])
def test_the_log_says_whether_nodes_are_balanced(said: str, on: bool) -> None:
    line = f"[    0.1] mempolicy: {said} automatic NUMA balancing. Configure with numa_balancing= or the sysctl\n"
    assert state("sched_numa_balancing", "", log="[    0.0] nr_node_ids:2\n" + line) is on


@pytest.mark.parametrize(
    ("key", "cmdline", "refused", "on"),
    [
        ("context_tracking_key", "nohz_full=1", 0, True),
        ("context_tracking_key", "nohz_full=7", 1, False),
        ("context_tracking_key", "isolcpus=1", 0, None),
        ("context_tracking_key", "isolcpus=nohz,domain,1", 0, True),
        ("context_tracking_key", "isolcpus=domain,managed_irq,1", 0, None),
        ("context_tracking_key", "quiet", 0, None),
        ("housekeeping_overridden", "isolcpus=1 nohz_full=7", 1, True),
        ("housekeeping_overridden", "isolcpus=7 nohz_full=7", 2, False),
        ("housekeeping_overridden", "nohz_full=7", 1, False),
    ],
)
def test_an_option_that_names_no_cpu_of_the_machine_does_nothing(
    key: str, cmdline: str, refused: int, on: bool | None
) -> None:
    line = "[    0.1] Housekeeping: nohz_full= or isolcpus= incorrect CPU range\n"
    assert state(key, cmdline, log=line * refused) is on


NO_IPI = "[    0.1] NO_HZ: Can't run full dynticks because arch doesn't support IRQ work self-IPIs\n"
OTHERS = "[    0.1] Housekeeping: nohz_full= must match isolcpus=\n"
FIRST = "[    0.1] Housekeeping: must include one present CPU, using boot CPU:0\n"


@pytest.mark.parametrize(
    ("cmdline", "log", "isolates", "tracks"),
    [
        ("nohz_full=1", NO_IPI, True, False),
        ("isolcpus=1 nohz_full=2", OTHERS, True, False),
        ("nohz_full=1 isolcpus=2", OTHERS, True, True),
        ("nohz_full=0", FIRST, False, False),
    ],
)
def test_the_log_says_that_a_cpu_is_not_kept(cmdline: str, log: str, isolates: bool, tracks: bool) -> None:
    found = [
        state(key, cmdline, log=log, possible_cpus=1) for key in ("housekeeping_overridden", "context_tracking_key")
    ]
    assert found == [isolates, tracks]


def test_the_only_cpu_is_isolated_by_older_kernels() -> None:
    assert state("housekeeping_overridden", "isolcpus=0", version=(6, 8), log=FIRST, possible_cpus=1) is True


@pytest.mark.parametrize(
    ("siblings", "online", "on"), [(2, 4, True), (1, 2, False), (1, 1, False), (2, 2, None), (None, 2, None)]
)
def test_packages_have_caches_of_their_own(siblings: int | None, online: int, on: bool | None) -> None:
    given: dict[str, Any] = {"online_cpus": online} | ({} if siblings is None else {"siblings": siblings})
    assert state("sched_cache_active", "", version=(7, 2), **given) is on


@pytest.mark.parametrize(
    ("cmdline", "log", "online", "on"),
    [
        ("maxcpus=2", "smpboot: Allowing 4 CPUs, 0 hotplug CPUs\n", 2, False),
        ("maxcpus=2", "smpboot: Allowing 4 CPUs, 2 hotplug CPUs\n", 2, True),
        ("maxcpus=0x2", "CPU topo: Allowing 4 present CPUs plus 0 hotplug CPUs\n", 2, False),
        ("maxcpus=2", "CPU topo: Allowing 2 present CPUs plus 2 hotplug CPUs\n", 2, True),
        ("maxcpus=2", "", 2, False),
        ("maxcpus=4", "", 4, True),
        ("maxcpus=1", "", 1, False),
        ("nosmt", "CPU topo: Allowing 4 present CPUs plus 0 hotplug CPUs\n", 2, True),
    ],
)
def test_no_interrupt_goes_to_all_where_some_cpu_was_never_started(
    cmdline: str, log: str, online: int, on: bool
) -> None:
    assert state("apic_use_ipi_shorthand", cmdline, log=log, online_cpus=online, possible_cpus=4) is on


@pytest.mark.parametrize(
    ("cmdline", "version", "on"),
    [
        ("nohz_full=1", (6, 12), True),
        ("isolcpus=nohz,1", (7, 2), True),
        ("isolcpus=1", (6, 12), None),
        ("nohz_full=1", (6, 1), None),
    ],
)
def test_packets_are_stamped_from_the_start_where_a_cpu_is_left_alone(
    cmdline: str, version: tuple[int, int], on: bool | None
) -> None:
    assert state("netstamp_needed_key", cmdline, version=version) is on


_KVM = "[    0.0] Hypervisor detected: KVM\n[    0.1] Booting paravirtualized kernel on KVM\n"
_RUN = "[    1.0] Run /init as init process\n"
_IPIS = "[    0.1] kvm-guest: setup PV IPIs\n"


@pytest.mark.parametrize(
    ("log", "cpus", "steal", "faults"),
    [
        (_KVM + _IPIS + _RUN, 2, True, True),
        (_KVM + _RUN, 2, True, False),
        (_KVM + _RUN, 1, True, True),
        ("[    9.0] late\n", 2, True, True),
    ],
)
def test_what_kvm_is_assumed_to_offer(log: str, cpus: int, steal: bool, faults: bool) -> None:
    given: dict[str, Any] = {"hypervisor": "kvm", "flags": "fpu hypervisor", "possible_cpus": cpus}
    found = [state(key, "", log=log, **given) for key in ("paravirt_steal_enabled", "kvm_async_pf_enabled")]
    assert found == [steal, faults]


def test_memory_is_taken_from_the_nearest_node_alone_where_there_are_some() -> None:
    log = "[    0.0] SLUB: Strict NUMA enabled.\n"
    assert state("strict_numa", "slab_strict_numa", log=log) is True
    assert state("strict_numa", "slab_strict_numa") is None


@pytest.mark.parametrize(
    ("cmdline", "symbols", "on"),
    [
        ("kfence.sample_interval=100", {}, True),
        ("kfence.sample_interval=0", {}, False),
        ("kfence.sample_interval=100", {"wake_up_kfence_timer": small.TEXT + 16}, None),
        ("quiet", {}, None),
    ],
)
def test_objects_are_guarded_for_good_where_no_timer_turns_that_off(
    cmdline: str, symbols: dict[str, int], on: bool | None
) -> None:
    built = Built(small.kernel(b"\x90" * 64, symbols={"cpu_show_spectre_v2": small.TEXT + 8, **symbols}))
    facts = Facts(Machine(cmdline=cmdline), (6, 12), 64, built)
    answer = RULES["kfence_allocation_key"].rule(KeyQuery(facts, cast(FeatureWords, None)))
    assert (None if answer is None else answer.value) is on


@pytest.mark.parametrize(("modules", "on"), [(("landlock", "apparmor"), True), (("landlock",), False), (None, None)])
def test_hooks_of_packets_are_assumed_of_modules_where_the_log_is_cut(
    modules: tuple[str, ...] | None, on: bool | None
) -> None:
    facts = Facts(Machine(dmesg="[    9.0] late\n"), (6, 12), 64)
    query = KeyQuery(facts, cast(FeatureWords, None), (2 * 5 + 4) * 16, modules=modules)
    answer = RULES["nf_hooks_needed"].rule(query)
    assert (None if answer is None else answer.value) is on


@pytest.mark.parametrize(
    ("cmdline", "isolates", "tracks"),
    [("nohz_full=1", None, None), ("isolcpus=nohz,domain,1", None, None), ("nohz_full=1 isolcpus=1", True, None)],
)
def test_a_kernel_that_cannot_stop_ticks_refuses_to(cmdline: str, isolates: bool | None, tracks: bool | None) -> None:
    line = "[    0.0] Housekeeping: nohz unsupported. Build with CONFIG_NO_HZ_FULL\n"
    keys = ("housekeeping_overridden", "context_tracking_key")
    assert [state(key, cmdline, version=(5, 10), log=line) for key in keys] == [isolates, tracks]
