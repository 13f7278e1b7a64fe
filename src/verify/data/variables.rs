//! Keys of which a variable of the kernel says the same: the code that turns a key writes it too.
//!
//! | rule | holds |
//! |---|---|
//! | both ways | where the two are written together |
//! | one way | where the key may be on, or off, for other reasons, or for a while |
//!
//! Each row names the function that writes both. While a kernel boots a variable may be ahead of its key: these are heard once it
//! is up (`system_state` is `SYSTEM_FREEING_INITMEM`, since 5.16, `SYSTEM_RUNNING` from 4.13 on, or more).

use super::witnesses::Hearing;
use crate::error::Result;

/// A number of the kernel's data: where, and how many bytes it has.
enum Place {
    /// At a symbol.
    Variable(&'static str, usize),
    /// A member of the structure at a symbol.
    Member(&'static str, &'static str, &'static str, usize),
}

use Place::{Member, Variable};

/// Whether numbers say that a key is on; nothing, where they do not tell.
type Rule = fn(&[u64]) -> Option<bool>;

/// A key, the numbers that tell of it, and how.
type Row = (&'static str, &'static [Place], Rule);

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
/// `CRNG_READY`.
const READY: Rule = |numbers| Some(numbers[0] == 2);
/// `SPECTRE_V2_USER_STRICT`, `_PRCTL` and `_SECCOMP` of `enum spectre_v2_user_mitigation`.
const STRICT: Rule = |numbers| Some(numbers[0] == 1);
const ASKED_FOR: Rule = |numbers| Some(matches!(numbers[0], 3 | 4));
const ONLY_ASKED_FOR: Rule = |numbers| (!matches!(numbers[0], 3 | 4)).then_some(false);
/// `x86_pmu.attr_rdpmc`: 0 is never, 2 always; 0 is where there is no PMU too.
const NEVER: Rule = |numbers| (numbers[0] != 0).then_some(false);
const ALWAYS: Rule = |numbers| Some(numbers[0] == 2);

const PMU: &[Place] = &[Member("x86_pmu", "x86_pmu", "attr_rdpmc", 4)];
const EXPORTS: &[Place] = &[Variable("ftrace_exports_list", 8)];

const ROWS: &[Row] = &[
    // set_delayacct() of kernel/delayacct.c, since 5.14
    ("delayacct_key", &[Variable("delayacct_on", 4)], ALL),
    // set_numabalancing_state(), sysctl_numa_balancing() of kernel/sched/core.c, since 5.18
    ("sched_numa_balancing", &[Variable("sysctl_numa_balancing_mode", 4)], ALL),
    // timer_update_keys(), timers_update_migration() of kernel/time/timer.c, since 4.20
    ("timers_nohz_active", &[Variable("tick_nohz_active", 4)], ALL),
    ("timers_migration_enabled", &[Variable("sysctl_timer_migration", 4), Variable("tick_nohz_active", 4)], ALL),
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
    // clear_sched_clock_stable(), sched_clock_init_late() of kernel/sched/clock.c
    ("__sched_clock_stable", &[Variable("__sched_clock_stable_early", 4)], ALL),
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
    ("crng_is_ready", &[Variable("crng_init", 4)], READY),
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
    // spectre_v2_user_select_mitigation() and update_indir_branch_cond() of arch/x86/kernel/cpu/bugs.c, since 5.10
    ("switch_mm_always_ibpb", &[Variable("spectre_v2_user_ibpb", 4)], STRICT),
    ("switch_mm_cond_ibpb", &[Variable("spectre_v2_user_ibpb", 4)], ASKED_FOR),
    ("switch_to_cond_stibp", &[Variable("spectre_v2_user_stibp", 4)], ONLY_ASKED_FOR),
];

/// A `system_state` below this is that of a kernel that boots.
const UP: i32 = 2;

/// What names of keys of control groups' subsystems end with.
const ON_DEFAULT: &str = "_cgrp_subsys_on_dfl_key";
const ENABLED: &str = "_cgrp_subsys_enabled_key";

impl Hearing<'_> {
    /// Keys that variables tell of.
    pub(super) fn variables(&mut self) -> Result<()> {
        let Some(state) = self.symbols.address_of("system_state") else { return Ok(()) };
        if self.words.int(state)?.is_none_or(|state| state < UP) {
            self.heard.unheard.push("keys that variables tell of: the kernel is not up, by system_state".to_owned());
            return Ok(());
        }
        let mut count = 0;
        for (name, places, rule) in ROWS {
            let Some(key) = self.symbols.address_of(name) else { continue };
            let mut found = Vec::new();
            for place in *places {
                found.extend(self.number(place)?);
            }
            if let Some(&(address, _)) = found.first()
                && found.len() == places.len()
                && let Some(on) = rule(&found.iter().map(|&(_, number)| number).collect::<Vec<_>>())
            {
                count += u64::from(self.said.key(key).is_some());
                self.key("variable", address, key, on);
            }
        }
        count += self.subsystems()?;
        self.count("variable", count);
        Ok(())
    }

    /// Where a number is, and which it is; nothing where this kernel has no such.
    fn number(&self, place: &Place) -> Result<Option<(u64, u64)>> {
        let (address, width) = match *place {
            Variable(symbol, width) => (self.symbols.address_of(symbol), width),
            Member(symbol, of, member, width) => {
                (self.symbols.address_of(symbol).zip(self.offset(of, member)).map(|(at, offset)| at + offset), width)
            }
        };
        let Some(address) = address.filter(|&address| self.words.stays(address)) else { return Ok(None) };
        let mut bytes = [0; 8];
        let there = self.words.bytes(address, &mut bytes[..width.min(self.words.width())])?;
        Ok(there.then(|| (address, u64::from_le_bytes(bytes))))
    }

    /// Keys of subsystems: on the default hierarchy, which `cgroup_subsys.root` points to (rebind_subsystems() of
    /// kernel/cgroup/cgroup.c), and enabled, which then its mask says (cgroup_init()).
    fn subsystems(&mut self) -> Result<u64> {
        let (Some(default), Some(root), Some(id), Some(mask)) = (
            self.symbols.address_of("cgrp_dfl_root"),
            self.offset("cgroup_subsys", "root"),
            self.offset("cgroup_subsys", "id"),
            self.offset("cgroup_root", "subsys_mask"),
        ) else {
            return Ok(0);
        };
        let (symbols, mut count) = (self.symbols, 0);
        for (key, _, name) in symbols.iter() {
            let ending = |ending| name.strip_suffix(ending).filter(|_| name.ends_with(ending));
            let (Some(subsystem), enabled) = (ending(ON_DEFAULT).or(ending(ENABLED)), ending(ENABLED).is_some()) else {
                continue;
            };
            let Some(at) = symbols.address_of(&format!("{subsystem}_cgrp_subsys")) else { continue };
            let Some(hierarchy) = self.words.pointer(at.wrapping_add(root))? else { continue };
            let on = match enabled {
                false => hierarchy == default,
                true if hierarchy != default => continue,
                true => {
                    let numbers = [at.wrapping_add(id), default.wrapping_add(mask)].map(|at| self.words.int(at));
                    let [Some(number), Some(mask)] = [numbers[0].clone()?, numbers[1].clone()?] else { continue };
                    mask.checked_shr(number as u32).is_some_and(|bits| bits & 1 != 0)
                }
            };
            count += u64::from(self.said.key(key).is_some());
            self.key("variable", at, key, on);
        }
        Ok(count)
    }
}
