//! What an era's passes do that no table tells: one value per era, so that the eras read as a diff.

use super::alternatives::{self, Fill, Idle, Nest, Relocate};
use super::optimise::Nops;
use super::{Pass, retpolines, smp_locks, static_calls};
use crate::error::{Error, Result};

/// One step of a boot, in an era's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `xen_start_kernel()`, `xen_parse_elfnote` and Xen itself.
    Unlisted,
    /// `jump_label_init()`.
    JumpLabels,
    /// `static_call_init()` from `setup_arch()`.
    StaticCalls,
    /// `ftrace_init()`.
    Ftrace,
    /// `runtime_const_init()`.
    Constants,
    /// `apply_paravirt()`.
    Paravirt,
    /// `apply_retpolines()`.
    Retpolines,
    /// `apply_returns()`.
    Returns,
    /// `apply_alternatives()`.
    Alternatives,
    /// `callthunks_patch_builtin_calls()`.
    CallThunks,
    /// `apply_ibt_endbr()`, `apply_seal_endbr()`.
    Ibt,
    /// `alternatives_smp_unlock()`.
    SmpLocks,
    /// `static_call_init()` as an initcall, where `static_call_force_reinit()` asked for it.
    StaticCallsAgain,
    /// Static calls and static keys as the machine set them later.
    Updates,
}

impl Stage {
    /// The passes that run in this step for the first time.
    pub fn tables(self) -> &'static [Pass] {
        match self {
            Stage::Unlisted => &[Pass::Unlisted],
            Stage::JumpLabels => &[Pass::JumpLabels],
            Stage::StaticCalls => &[Pass::StaticCalls, Pass::Trampolines],
            Stage::Ftrace => &[Pass::Mcount],
            Stage::Constants => &[Pass::RuntimeConst],
            Stage::Paravirt => &[Pass::Paravirt],
            Stage::Retpolines => &[Pass::Retpolines],
            Stage::Returns => &[Pass::Returns],
            Stage::Alternatives => &[Pass::Alternatives],
            Stage::CallThunks => &[Pass::CallSites],
            Stage::Ibt => &[Pass::Ibt],
            Stage::SmpLocks => &[Pass::SmpLocks],
            Stage::StaticCallsAgain | Stage::Updates => &[],
        }
    }
}

/// The rules of an era.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// The era's name.
    pub era: &'static str,
    /// The order of the passes.
    pub order: &'static [Stage],
    /// `apply_alternatives()`.
    pub alternatives: alternatives::Rules,
    /// `apply_retpolines()`.
    pub retpolines: retpolines::Rules,
    /// `__static_call_transform()`.
    pub static_calls: static_calls::Rules,
    /// `alternatives_smp_unlock()`.
    pub smp_locks: smp_locks::Rules,
    /// What an unneeded `endbr64` becomes.
    pub endbr_poison: [u8; 4],
    /// `jump_label_init()` rewrites nops that are not this CPU's.
    pub jump_label_nops: bool,
    /// `callthunks_patch_builtin_calls()` goes through `.altinstructions` too.
    pub count_alternatives: bool,
}

const OF_2007: &[Stage] = &[Stage::Alternatives, Stage::SmpLocks, Stage::Paravirt];

const OF_5_10: &[Stage] = &[
    Stage::Unlisted,
    Stage::StaticCalls,
    Stage::JumpLabels,
    Stage::Ftrace,
    Stage::Retpolines,
    Stage::Returns,
    Stage::Alternatives,
    Stage::SmpLocks,
    Stage::Paravirt,
    Stage::Updates,
];

const OF_6_1: &[Stage] = &[
    Stage::Unlisted,
    Stage::StaticCalls,
    Stage::Ftrace,
    Stage::Paravirt,
    Stage::Retpolines,
    Stage::Returns,
    Stage::Alternatives,
    Stage::Ibt,
    Stage::SmpLocks,
    Stage::Updates,
];

const OF_6_12: &[Stage] = &[
    Stage::Unlisted,
    Stage::StaticCalls,
    Stage::Ftrace,
    Stage::Constants,
    Stage::Retpolines,
    Stage::Returns,
    Stage::Alternatives,
    Stage::CallThunks,
    Stage::Ibt,
    Stage::SmpLocks,
    Stage::StaticCallsAgain,
    Stage::Updates,
];

const OF_7_2: &[Stage] = &[
    Stage::Unlisted,
    Stage::StaticCalls,
    Stage::Ftrace,
    Stage::Constants,
    Stage::Retpolines,
    Stage::Returns,
    Stage::CallThunks,
    Stage::Alternatives,
    Stage::Ibt,
    Stage::SmpLocks,
    Stage::StaticCallsAgain,
    Stage::Updates,
];

/// arch/x86/kernel/alternative.c of 2.6.24: plain copies.
const V2_6_24: Rules = Rules {
    era: "2.6.24",
    order: OF_2007,
    alternatives: alternatives::Rules {
        relocate: Relocate::Nothing,
        fill: Fill::Nops,
        idle: Idle::Leave,
        nest: Nest::Each,
        nops: Nops::Runs,
    },
    retpolines: retpolines::Rules { int3: false, cs: false, its_stride: 0x2000 },
    static_calls: static_calls::Rules { zero: false, warn: false, unlock: false, again: false, checked: false },
    smp_locks: smp_locks::Rules { unlocked: 0x90, looks: false, remembers: false },
    endbr_poison: *b"\x66\x0f\x1f\x00",
    jump_label_nops: false,
    count_alternatives: false,
};

/// 2.6.33: the same, and locks that look at how many CPUs will come.
const V2_6_33: Rules =
    Rules { era: "2.6.33", smp_locks: smp_locks::Rules { unlocked: 0x3e, looks: false, remembers: true }, ..V2_6_24 };

/// 1b1d9258181b: calls that are the whole replacement are moved.
const V2_6_34: Rules = Rules {
    era: "2.6.34",
    alternatives: alternatives::Rules { relocate: Relocate::Call, ..V2_6_33.alternatives },
    ..V2_6_33
};

/// 5.10 as released, before the return thunks of July 2022 reached it: padlen, nops straight from the table.
const V5_10_0: Rules = Rules {
    era: "5.10.0",
    order: OF_5_10,
    alternatives: alternatives::Rules {
        relocate: Relocate::First,
        fill: Fill::Nops,
        idle: Idle::Pad,
        nest: Nest::Each,
        nops: Nops::Runs,
    },
    smp_locks: smp_locks::Rules { unlocked: 0x3e, looks: true, remembers: true },
    jump_label_nops: true,
    ..V2_6_33
};

/// 5.10 stable since then: 5.19's alternatives.
const V5_10: Rules = Rules {
    era: "5.10",
    alternatives: alternatives::Rules { fill: Fill::Ones, idle: Idle::Optimise, ..V5_10_0.alternatives },
    ..V5_10_0
};

const V6_1: Rules = Rules {
    era: "6.1",
    order: OF_6_1,
    retpolines: retpolines::Rules { int3: true, ..V5_10.retpolines },
    static_calls: static_calls::Rules { zero: true, checked: true, ..V5_10.static_calls },
    jump_label_nops: false,
    ..V5_10
};

const V6_12: Rules = Rules {
    era: "6.12",
    order: OF_6_12,
    alternatives: alternatives::Rules {
        relocate: Relocate::Every,
        fill: Fill::Ones,
        idle: Idle::Optimise,
        nest: Nest::Longest,
        nops: Nops::Merge,
    },
    static_calls: static_calls::Rules { again: true, ..V6_1.static_calls },
    count_alternatives: true,
    ..V6_1
};

/// 6.5 to 6.7: 6.1's passes, 6.12's alternatives.
const V6_5: Rules = Rules { era: "6.5", alternatives: V6_12.alternatives, ..V6_1 };

const V7_2: Rules = Rules {
    era: "7.2",
    order: OF_7_2,
    alternatives: alternatives::Rules { nest: Nest::Once, nops: Nops::MergeAll, ..V6_12.alternatives },
    retpolines: retpolines::Rules { int3: true, cs: true, its_stride: 0x1000 },
    static_calls: static_calls::Rules { warn: true, ..V6_12.static_calls },
    endbr_poison: *b"\x0f\x1f\x40\xd6",
    count_alternatives: false,
    ..V6_12
};

const V7_3: Rules =
    Rules { era: "7.3", static_calls: static_calls::Rules { unlock: true, ..V7_2.static_calls }, ..V7_2 };

/// The seed of October 2007 differs from 2.6.24 in its template and its nops, not here.
const SEED: Rules = Rules { era: "seed", ..V2_6_24 };

pub(super) static ERAS: [Rules; 11] = [SEED, V2_6_24, V2_6_33, V2_6_34, V5_10_0, V5_10, V6_1, V6_5, V6_12, V7_2, V7_3];

impl Rules {
    /// The rules of this era.
    pub fn by_name(era: &str) -> Result<&'static Rules> {
        ERAS.iter().find(|rules| rules.era == era).ok_or_else(|| {
            let known: Vec<_> = ERAS.iter().map(|rules| rules.era).collect();
            Error::ops(format!("no rules for era {era:?}; there are {}", known.join(", ")))
        })
    }
}
