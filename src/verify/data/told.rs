//! The numbers that tell of keys: a row a key, and each names the functions of the kernel that turn it. Where nothing says
//! otherwise they are those of 6.1.

use self::Place::{Built, Call, Element, Feature, Head, Member, Named, OnCpus, Parameter, Points, Variable};

/// A number of the kernel's data: where, and how many bytes it has.
pub(super) enum Place {
    /// At a symbol.
    Variable(&'static str, usize),
    /// A member of the structure at a symbol.
    Member(&'static str, &'static str, &'static str, usize),
    /// A member of one structure of an array.
    Element(&'static str, u64, &'static str, &'static str, usize),
    /// A member of a structure that each CPU has: all of them together, bit by bit.
    OnCpus(&'static str, &'static str, &'static str, usize),
    /// Whether the list in a structure at a symbol has entries.
    Head(&'static str, &'static str, &'static str),
    /// Whether the pointer at a symbol goes to another.
    Points(&'static str, &'static str),
    /// Whether a static call goes anywhere.
    Call(&'static str),
    /// Whether the boot CPU has a feature: the number of its word, and the bit.
    Feature(u16, u16),
    /// What the command line says of a parameter: nothing, no, yes, something else (0 to 3).
    Parameter(&'static str),
    /// `static_key.enabled` as built.
    Built(&'static str),
    /// Whether the kernel has a symbol.
    Named(&'static str),
}

/// Whether numbers say that a key is on; nothing, where they do not tell.
pub(super) type Rule = fn(&[u64]) -> Option<bool>;

/// A key, the numbers that tell of it, and how.
pub(super) type Row = (&'static str, &'static [Place], Rule);

/// The functions of a tracepoint.
const fn functions(tracepoint: &'static str) -> Place {
    Member(tracepoint, "tracepoint", "funcs", 8)
}

const ALL: Rule = |numbers| Some(numbers.iter().all(|&number| number != 0));
const ANY: Rule = |numbers| Some(numbers.iter().any(|&number| number != 0));
const NONE: Rule = |numbers| Some(numbers.iter().all(|&number| number == 0));
/// On while it is not 0, and maybe longer.
const WHILE: Rule = |numbers| (numbers[0] != 0).then_some(true);
/// Off while it is 0, and maybe longer.
const ONLY_WHILE: Rule = |numbers| (numbers[0] == 0).then_some(false);
/// On where the second is 0: page poisoning comes before it.
const UNPOISONED: Rule = |numbers| (numbers[1] == 0).then_some(numbers[0] != 0);
/// An `atomic_t` above 0.
const POSITIVE: Rule = |numbers| Some(numbers[0] as u32 as i32 > 0);
/// Not `CRNG_READY`: the key is turned by a work, later.
const UNREADY: Rule = |numbers| (numbers[0] != 2).then_some(false);
/// `SPECTRE_V2_USER_STRICT`, `_PRCTL` and `_SECCOMP` of `enum spectre_v2_user_mitigation`.
const STRICT: Rule = |numbers| Some(numbers[0] == 1);
const ASKED_FOR: Rule = |numbers| Some(matches!(numbers[0], 3 | 4));
const ONLY_ASKED_FOR: Rule = |numbers| (!matches!(numbers[0], 3 | 4)).then_some(false);
/// `x86_pmu.attr_rdpmc`: 0 is never, 2 always; 0 is where there is no PMU too.
const NEVER: Rule = |numbers| (numbers[0] != 0).then_some(false);
const ALWAYS: Rule = |numbers| Some(numbers[0] == 2);

/// Off while one of them is 0, and maybe longer.
const ONLY_WHILE_ALL: Rule = |numbers| numbers.contains(&0).then_some(false);
/// Off while all of them are 0.
const OFF_WHILE_NONE: Rule = |numbers| numbers.iter().all(|&number| number == 0).then_some(false);
/// As the second says, while the first is 0.
const SECOND: Rule = |numbers| if numbers[0] == 0 { None } else { Some(numbers[1] & 1 == 0) };
const ALWAYS_ON: Rule = |_| Some(true);
const ALWAYS_OFF: Rule = |_| Some(false);
/// `ELFCORE_ADDR_MAX` is of a kernel that did not start after a crash.
const AFTER_A_CRASH: Rule = |numbers| Some(numbers[0] != u64::MAX);
/// `MSR_AMD64_SEV_ES_ENABLED`.
const ENCRYPTED_STATE: Rule = |numbers| Some(numbers[0] & 2 != 0);
/// `enum x86_hypervisor_type` (arch/x86/include/asm/hypervisor.h, since 4.15).
const ONLY_ON_ANY: Rule = |numbers| (numbers[0] == 0).then_some(false);
const ONLY_ON_HYPERV: Rule = |numbers| (numbers[0] != 2).then_some(false);
const ON_XEN_PV: Rule = |numbers| Some(numbers[0] == 3);
const ONLY_ON_KVM: Rule = |numbers| (numbers[0] != 5).then_some(false);
/// Off while the first two are 0, if there is such a name.
const NONE_IF_NAMED: Rule = |numbers| (numbers == [0, 0, 1]).then_some(false);
/// One CPU of a core.
const ONLY_SIBLINGS: Rule = |numbers| (numbers[0] < 2).then_some(false);
/// Off without such a name or while the other is 0.
const NAMED_AND_NOT: Rule = |numbers| (numbers[0] != 0 && numbers[1] == 0).then_some(false);
/// Off at the first, on at the second.
const ONE_OF_TWO: Rule = |numbers| match numbers {
    [1, _] => Some(false),
    [_, 1] => Some(true),
    _ => None,
};
/// On while the first is not 0; off too, where the second has no such name.
const WHILE_UNLESS_NAMED: Rule = |numbers| match numbers {
    [0, 0] => Some(false),
    [0, _] => None,
    _ => Some(true),
};
/// As the command line says, if it does, or as built.
const GIVEN: Rule = |numbers| match numbers {
    [0, built] => Some(*built != 0),
    [1, _] => Some(false),
    [2, _] => Some(true),
    _ => None,
};
/// On where the command line has a parameter, whatever it says.
const IF_GIVEN: Rule = |numbers| Some(numbers[0] != 0);
/// On where it says no.
const IF_REFUSED: Rule = |numbers| (numbers[0] < 3).then_some(numbers[0] == 1);
/// How many CPUs are online, whether shorthands are off, which CPUs there are and which were up, and how many may be.
const SHORTHAND: Rule = |numbers| match numbers {
    [1, ..] => Some(false),
    [_, off, ..] if *off != 0 => Some(false),
    [_, _, there, up, most] => (*most <= 64 && there == up).then_some(true),
    _ => None,
};

const PMU: &[Place] = &[Member("x86_pmu", "x86_pmu", "attr_rdpmc", 4)];
/// What has last branches recorded; not of a CPU with X86_FEATURE_ARCH_LBR, whose keys are turned before it is asked.
const LBR: &[Place] = &[Member("x86_pmu", "x86_pmu", "lbr_nr", 4), Feature(18, 19)];
const EVENTS: &[Place] = &[OnCpus("swevent_htable", "swevent_htable", "hlist_refcount", 4)];
const EXPORTS: &[Place] = &[Variable("ftrace_exports_list", 8)];

pub(super) const ROWS: &[Row] = &[
    // set_delayacct() of kernel/delayacct.c, since 5.14
    ("delayacct_key", &[Variable("delayacct_on", 4)], ALL),
    // set_numabalancing_state(), sysctl_numa_balancing() of kernel/sched/core.c, since 5.18
    ("sched_numa_balancing", &[Variable("sysctl_numa_balancing_mode", 4)], ALL),
    // timer_update_keys(), timers_update_migration() of kernel/time/timer.c, since 4.20: a work of timers_update_nohz()
    ("timers_nohz_active", &[Variable("tick_nohz_active", 4)], ONLY_WHILE),
    (
        "timers_migration_enabled",
        &[Variable("sysctl_timer_migration", 4), Variable("tick_nohz_active", 4)],
        ONLY_WHILE_ALL,
    ),
    // psi_init() of kernel/sched/psi.c
    ("psi_disabled", &[Variable("psi_enable", 1)], NONE),
    // mem_init() and what it calls, since 5.11
    (
        "init_on_alloc",
        &[Variable("_init_on_alloc_enabled_early", 1), Variable("_page_poisoning_enabled_early", 1)],
        UNPOISONED,
    ),
    (
        "init_on_free",
        &[Variable("_init_on_free_enabled_early", 1), Variable("_page_poisoning_enabled_early", 1)],
        UNPOISONED,
    ),
    ("_page_poisoning_enabled", &[Variable("_page_poisoning_enabled_early", 1)], ALL),
    ("_debug_pagealloc_enabled", &[Variable("_debug_pagealloc_enabled_early", 1)], ALL),
    // sched_clock_init_late() of kernel/sched/clock.c; of clear_sched_clock_stable() a work turns the key
    ("__sched_clock_stable", &[Variable("__sched_clock_stable_early", 4)], WHILE),
    // sysctl_vm_numa_stat_handler() of mm/vmstat.c
    ("vm_numa_stat_key", &[Variable("sysctl_vm_numa_stat", 4)], ALL),
    // early_trace_init(), tracepoint_printk_sysctl() of kernel/trace/trace.c
    ("tracepoint_printk_key", &[Variable("tracepoint_printk", 4)], ALL),
    // register_ftrace_export()
    ("trace_function_exports_enabled", EXPORTS, ONLY_WHILE),
    ("trace_event_exports_enabled", EXPORTS, ONLY_WHILE),
    ("trace_marker_exports_enabled", EXPORTS, ONLY_WHILE),
    // trace_pagefault_reg() of arch/x86/kernel/tracepoint.c, up to 6.15
    (
        "trace_pagefault_key",
        &[functions("__tracepoint_page_fault_user"), functions("__tracepoint_page_fault_kernel")],
        ANY,
    ),
    // i2c_transfer_trace_reg()
    (
        "i2c_trace_msg_key",
        &[
            functions("__tracepoint_i2c_write"),
            functions("__tracepoint_i2c_read"),
            functions("__tracepoint_i2c_reply"),
            functions("__tracepoint_i2c_result"),
        ],
        ANY,
    ),
    // netstamp_clear() of net/core/dev.c
    ("netstamp_needed_key", &[Variable("netstamp_wanted", 4)], POSITIVE),
    // rps_sock_flow_sysctl()
    ("rfs_needed", &[Variable("rps_sock_flow_table", 8)], ALL),
    ("rfs_needed", &[Member("net_hotdata", "net_hotdata", "rps_sock_flow_table", 8)], ALL),
    // account_event(), perf_sched_delayed() of kernel/events/core.c
    ("perf_sched_events", &[Variable("perf_sched_count", 4)], WHILE),
    // set_attr_rdpmc() of arch/x86/events/core.c
    ("rdpmc_never_available_key", PMU, NEVER),
    ("rdpmc_always_available_key", PMU, ALWAYS),
    // frontswap_register_ops() of mm/frontswap.c, up to 6.5
    ("frontswap_enabled_key", &[Variable("frontswap_ops", 8)], ALL),
    // crng_set_ready() of drivers/char/random.c, since 5.19
    ("crng_is_ready", &[Variable("crng_init", 4)], UNREADY),
    // setup_slub_debug(); a cache that is debugged by itself turns it too
    ("slub_debug_enabled", &[Variable("slub_debug", 4)], WHILE),
    // setup_cr_pinning() of arch/x86/kernel/cpu/common.c
    ("cr_pinning", &[Variable("cr4_pinned_bits", 8)], WHILE),
    // housekeeping_init() of kernel/sched/isolation.c; a structure since 5.18
    ("housekeeping_overridden", &[Variable("housekeeping_flags", 4)], ALL),
    ("housekeeping_overridden", &[Member("housekeeping", "housekeeping", "flags", 8)], ALL),
    // freeze_processes(), thaw_processes() of kernel/power/process.c, since 6.1
    ("freezer_active", &[Variable("pm_freezing", 1)], WHILE),
    // cpuset_inc(), cpuset_dec()
    ("cpusets_enabled_key", &[Variable("cpusets_pre_enable_key", 4)], ALL),
    // cpuset_inc() of cpuset_css_online(): a group of its own
    ("cpusets_enabled_key", &[Head("top_cpuset", "cpuset", "css.children")], ONLY_WHILE),
    ("cpusets_pre_enable_key", &[Head("top_cpuset", "cpuset", "css.children")], ONLY_WHILE),
    // context_tracking_cpu_set(), ct_cpu_track_user() of kernel/context_tracking.c
    ("context_tracking_key", &[OnCpus("context_tracking", "context_tracking", "active", 1)], ANY),
    // page_alloc_init_late() of mm/page_alloc.c, and sched_clock_init() of kernel/sched/clock.c: of every boot
    ("deferred_pages", &[], ALWAYS_OFF),
    ("sched_clock_running", &[], ALWAYS_ON),
    // devmap_managed_enable_get() of pagemaps alone, mm/memremap.c
    ("devmap_managed_key", &[Member("pgmap_array", "xarray", "xa_head", 8)], ONLY_WHILE),
    // hugetlb_vmemmap_optimize(): a count of huge pages, since 6.0 (30152245c63b), when the variable came
    (
        "hugetlb_optimize_vmemmap_key",
        &[
            Element("hstates", 0, "hstate", "nr_huge_pages", 8),
            Element("hstates", 1, "hstate", "nr_huge_pages", 8),
            Named("vmemmap_optimize_enabled"),
        ],
        NONE_IF_NAMED,
    ),
    // iommu_dma_init() of drivers/iommu/dma-iommu.c
    ("iommu_deferred_attach_enabled", &[Variable("elfcorehdr_addr", 8)], AFTER_A_CRASH),
    // tsc_enable_sched_clock(), which calls use_tsc_delay(), since 4.18
    ("__use_tsc", &[Points("delay_fn", "delay_loop"), Points("delay_fn", "delay_tsc")], ONE_OF_TWO),
    // apic_smt_update() of arch/x86/kernel/apic/ipi.c, since 5.4
    (
        "apic_use_ipi_shorthand",
        &[
            Variable("__num_online_cpus", 4),
            Variable("apic_ipi_shorthand_off", 1),
            Variable("__cpu_present_mask", 8),
            Variable("cpus_booted_once_mask", 8),
            Variable("nr_cpu_ids", 4),
        ],
        SHORTHAND,
    ),
    // freq_invariance_enable() of arch/x86/kernel/cpu/aperfmperf.c
    ("arch_scale_freq_key", &[Member("freq_invariance_syscore_ops", "syscore_ops", "node.next", 8)], ONLY_WHILE),
    // cpufreq_register_driver(), cpufreq_unregister_driver(), since 5.10
    ("cpufreq_freq_invariance", &[Variable("cpufreq_driver", 8)], ONLY_WHILE),
    // blake2s_mod_init() of arch/x86/crypto/blake2s-glue.c
    ("blake2s_use_ssse3", &[Feature(4, 9)], ALL),
    ("blake2s_use_avx512", &[Feature(9, 16)], ONLY_WHILE),
    // native_pv_lock_init()
    ("virt_spin_lock_key", &[Named("__raw_callee_save___native_queued_spin_unlock"), Feature(4, 31)], NAMED_AND_NOT),
    // l1d_flush_select_mitigation()
    ("switch_mm_cond_l1d_flush", &[Feature(18, 28)], ONLY_WHILE),
    // hv_isolation_type_snp(), kvm_guest_init(), kvm_init_platform() and others, xen_after_bootmem()
    ("isolation_type_snp", &[Variable("x86_hyper_type", 4)], ONLY_ON_HYPERV),
    ("isolation_type_tdx", &[Variable("x86_hyper_type", 4)], ONLY_ON_HYPERV),
    ("kvm_async_pf_enabled", &[Variable("x86_hyper_type", 4)], ONLY_ON_KVM),
    ("paravirt_steal_enabled", &[Variable("x86_hyper_type", 4)], ONLY_ON_ANY),
    ("paravirt_steal_rq_enabled", &[Variable("x86_hyper_type", 4)], ONLY_ON_ANY),
    ("xen_struct_pages_ready", &[Variable("x86_hyper_type", 4)], ON_XEN_PV),
    // sev_es_init_vc_handling()
    ("sev_es_enable_key", &[Variable("sev_status", 8)], ENCRYPTED_STATE),
    // rdt_enable_ctx() and its callers
    ("rdt_alloc_enable_key", &[Variable("rdt_alloc_capable", 1)], ONLY_WHILE),
    ("rdt_mon_enable_key", &[Variable("rdt_mon_capable", 1)], ONLY_WHILE),
    ("rdt_enable_key", &[Variable("rdt_alloc_capable", 1), Variable("rdt_mon_capable", 1)], OFF_WHILE_NONE),
    // intel_pmu_init(), intel_pmu_lbr_init()
    ("perf_is_hybrid", &[Member("x86_pmu", "x86_pmu", "num_hybrid_pmus", 4)], ALL),
    ("x86_lbr_cycles", LBR, OFF_WHILE_NONE),
    ("x86_lbr_mispred", LBR, OFF_WHILE_NONE),
    ("x86_lbr_type", LBR, OFF_WHILE_NONE),
    // psi_init(), since 5.13; where pressure is not accounted at all releases differ
    ("psi_cgroups_enabled", &[Variable("psi_enable", 1), Variable("cgroup_feature_disable_mask", 2)], SECOND),
    // sched_cpu_activate()
    ("sched_smt_present", &[Variable("smp_num_siblings", 4)], ONLY_SIBLINGS),
    // shuffle_store() of mm/shuffle.c
    ("page_alloc_shuffle_key", &[Variable("shuffle_param", 1)], ALL),
    // page_reporting_register() of mm/page_reporting.c
    ("page_reporting_enabled", &[Variable("pr_dev_info", 8)], WHILE),
    // xfd_update_static_branch() of arch/x86/kernel/fpu/xstate.c, since 5.16
    (
        "__fpu_state_size_dynamic",
        &[Member("init_fpstate", "fpstate", "xfd", 8), Named("__fpu_xfd_enabled")],
        WHILE_UNLESS_NAMED,
    ),
    ("__fpu_xfd_enabled", &[Member("init_fpstate", "fpstate", "xfd", 8)], ALL),
    // spectre_v2_apply_mitigation() of arch/x86/kernel/cpu/bugs.c
    ("bpf_pred_flush_enabled", &[Call("__SCK__bpf_arch_pred_flush")], ALL),
    // perf_swevent_init(), by the events there are: it counts in each CPU's table
    ("perf_swevent_enabled", EVENTS, ONLY_WHILE),
    // setup_forced_irqthreads() of kernel/irq/manage.c, since 5.14
    ("force_irqthreads_key", &[Parameter("threadirqs")], IF_GIVEN),
    // early_randomize_kstack_offset() of init/main.c, since 5.13
    ("randomize_kstack_offset", &[Parameter("randomize_kstack_offset"), Built("randomize_kstack_offset")], GIVEN),
    // set_hardened_usercopy() of mm/usercopy.c; turned round in 6.13
    ("bypass_usercopy_checks", &[Parameter("hardened_usercopy")], IF_REFUSED),
    ("validate_usercopy_range", &[Parameter("hardened_usercopy"), Built("validate_usercopy_range")], GIVEN),
    // scx_root_enable_workfn() and scx_root_disable() of kernel/sched/ext.c: it is set before and cleared behind
    ("__scx_enabled", &[Variable("scx_root", 8)], ONLY_WHILE),
    ("__scx_switched_all", &[Variable("scx_root", 8)], ONLY_WHILE),
    // What lib/crypto and lib/crc do with instructions of the CPU's, which each of that name needs; since 6.15
    ("have_aes", &[Feature(4, 25)], ONLY_WHILE),
    ("have_crc32", &[Feature(4, 20)], ONLY_WHILE),
    ("have_pclmul", &[Feature(4, 1)], ONLY_WHILE),
    ("have_pclmulqdq", &[Feature(4, 1)], ONLY_WHILE),
    ("have_pclmul_avx", &[Feature(4, 1)], ONLY_WHILE),
    ("have_sha_ni", &[Feature(9, 29)], ONLY_WHILE),
    ("have_vpclmul_avx512", &[Feature(16, 10)], ONLY_WHILE),
    // spectre_v2_user_select_mitigation() and update_indir_branch_cond() of arch/x86/kernel/cpu/bugs.c, since 5.10
    ("switch_mm_always_ibpb", &[Variable("spectre_v2_user_ibpb", 4)], STRICT),
    ("switch_mm_cond_ibpb", &[Variable("spectre_v2_user_ibpb", 4)], ASKED_FOR),
    ("switch_to_cond_stibp", &[Variable("spectre_v2_user_stibp", 4)], ONLY_ASKED_FOR),
];
