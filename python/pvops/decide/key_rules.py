"""Static keys that a boot turns on or off, and why: one rule a key, for keys that leave their initial state.

A key without a rule keeps the state it is built with. Sources: the functions named, of 5.10, 6.1, 6.12 and 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pvops.decide import key_buffers, key_counters, key_isolation, key_options, key_sysctls, trace_events
from pvops.decide.answers import Answer
from pvops.decide.guest import clock_is_the_hypervisors, guest_code_runs
from pvops.decide.key_conditions import (
    Entry,
    KeyQuery,
    always,
    flags,
    given,
    guest,
    oneshot,
    said,
    spectre_v2,
    switched,
)
from pvops.decide.preempt import preempt_mode


def _steal(query: KeyQuery) -> Answer | None:
    name, source = query.facts.machine.hypervisor
    runs = guest_code_runs(query.facts)
    if runs.value is False:
        return Answer(False, runs.source)
    if name in ("xen-pv", "xen-hvm"):  # ecb23dc6f2ef, 4.8; xen_time_init() of a guest with Xen's clock alone
        clock = clock_is_the_hypervisors(query.facts)
        return Answer(bool(clock.value) and query.facts.version >= (4, 8), clock.source)
    if name == "kvm":
        found = query.facts.machine.feature("kvm", "STEAL_TIME")
        if found.value is None:
            return Answer(True, f"assumed: KVM has STEAL_TIME since 3.1 ({found.source})")
        return Answer(found.value, found.source)
    if name == "vmware":
        return Answer("vmware: vmware-stealtime: cpu" in query.facts.machine.dmesg, source)
    return None if name is None else Answer(False, source)


def _steal_rq(query: KeyQuery) -> Answer | None:
    if query.facts.machine.hypervisor.value != "kvm":
        return None  # under Xen it depends on what the host lets guests map
    if query.facts.given("no-steal-acc"):
        return Answer(False, "no-steal-acc on the command line")
    return _steal(query)


def _virt_spin_lock(query: KeyQuery) -> Answer | None:
    facts = query.facts
    if facts.virtual is False:
        return Answer(False, "no hypervisor in /proc/cpuinfo's flags: native_pv_lock_init()")
    if facts.virtual is None:
        return None
    name, source = facts.machine.hypervisor
    if guest_code_runs(facts).value is False:
        return Answer(True, f"a guest whose kernel does not look at {name} ({guest_code_runs(facts).source})")
    # 3dec541b2e63 (4.18): one CPU needs no help.
    single = facts.machine.possible_cpus.value == 1 and facts.version >= (4, 18)
    # xen_hvm_smp_init(): without a callback vector as with ``nopvspin``.
    option = facts.given("nopvspin", "xen_nopvspin", *(["xen_no_vector_callback"] if name == "xen-hvm" else []))
    if name in ("xen-pv", "xen-hvm") and (single or option) and not facts.without("xen_init_spinlocks"):
        return Answer(False, f"{option or 'one CPU'}: xen_init_spinlocks()")
    if name == "kvm" and facts.version < (5, 9):  # until there was nopvspin, with the hint alone
        realtime, why = facts.machine.feature("kvm-hints", "REALTIME")
        if realtime:
            return Answer(False, f"KVM_HINTS_REALTIME ({why}): kvm_smp_prepare_boot_cpu()")
    elif name == "kvm" and not facts.without("kvm_spinlock_init"):
        return _kvm_spin_lock(query, "one CPU" if single else option)
    return Answer(True, f"a guest without pv spin locks of its own ({source})")


def _kvm_spin_lock(query: KeyQuery, other: str | None) -> Answer:
    """kvm_spinlock_init(), 5.9 and later: it says what it does, and without its log the host's features tell.

    960550503965 (6.18, and stable): what makes pv spin locks needless turns the key off whatever the host has.
    """
    facts = query.facts
    if said := re.search(r"PV spinlocks (enabled|disabled, no host support|disabled\b)", facts.machine.dmesg):
        return Answer("no host" in said[1], f'log: "{said[0]}"')
    unhalt, why = facts.machine.feature("kvm", "PV_UNHALT")
    if unhalt:
        return Answer(False, f"KVM_FEATURE_PV_UNHALT ({why}): kvm_spinlock_init()")
    realtime, hint = facts.machine.feature("kvm-hints", "REALTIME")
    needless = f"KVM_HINTS_REALTIME ({hint})" if realtime else other
    if needless is not None and unhalt is False:
        why = "kvm_spinlock_init(), by the version (960550503965)"
        return Answer(facts.version < (6, 18), f"{needless}, no KVM_FEATURE_PV_UNHALT: {why}")
    return Answer(True, f"no KVM_FEATURE_PV_UNHALT ({why}): kvm_spinlock_init()")


def _nf_hooks(query: KeyQuery) -> Answer | None:
    # nf_hooks_needed[NFPROTO_NUMPROTO][NF_MAX_HOOKS]: IPv4 (2) and IPv6 (10).
    keys = query.size() // 16
    hooks = next((hooks for count, hooks in _NF_HOOKS.items() if count <= keys <= count + 1), 5)  # aligned to 32 bytes
    protocol, hook = divmod(query.offset // 16, hooks)
    return _secured(query, hook) if protocol in (2, 10) else None


#: NFPROTO_NUMPROTO * NF_MAX_HOOKS → NF_MAX_HOOKS (include/linux/netfilter.h, include/uapi/linux/netfilter.h): protocols
#: are 13, 11 since DECnet went (6.1); hooks 8, from 4.16 on 5, and 7 where CONFIG_DECNET is set.
_NF_HOOKS = {13 * 8: 8, 13 * 7: 7, 13 * 5: 5, 11 * 5: 5}


#: NF_INET_FORWARD, _LOCAL_OUT, _POST_ROUTING.
_FORWARD, _OUT, _POST = 2, 3, 4
#: Security module → what the log says of it, and the hooks that it registers for IPv4 and IPv6.
_SECURED = {
    "AppArmor": ("AppArmor: AppArmor initialized", (_POST,)),
    "SELinux": ("SELinux:  Initializing.", (_FORWARD, _OUT, _POST)),
    "Smack": ("Smack:  Initializing.", (_OUT,)),
}


def _secured(query: KeyQuery, hook: int) -> Answer | None:
    told = {name: query.facts.logged(text) for name, (text, hooks) in _SECURED.items() if hook in hooks}
    if not told:
        return None
    on = next((name for name, said in told.items() if said), None)
    if on is None and None in told.values():
        return _assumed(query, told)
    return Answer(on is not None, f"{on} is on (log)" if on else f"{', '.join(told)}: off (log)")


def _assumed(query: KeyQuery, names: Iterable[str]) -> Answer | None:
    """What security modules do that nothing but the image and the command line tells of."""
    if query.modules is None:
        return None
    on = next((name for name in names if name.lower() in query.modules), None)
    return Answer(on is not None, f"assumed: {on or 'no other module'} is on, as the image and the options have it")


def _post_routing(query: KeyQuery) -> Answer | None:
    return _secured(query, _POST)


def _tc_wrapper(query: KeyQuery) -> Answer | None:
    retpoline = query.words.named("RETPOLINE")
    return None if retpoline is None else Answer(not retpoline.guess, f"RETPOLINE: {retpoline.source}")


def _once(query: KeyQuery) -> Answer | None:
    fired = next((p for p in query.places() if p.partition(".")[0] in _ONCE), None)
    return Answer(False, f"{fired}() runs in every boot") if fired else None


def _tsc(query: KeyQuery) -> Answer | None:
    if line := query.facts.machine.logged("could not calculate TSC khz"):
        return Answer(False, f'log: "{line.strip()}"')
    # mark_tsc_unstable() says why but once: below Hyper-V that was said before.
    if (line := query.facts.machine.logged("PMTIMER calibration failed")) and not query.facts.logged("MHz processor"):
        return Answer(False, f'log: "{line.strip()}", and no "MHz processor"')
    found = query.facts.flag("tsc")
    return None if found is None else Answer(found, "the CPU has tsc" if found else "no tsc")


def _no_verify(query: KeyQuery) -> Answer | None:
    return Answer(True, "a 32-bit va_list is passed by value") if query.facts.bits == 32 else None


_ONCE = (
    "ipvlan_init_secret",
    "alg_test",
    "key_set_index_key",
    "serial8250_isa_init_ports",
    "sched_init_smp",
    "kmem_cache_init_late",
)


def _clocksource(query: KeyQuery) -> Answer | None:
    lines = [line for line in query.facts.machine.dmesg.splitlines() if "clocksource: Switched to clocksource " in line]
    name = lines[-1].rpartition(" ")[2] if lines else query.facts.machine.clocksource
    return None if name is None else Answer(name.startswith("tsc"), f"the clock source is {name}")


def _lazy(query: KeyQuery) -> Answer | None:
    mode, source = preempt_mode(query.facts)
    return None if mode is None else Answer(mode == "lazy", source)


def _async_pf(query: KeyQuery) -> Answer | None:
    if query.facts.machine.hypervisor.value != "kvm":
        return None
    if query.facts.given("no-kvmapf"):
        return Answer(False, "no-kvmapf on the command line")
    found = query.facts.machine.feature("kvm", "ASYNC_PF_INT")
    # QEMU has both where a guest's CPU is its host's, and neither where it is a model of QEMU's.
    if (
        found.value is None
        and query.facts.logged(_IPIS) is False
        and (query.facts.machine.possible_cpus.value or 0) > 1
    ):
        return Answer(False, f'assumed, as PV_SEND_IPI, by the log: no "{_IPIS}"')
    if found.value is None:
        return Answer(True, f"assumed: KVM has ASYNC_PF_INT since 5.8 ({found.source})")
    return Answer(found.value, found.source)


#: kvm_setup_pv_ipi(), of more CPUs than one.
_IPIS = "setup PV IPIs"

#: Clock sources that a kernel takes where it does not trust the TSC.
_WORSE = ("hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies")


def _stable(query: KeyQuery) -> Answer | None:
    facts, clock = query.facts, query.facts.machine.clocksource
    if facts.logged(_STABLE) is None and clock in _WORSE and facts.option("clocksource") is None:
        return Answer(False, f"assumed: the log does not go back, and the clock source is {clock}")
    return _MARKED.rule(query)


_STABLE = "sched_clock: Marking stable"
_MARKED = said(
    _STABLE,
    "kernel/sched/clock.c: __set_sched_clock_stable(), __clear_sched_clock_stable()",
    usual="tsc",
    undone="sched_clock: Marking unstable",
)
_CRNG = said("random: crng init done", "lib/vsprintf.c: fill_random_ptr_key()", False, usual="rdrand")


def _pointer_hash(query: KeyQuery) -> Answer | None:
    # Since 4.19 the CPU's own random bytes do, before the pool has any (initialize_ptr_random()).
    if query.facts.version >= (4, 19) and query.facts.has("rdrand"):
        return Answer(False, "the CPU has rdrand")
    return _CRNG.rule(query)


_AVX2, _AVX512 = ("avx", "avx2"), ("avx", "avx2", "avx512f")

#: Key → rule.
RULES: Mapping[str, Entry] = {
    **key_options.RULES,
    **key_buffers.RULES,
    **key_counters.RULES,
    **key_isolation.RULES,
    **key_sysctls.RULES,
    **trace_events.RULES,
    "crng_is_ready": said("random: crng init done", "drivers/char/random.c: crng_set_ready()", usual="rdrand"),
    "not_filled_random_ptr_key": Entry(_pointer_hash, "lib/vsprintf.c: initialize_ptr_random(), fill_random_ptr_key()"),
    "__sched_clock_stable": Entry(_stable, _MARKED.restates),
    "sched_clock_running": always(True, "kernel/sched/clock.c: sched_clock_init()"),
    "__use_tsc": Entry(_tsc, "arch/x86/kernel/tsc.c: tsc_init(), tsc_enable_sched_clock()"),
    "cr_pinning": always(True, "arch/x86/kernel/cpu/common.c: setup_cr_pinning()"),
    "deferred_pages": always(False, "mm/mm_init.c: page_alloc_init_late()"),
    "frontswap_enabled_key": said("zswap: loaded", "mm/frontswap.c: frontswap_register_ops()"),
    "nf_hooks_needed": Entry(_nf_hooks, "security: {apparmor,selinux,smack}_nf_ip_init()"),
    "nf_hooks_needed[][NF_INET_POST_ROUTING]": Entry(_post_routing, "security: {apparmor,selinux}_nf_ip_init()"),
    "trace_no_verify": Entry(_no_verify, "kernel/trace/trace.c: test_can_verify()"),
    "xen_struct_pages_ready": guest("xen-pv", "arch/x86/xen/mmu_pv.c: xen_after_bootmem()"),
    "paravirt_steal_enabled": Entry(
        _steal, "arch/x86/kernel/kvm.c: activate_jump_labels(); drivers/xen/time.c: xen_time_setup_guest()"
    ),
    "paravirt_steal_rq_enabled": Entry(_steal_rq, "arch/x86/kernel/kvm.c: activate_jump_labels()"),
    "virt_spin_lock_key": Entry(_virt_spin_lock, "native_pv_lock_init(), kvm_spinlock_init(), xen_init_spinlocks()"),
    "kvm_async_pf_enabled": Entry(_async_pf, "arch/x86/kernel/kvm.c: kvm_guest_init()"),
    "timers_nohz_active": oneshot("nohz", "kernel/time/timer.c: timers_update_nohz()"),
    "timers_migration_enabled": Entry(
        key_sysctls.unless("kernel.timer_migration", oneshot("nohz", "").rule),
        "kernel/time/timer.c: timers_update_migration()",
    ),
    "hrtimer_highres_enabled_key": oneshot("highres", "kernel/time/hrtimer.c: hrtimer_switch_to_hres()"),
    "tmigr_exclude_isolated": always(True, "kernel/time/timer_migration.c: tmigr_init_isolation()"),
    "clocksource_read_inlined": Entry(_clocksource, "kernel/time/timekeeping.c: tk_switch_clocksource()"),
    "sk_dynamic_preempt_promote": Entry(_lazy, "kernel/sched/core.c: __sched_dynamic_update(), PREEMPT_RT's 6.12"),
    "sk_dynamic_preempt_lazy": Entry(_lazy, "kernel/sched/core.c: __sched_dynamic_update()"),
    "crypto_boot_test_finished": always(True, "crypto/algapi.c: crypto_start_tests()"),
    "__crypto_boot_test_finished": always(True, "crypto/algapi.c: crypto_start_tests()"),
    "crct10dif_fallback": always(False, "lib/crc-t10dif.c: crc_t10dif_rehash()"),
    "crc64_rocksoft_fallback": always(False, "lib/crc64-rocksoft.c: crc64_rocksoft_rehash()"),
    "tc_skip_wrapper": Entry(_tc_wrapper, "include/net/tc_wrapper.h: tc_wrapper_init()"),
    "___once_key": Entry(_once, "lib/once.c: __do_once_done()"),
    "switch_to_cond_stibp": spectre_v2("bugs.c: update_indir_branch_cond()", "STIBP: conditional"),
    "switch_mm_cond_ibpb": spectre_v2("bugs.c: spectre_v2_user_select_mitigation()", "IBPB: conditional"),
    "switch_mm_always_ibpb": spectre_v2("bugs.c: spectre_v2_user_select_mitigation()", "IBPB: always-on"),
    "switch_vcpu_ibpb": spectre_v2(
        "bugs.c: spectre_v2_user_apply_mitigation()", "IBPB: conditional", "IBPB: always-on"
    ),
    "bpf_pred_flush_enabled": said("Enabling IBPB for BPF", "bugs.c: spectre_v2_select_mitigation()"),
    "arch_scale_freq_key": said("Estimated ratio of average max frequency", "aperfmperf.c: bp_init_freq_invariance()"),
    "force_irqthreads_key": given("kernel/irq/manage.c: setup_forced_irqthreads()", "threadirqs"),
    "randomize_kstack_offset": switched("randomize_kstack_offset", "init/main.c: early_randomize_kstack_offset()"),
    "blake2s_use_ssse3": flags("blake2s_mod_init()", "ssse3"),
    "blake2s_use_avx512": flags("blake2s_mod_init()", *_AVX512, "avx512vl"),
    "have_aes": flags("lib/crypto/x86/aes.h: aes_mod_init_arch()", "aes"),
    "have_pclmul": flags("lib/crypto/x86/gf128hash.h", "pclmulqdq"),
    "have_pclmul_avx": flags("lib/crypto/x86/gf128hash.h", "pclmulqdq", "avx"),
    "have_pclmulqdq": flags("lib/crc/x86", "pclmulqdq"),
    "have_vpclmul_avx512": flags("lib/crc/x86/crc32.h", "pclmulqdq", "vpclmulqdq", "avx2", "avx512bw", "avx512vl"),
    "have_crc32": flags("lib/crc/x86/crc32.h: crc32_mod_init_arch()", "sse4_2"),
    "have_sha_ni": flags("lib/crypto/x86/sha256.h: sha256_mod_init_arch()", "sha_ni"),
    "have_sse2": flags("lib/crypto/x86/nh.h: nh_mod_init_arch()", "sse2"),
    "have_avx2": flags("lib/crypto/x86/nh.h: nh_mod_init_arch()", *_AVX2),
    "chacha_use_simd": flags("lib/crypto/x86/chacha.h: chacha_mod_init_arch()", "ssse3"),
    "chacha_use_avx2": flags("lib/crypto/x86/chacha.h: chacha_mod_init_arch()", *_AVX2),
    "chacha_use_avx512vl": flags("lib/crypto/x86/chacha.h: chacha_mod_init_arch()", *_AVX2, "avx512vl", "avx512bw"),
    "curve25519_use_bmi2_adx": flags("lib/crypto/x86/curve25519.h", "bmi2", "adx"),
    "poly1305_use_avx": flags("lib/crypto/x86/poly1305.h: poly1305_mod_init_arch()", "avx"),
    "poly1305_use_avx2": flags("lib/crypto/x86/poly1305.h: poly1305_mod_init_arch()", *_AVX2),
    "poly1305_use_avx512": flags("lib/crypto/x86/poly1305.h: poly1305_mod_init_arch()", *_AVX512),
}

#: Function → the key whose labels it has, where it has those of one key alone: this names keys in an image
#: that names no data (i386).
PLACES: Mapping[str, str] = {
    "rng_is_initialized": "crng_is_ready",
    "free_tail_page_prepare": "check_pages_enabled",
    "ptr_to_hashval": "not_filled_random_ptr_key",
    "sched_clock_stable": "__sched_clock_stable",
    "sched_clock_tick_stable": "__sched_clock_stable",
    "sched_clock_idle_wakeup_event": "__sched_clock_stable",
    "native_sched_clock": "__use_tsc",
    "xen_alloc_pte": "xen_struct_pages_ready",
    "xen_page_pinned": "xen_struct_pages_ready",
    "native_write_cr4": "cr_pinning",
    "frontswap_init": "frontswap_enabled_key",
    "swapcache_free_entries": "frontswap_enabled_key",
    "swap_range_free": "frontswap_enabled_key",
    "account_idle_ticks": "paravirt_steal_enabled",
    "native_send_call_func_ipi": "apic_use_ipi_shorthand",
    "apic_send_IPI_allbutself": "apic_use_ipi_shorthand",
    "__mod_timer": "timers_migration_enabled",
    "trigger_dyntick_cpu": "timers_nohz_active",
    "enqueue_timer": "timers_nohz_active",
    "syscall_return_slowpath": "mds_user_clear",
    "crypto_larval_wait": "crypto_boot_test_finished",
    "alg_test": "___once_key",
    "ipvlan_init_secret": "___once_key",
    "dma_pool_alloc": "init_on_alloc",
    "dma_pool_free": "init_on_free",
    "speculation_ctrl_update": "switch_to_cond_stibp",
    "cpu_bugs_smt_update": "sched_smt_present",
    "native_halt": "cpu_buf_idle_clear",
    "housekeeping_cpumask": "housekeeping_overridden",
    "ip_mc_output": "nf_hooks_needed[][NF_INET_POST_ROUTING]",
    "ip6_finish_output2": "nf_hooks_needed[][NF_INET_POST_ROUTING]",
    "trace_check_vprintf": "trace_no_verify",
    "psi_memstall_enter": "psi_disabled",
    "psi_task_switch": "psi_cgroups_enabled",
    "get_mem_cgroup_from_mm": "memory_cgrp_subsys_enabled_key",
    "workingset_activation": "memory_cgrp_subsys_enabled_key",
    "fixup_red_left": "slub_debug_enabled",
    "cpu_partial_store": "slub_debug_enabled",
    "do_sched_yield": "sched_schedstats",
    "force_schedstat_enabled": "sched_schedstats",
    "kernel_poison_pages": "want_page_poisoning",
    "bpf_trace_run1": "bpf_stats_enabled_key",
    "inet_recvmsg": "rfs_needed",
}

_EXITS = ("syscall_exit_to_user_mode", "irqentry_exit_to_user_mode")
#: Keys that share every function with others: the set of functions is what they are known by.
TOGETHER: Mapping[frozenset[str], str] = {
    frozenset({"sched_clock_cpu", "sched_clock_tick"}): "sched_clock_running",
    frozenset({"native_queued_spin_lock_slowpath"}): "virt_spin_lock_key",
    frozenset({"run_timer_softirq"}): "timers_nohz_active",
    frozenset({"sched_clock_cpu", "sched_clock_tick", "local_clock_noinstr"}): "sched_clock_running",
    # But for those of tracepoints, which are told before.
    frozenset({"exc_page_fault"}): "trace_pagefault_key",
    frozenset({"skb_page_frag_refill"}): "net_high_order_alloc_disable_key",
    frozenset({"netif_receive_skb", "netif_receive_skb_list_internal", "netif_rx_internal"}): "rps_needed",
    # 6.6: the ways back to user mode.
    frozenset({"exc_nmi", *_EXITS}): "mds_user_clear",
    frozenset({"exc_nmi", "exit_to_user_mode", *_EXITS}): "mds_user_clear",
}


def by_place(functions: Sequence[str]) -> str | None:
    """The key that labels in these functions use, or None."""
    plain = [name.partition(".")[0] for name in functions]
    return TOGETHER.get(frozenset(plain)) or next((PLACES[name] for name in plain if name in PLACES), None)
