//! The choices of the eras by name, written as what differs from the one before.

use super::rules::{
    Alternatives, Fill, Nop5, Nops, Order, Relocate, Retpolines, Rules, SameSite, SmpLocks, Stage, StaticCalls,
    Untaken, Zero,
};
use crate::error::{Error, Result};
use crate::insn::{Bits, GENERIC_NOPS, NopTable, P6_NOPS};

/// start_kernel(): ftrace_init() follows check_bugs(), where alternatives are applied.
const OF_2007: Order = Order::of(&[Stage::Alternatives, Stage::SmpLocks, Stage::Paravirt, Stage::Ftrace]);

const OF_5_10: Order = Order::of(&[
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
]);

/// 4e6292114c74 (5.13): paravirt first, so that alternatives have the last word on its sites. e81dc127ef69 (6.2): calls may be
/// counted, and static calls are done again then.
const OF_6_1: Order = Order::of(&[
    Stage::Unlisted,
    Stage::StaticCalls,
    Stage::Ftrace,
    Stage::Paravirt,
    Stage::Cfi,
    Stage::Retpolines,
    Stage::Returns,
    Stage::Alternatives,
    Stage::CallThunks,
    Stage::Ibt,
    Stage::SmpLocks,
    Stage::StaticCallsAgain,
    Stage::Updates,
]);

const OF_6_12: Order = Order::of(&[
    Stage::Unlisted,
    Stage::StaticCalls,
    Stage::Ftrace,
    Stage::Constants,
    Stage::Cfi,
    Stage::Retpolines,
    Stage::Returns,
    Stage::Alternatives,
    Stage::CallThunks,
    Stage::Ibt,
    Stage::SmpLocks,
    Stage::StaticCallsAgain,
    Stage::Updates,
]);

/// ab9fea59487d (6.15): calls are counted before alternatives are applied.
const OF_6_15: Order = Order::of(&[
    Stage::Unlisted,
    Stage::StaticCalls,
    Stage::Ftrace,
    Stage::Constants,
    Stage::Cfi,
    Stage::Retpolines,
    Stage::Returns,
    Stage::CallThunks,
    Stage::Alternatives,
    Stage::Ibt,
    Stage::SmpLocks,
    Stage::StaticCallsAgain,
    Stage::Updates,
]);

/// arch/x86/kernel/alternative.c of 2.6.24: plain copies.
const V2_6_24: Rules = Rules {
    era: "2.6.24",
    order: OF_2007,
    alternatives: Alternatives {
        relocate: Relocate::Nothing,
        fill: Fill::Nops,
        untaken: Untaken::Leave,
        same_site: SameSite::Each,
        nops: Nops::Runs,
    },
    retpolines: Retpolines { int3: false, cs: false, its_stride: 0x2000 },
    static_calls: StaticCalls {
        zero: Zero::Call,
        short_ret: false,
        warn: false,
        unlock: false,
        again: false,
        checked: false,
    },
    smp_locks: SmpLocks { unlocked: 0x90, looks: false, remembers: false },
    endbr_poison: *b"\x66\x0f\x1f\x00",
    jump_label_nops: false,
    nop5: Nop5::Nopl,
    seals_hashes: false,
    far_preambles: false,
    kcfi_udb: false,
    count_alternatives: false,
    boosts_groups: false,
    enters_by_jump: false,
};

/// 2.6.28 (f88f07e0f0b7: no `lock` becomes a `nop` any more, but a prefix that does nothing) to 2.6.33: locks look at how many
/// CPUs will come.
const V2_6_33: Rules =
    Rules { era: "2.6.33", smp_locks: SmpLocks { unlocked: 0x3e, looks: false, remembers: true }, ..V2_6_24 };

/// 1b1d9258181b: calls that are the whole replacement are moved.
const V2_6_34: Rules =
    Rules { era: "2.6.34", alternatives: Alternatives { relocate: Relocate::Call, ..V2_6_33.alternatives }, ..V2_6_33 };

/// 5.10 as released, before the return thunks of July 2022 reached it: padlen, nops straight from the table, and a `ret` of
/// a static call is one byte (`RET_INSN_SIZE` of arch/x86/kernel/static_call.c; e463a09af2f0, 5.17, and stable: five).
const V5_10_0: Rules = Rules {
    era: "5.10.0",
    order: OF_5_10,
    alternatives: Alternatives {
        relocate: Relocate::First,
        fill: Fill::Nops,
        untaken: Untaken::Pad,
        same_site: SameSite::Each,
        nops: Nops::Runs,
    },
    smp_locks: SmpLocks { unlocked: 0x3e, looks: true, remembers: true },
    static_calls: StaticCalls { short_ret: true, ..V2_6_33.static_calls },
    jump_label_nops: true,
    nop5: Nop5::Cpu,
    ..V2_6_33
};

/// Stable 3.16 since its page table isolation (read in 3.16.55): 4.1's alternatives (4fd4b6e5537c) without the look at what
/// would become a nop (69df353ff305).
const V3_16: Rules = Rules {
    era: "3.16",
    alternatives: Alternatives { untaken: Untaken::PadUnseen, ..V5_10_0.alternatives },
    ..V5_10_0
};

/// 3f2a8fc4b15d: functions that return 0 are not called.
const V5_12: Rules =
    Rules { era: "5.12", static_calls: StaticCalls { zero: Zero::Data16, ..V5_10_0.static_calls }, ..V5_10_0 };

/// 5.10 stable since then: 5.19's alternatives.
const V5_10: Rules = Rules {
    era: "5.10",
    alternatives: Alternatives { fill: Fill::Ones, untaken: Untaken::Optimise, ..V5_10_0.alternatives },
    static_calls: StaticCalls { short_ret: false, ..V5_10_0.static_calls },
    ..V5_10_0
};

/// 2.6.37 to 2.6.39 (f49aa448561f): jump labels.
const V2_6_37: Rules = Rules { era: "2.6.37", nop5: Nop5::Width, ..V3_0 };

/// 3.0 to 4.0: one choice of nops for all.
const V3_0: Rules = Rules {
    era: "3.0",
    order: OF_5_10,
    smp_locks: SmpLocks { unlocked: 0x3e, looks: true, remembers: true },
    jump_label_nops: true,
    nop5: Nop5::Cpu,
    ..V2_6_34
};

/// 5.13 to 5.16: 6.1's order; static calls as in 5.12.
const V5_13: Rules = Rules { era: "5.13", retpolines: V5_10.retpolines, static_calls: V5_12.static_calls, ..V6_1 };

/// e463a09af2f0: a `ret` of a static call is five bytes; those of functions that return 0 are still as in 5.12.
const V5_17: Rules =
    Rules { era: "5.17", static_calls: StaticCalls { zero: Zero::Data16, ..V5_15.static_calls }, ..V5_15 };

/// 5.15 to 5.19, with the return thunks of July 2022: no `int3` behind an indirect jump yet.
const V5_15: Rules = Rules { era: "5.15", retpolines: V5_10.retpolines, ..V6_1 };

/// 8c03af3e090e: an `int3` behind an indirect jump; 1cd5f059d956: zero is `xor %eax,%eax`.
const V6_1: Rules = Rules {
    era: "6.1",
    order: OF_6_1,
    retpolines: Retpolines { int3: true, ..V5_10.retpolines },
    static_calls: StaticCalls { zero: Zero::Cs, checked: true, ..V5_10.static_calls },
    jump_label_nops: false,
    ..V5_10
};

/// d2a793dae219 (6.11): rows at one site have one length; da8f9cf7e721 (6.10): nops are merged, jumps before them not.
const V6_12: Rules = Rules {
    era: "6.12",
    order: OF_6_12,
    alternatives: Alternatives {
        relocate: Relocate::Every,
        fill: Fill::Ones,
        untaken: Untaken::Optimise,
        same_site: SameSite::Longest,
        nops: Nops::Merge,
    },
    static_calls: StaticCalls { again: true, ..V6_1.static_calls },
    seals_hashes: true,
    count_alternatives: true,
    boosts_groups: true,
    ..V6_1
};

/// 6.5 to 6.7 (270a69c4485d): 6.1's passes, every instruction of a replacement moved.
const V6_5: Rules = Rules {
    era: "6.5",
    alternatives: Alternatives { same_site: SameSite::Each, nops: Nops::MergeJumps, ..V6_12.alternatives },
    static_calls: StaticCalls { again: true, ..V6_1.static_calls },
    seals_hashes: true,
    ..V6_1
};

/// 6.8 and 6.9 (da0fe6e68e10): 6.12's passes, and the nops of 6.5.
const V6_8: Rules = Rules { era: "6.8", alternatives: V6_5.alternatives, ..V6_12 };

/// ab9fea59487d: calls are counted first, those of replacements where they stand. Pages of thunks come from `execmem`.
const V6_15: Rules = Rules {
    era: "6.15",
    order: OF_6_15,
    retpolines: Retpolines { its_stride: 0x1000, ..V6_12.retpolines },
    count_alternatives: false,
    ..V6_12
};

/// 4a1e02b15ac1: indirect calls are stretched with `cs`; 85a2d4a890dc: another nop for `endbr`; 860238af7a33 (6.19):
/// functions that warn, where there are any.
const V6_18: Rules = Rules {
    era: "6.18",
    retpolines: Retpolines { cs: true, ..V6_15.retpolines },
    static_calls: StaticCalls { warn: true, ..V6_15.static_calls },
    endbr_poison: *b"\x0f\x1f\x40\xd6",
    ..V6_15
};

/// 6.18's passes; a BPF trampoline may be jumped to (25e4e3565d45); preambles may be far (24c8147abb39, 7.0).
const V6_19: Rules = Rules { era: "6.19", far_preambles: true, enters_by_jump: true, ..V6_18 };

/// a4233c21e773: one write a site; more counts as a nop.
const V7_2: Rules = Rules {
    era: "7.2",
    alternatives: Alternatives { same_site: SameSite::Once, nops: Nops::MergeAll, ..V6_19.alternatives },
    ..V6_19
};

/// A static call of the native unlock becomes a `movb`; kCFI's callers trap at another instruction.
const V7_3: Rules =
    Rules { era: "7.3", static_calls: StaticCalls { unlock: true, ..V7_2.static_calls }, kcfi_udb: true, ..V7_2 };

/// The seed of October 2007 differs from 2.6.24 in its template and its nops, not here.
const SEED: Rules = Rules { era: "seed", ..V2_6_24 };

/// All of them.
pub static ERAS: [Rules; 22] = [
    SEED, V2_6_24, V2_6_33, V2_6_34, V2_6_37, V3_0, V3_16, V5_10_0, V5_10, V5_12, V5_13, V5_15, V5_17, V6_1, V6_5,
    V6_8, V6_12, V6_15, V6_18, V6_19, V7_2, V7_3,
];

impl Rules {
    /// What calls of the tracer and jump labels become.
    pub(crate) fn nop5(&self, bits: Bits, of_cpu: &NopTable) -> [u8; 5] {
        match (self.nop5, bits) {
            (Nop5::Nopl, _) | (Nop5::Width, Bits::B64) => P6_NOPS.atomic5,
            (Nop5::Width, Bits::B32) => GENERIC_NOPS.atomic5,
            (Nop5::Cpu, _) => of_cpu.atomic5,
        }
    }

    /// Whether those tell the CPU's nops.
    pub(crate) fn nop5_of_cpu(&self) -> bool {
        self.nop5 == Nop5::Cpu
    }

    /// The rules of this era.
    pub fn by_name(era: &str) -> Result<&'static Rules> {
        ERAS.iter().find(|rules| rules.era == era).ok_or_else(|| {
            let known: Vec<_> = ERAS.iter().map(|rules| rules.era).collect();
            Error::ops(format!("no rules for era {era:?}; there are {}", known.join(", ")))
        })
    }
}
