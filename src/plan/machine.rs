//! What the passes need to know about the machine. It knows no names: features are numbers, functions are addresses.

use std::collections::{HashMap, HashSet};

use super::template;
use crate::insn::{NopTable, X86_NOPS};

/// A value, and whether it is more than a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<T> {
    /// The value.
    pub value: T,
    /// Nothing after boot, no option and no device changes it: its sites are not marked undetermined.
    pub certain: bool,
}

/// What `apply_paravirt()` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paravirt {
    /// What each slot holds, and what the patch function does with its type.
    pub template: Vec<template::Slot>,
    /// The era's rules.
    pub rules: template::TemplateRules,
}

/// How indirect calls are checked (`cfi_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub enum CfiMode {
    /// `cfi=off`.
    Off,
    /// kCFI, as the compiler built it.
    #[default]
    Kcfi,
    /// FineIBT: up to 6.14 the default where the CPU has IBT.
    FineIbt,
    /// FineIBT whose callers compare too (`cfi=fineibt,paranoid`, 6.15): the default where the CPU has IBT and not FRED.
    Paranoid,
}

impl CfiMode {
    /// Functions check their callers.
    pub fn is_fineibt(self) -> bool {
        matches!(self, CfiMode::FineIbt | CfiMode::Paranoid)
    }
}

/// What a function of FineIBT's does with its arguments where a caller's hash is another (`cfi=fineibt,bhi`,
/// CONFIG_FINEIBT_BHI, 6.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub enum Bhi {
    /// It keeps them, and traps.
    #[default]
    Keeps,
    /// It lets go of one at once, and of more in `__bhi_args`.
    Clears,
    /// Of one too in `__bhi_args`, which can go on: a failure is but a warning (`cfi_warn`).
    Calls,
}

/// What `apply_fineibt()` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cfi {
    /// How indirect calls are checked.
    pub mode: CfiMode,
    /// What functions of FineIBT's do besides.
    pub bhi: Bhi,
    /// The random seed of the boot; `None` with `cfi=norand`, or where it is not given.
    pub seed: Option<u32>,
}

impl Cfi {
    /// The ways to check, by what `cfi=` calls them.
    pub const NAMES: [(&str, CfiMode, Bhi); 8] = [
        ("off", CfiMode::Off, Bhi::Keeps),
        ("kcfi", CfiMode::Kcfi, Bhi::Keeps),
        ("fineibt", CfiMode::FineIbt, Bhi::Keeps),
        ("fineibt,paranoid", CfiMode::Paranoid, Bhi::Keeps),
        ("fineibt,bhi", CfiMode::FineIbt, Bhi::Clears),
        ("fineibt,paranoid,bhi", CfiMode::Paranoid, Bhi::Clears),
        ("fineibt,bhi,warn", CfiMode::FineIbt, Bhi::Calls),
        ("fineibt,paranoid,bhi,warn", CfiMode::Paranoid, Bhi::Calls),
    ];

    /// The way of this name.
    pub fn by_name(name: &str, seed: Option<u32>) -> Option<Cfi> {
        let (_, mode, bhi) = Cfi::NAMES.into_iter().find(|(known, ..)| *known == name)?;
        Some(Cfi { mode, bhi, seed })
    }

    /// Its place among the names.
    pub fn number(mode: CfiMode, bhi: Bhi) -> usize {
        Cfi::NAMES.iter().position(|&(_, m, b)| (m, b) == (mode, bhi)).unwrap_or(mode as usize)
    }
}

/// A machine, in the terms of the passes. It knows no names: features are numbers, functions are addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// `boot_cpu_data.x86_capability`: feature words, then bug words.
    pub features: Vec<u32>,
    /// Number of `X86_FEATURE_RETPOLINE`.
    pub retpoline: Option<u16>,
    /// Number of `X86_FEATURE_RETPOLINE_LFENCE`.
    pub retpoline_lfence: Option<u16>,
    /// Number of `X86_FEATURE_RETHUNK`.
    pub rethunk: Option<u16>,
    /// Number of `X86_FEATURE_INDIRECT_THUNK_ITS`.
    pub its: Option<u16>,
    /// Number of `X86_FEATURE_CALL_DEPTH`.
    pub call_depth: Option<u16>,
    /// `x86_return_thunk`; `None`: as built.
    pub return_thunk: Option<u64>,
    /// `lock` prefixes are patched out.
    pub uniprocessor: bool,
    /// The kernel's nops on this CPU.
    pub nops: &'static NopTable,
    /// For kernels with `.parainstructions`.
    pub paravirt: Option<Paravirt>,
    /// For kernels with direct-call rows: what the pointer at an address holds; where it is not listed, the image's data.
    pub pointers: HashMap<u64, u64>,
    /// State of static keys by address; where it is not listed, the image's data, as a guess.
    pub keys: HashMap<u64, Known<bool>>,
    /// Target of static calls by address of their key; where it is not listed, the image's data, as a guess.
    pub static_calls: HashMap<u64, Known<u64>>,
    /// Keys of static calls that have their target before `static_call_force_reinit()`, not only at the end of the boot.
    pub early_calls: HashSet<u64>,
    /// Constants by name of their section; where one is not listed, what the image has, as a guess.
    pub constants: HashMap<String, Known<u64>>,
    /// Pages of ITS thunks in the order they were allocated, as far as known.
    pub its_pages: Vec<u64>,
    /// The trampoline that HID-BPF has attached; `None` where it has not, or nobody says.
    pub hid_bpf: Option<u64>,
    /// A PV guest of Xen.
    pub xen: bool,
    /// In an HVM or PVH guest of Xen: how its hypercall page, where it has one, calls the hypervisor.
    pub hvm_call: Option<HvmCall>,
    /// For kernels with `.cfi_sites`.
    pub cfi: Cfi,
    /// The seed in `cfi` is more than a guess.
    pub cfi_known: bool,
}

/// The instruction that calls the hypervisor from a virtual machine of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HvmCall {
    /// Intel's.
    Vmcall,
    /// AMD's and Hygon's.
    Vmmcall,
}

impl HvmCall {
    /// Both.
    pub const ALL: [HvmCall; 2] = [HvmCall::Vmcall, HvmCall::Vmmcall];

    /// Its name: "vmcall".
    pub fn name(self) -> &'static str {
        match self {
            HvmCall::Vmcall => "vmcall",
            HvmCall::Vmmcall => "vmmcall",
        }
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<HvmCall> {
        HvmCall::ALL.into_iter().find(|call| call.name() == name)
    }

    /// Its bytes.
    pub fn code(self) -> [u8; 3] {
        match self {
            HvmCall::Vmcall => [0x0f, 0x01, 0xc1],
            HvmCall::Vmmcall => [0x0f, 0x01, 0xd9],
        }
    }
}

impl Default for Boot {
    fn default() -> Boot {
        Boot {
            features: Vec::new(),
            retpoline: None,
            retpoline_lfence: None,
            rethunk: None,
            its: None,
            call_depth: None,
            return_thunk: None,
            uniprocessor: false,
            nops: &X86_NOPS,
            paravirt: None,
            pointers: HashMap::new(),
            keys: HashMap::new(),
            static_calls: HashMap::new(),
            early_calls: HashSet::new(),
            constants: HashMap::new(),
            its_pages: Vec::new(),
            hid_bpf: None,
            xen: false,
            hvm_call: None,
            cfi: Cfi::default(),
            cfi_known: false,
        }
    }
}

impl Boot {
    /// `boot_cpu_has()`; `None` where the kernel would `BUG()`: there is no such number.
    pub fn has(&self, feature: u16) -> Option<bool> {
        let word = self.features.get(usize::from(feature / 32))?;
        Some(word >> (feature % 32) & 1 != 0)
    }

    /// Whether a feature that may have no number is there.
    pub(super) fn with(&self, feature: Option<u16>) -> bool {
        feature.and_then(|number| self.has(number)).unwrap_or(false)
    }
}
