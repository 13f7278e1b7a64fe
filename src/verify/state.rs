//! What decides the text and is not in the image: one value for all sites that depend on it.

use std::collections::HashMap;

use crate::insn::{NopTable, X86_NOPS};
use crate::plan::{Bhi, CfiMode, HvmCall};

/// How indirect branches are made (`apply_retpolines()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Branches {
    /// Through retpolines, as built.
    Retpolines,
    /// Through thunks that count calls.
    Counted,
    /// Indirect.
    Indirect,
    /// Fenced and indirect.
    Fenced,
    /// Indirect, but through ITS thunks in the lower half of a cache line.
    Its,
    /// Fenced likewise.
    FencedIts,
}

impl Branches {
    /// All of them, the likeliest first.
    pub const ALL: [Branches; 6] = [
        Branches::Retpolines,
        Branches::Indirect,
        Branches::Its,
        Branches::Fenced,
        Branches::FencedIts,
        Branches::Counted,
    ];

    /// Whether `lfence` goes before the branch.
    pub fn fenced(self) -> bool {
        matches!(self, Branches::Fenced | Branches::FencedIts)
    }

    /// Whether some go through ITS thunks.
    pub fn its(self) -> bool {
        matches!(self, Branches::Its | Branches::FencedIts)
    }

    /// The name the report uses.
    pub fn name(self) -> &'static str {
        match self {
            Branches::Retpolines => "retpolines",
            Branches::Counted => "retpolines, calls counted",
            Branches::Indirect => "indirect branches",
            Branches::Fenced => "lfence and indirect branches",
            Branches::Its => "indirect branches, ITS thunks",
            Branches::FencedIts => "lfence and indirect branches, ITS thunks",
        }
    }
}

/// No address of a function: what a slot holds whose sites say that it is called, and not where.
pub const SOME_FUNCTION: u64 = 1;

/// What decides preambles and callers of a kernel with `.cfi_sites`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cfi {
    /// How calls are checked.
    pub mode: CfiMode,
    /// What functions of FineIBT's do with their arguments where a check fails.
    pub bhi: Bhi,
    /// What hashes are xored with: 0 with `cfi=norand`.
    pub seed: u32,
}

/// A static call's history, as far as it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Never updated: what the key holds as built.
    Built,
    /// Updated to none, before the kernel chose a return thunk.
    Cleared,
    /// Updated to this function; to none, where 0.
    Updated(u64),
}

/// One value for everything that sites depend on.
#[derive(Debug, Clone)]
pub struct State {
    /// The kernel's nops.
    pub nops: &'static NopTable,
    /// Lock prefixes are patched out.
    pub uniprocessor: bool,
    /// Unneeded `endbr` are sealed.
    pub sealed: bool,
    /// Calls of the tracer are nops.
    pub untraced: bool,
    /// Xen wrote what no table names.
    pub xen: bool,
    /// How the page that Xen filled for a guest with a machine of its own calls it.
    pub hvm_call: Option<HvmCall>,
    /// The trampoline that HID-BPF attached at boot.
    pub hid_bpf: Option<u64>,
    /// How indirect branches are made.
    pub branches: Branches,
    /// Where returns jump; `None`: they return.
    pub return_thunk: Option<u64>,
    /// Calls of ops stay as built (`noreplace-paravirt`).
    pub calls_stay: bool,
    /// `native_patch()` inlines ops by type (5.10).
    pub inlines: bool,
    /// Features of the CPU with which some op is not inlined.
    pub forbids: Vec<u16>,
    /// Features that are there, a bit each.
    pub features: Vec<u32>,
    /// What op slots hold, by their place in the map.
    pub slots: Vec<u64>,
    /// Whether a static key is on, likewise.
    pub keys: Vec<bool>,
    /// Static calls, likewise.
    pub calls: Vec<Target>,
    /// Run-time constants, likewise.
    pub constants: Vec<u64>,
    /// Hashes of indirect calls.
    pub cfi: Cfi,
    /// Pages of ITS thunks, in the order they were allocated.
    pub pages: Vec<u64>,
}

impl Default for State {
    fn default() -> State {
        State {
            nops: &X86_NOPS,
            uniprocessor: false,
            sealed: false,
            untraced: true,
            xen: false,
            hvm_call: None,
            hid_bpf: None,
            branches: Branches::Retpolines,
            return_thunk: None,
            calls_stay: false,
            forbids: Vec::new(),
            inlines: false,
            features: Vec::new(),
            slots: Vec::new(),
            keys: Vec::new(),
            calls: Vec::new(),
            constants: Vec::new(),
            cfi: Cfi::default(),
            pages: Vec::new(),
        }
    }
}

impl State {
    /// Whether a feature is there.
    pub fn has(&self, feature: u16) -> bool {
        self.features.get(usize::from(feature / 32)).is_some_and(|word| word >> (feature % 32) & 1 != 0)
    }

    /// Sets or clears a feature.
    pub fn set(&mut self, feature: u16, present: bool) {
        let word = usize::from(feature / 32);
        if self.features.len() <= word {
            self.features.resize(word + 1, 0);
        }
        let bit = 1 << (feature % 32);
        if present { self.features[word] |= bit } else { self.features[word] &= !bit }
    }
}

/// What the user knows: it is not inferred, and sites that say otherwise are unexplained. `None`, or absent: inferred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The kernel's nops.
    pub nops: Option<&'static NopTable>,
    /// Lock prefixes are patched out.
    pub uniprocessor: Option<bool>,
    /// Features, by number.
    pub features: HashMap<u16, bool>,
    /// Where returns jump, if the machine has return thunks.
    pub return_thunk: Option<u64>,
    /// What op slots hold, by address.
    pub slots: HashMap<u64, u64>,
    /// Static keys, by address.
    pub keys: HashMap<u64, bool>,
    /// Functions of static calls, by address of their key.
    pub calls: HashMap<u64, u64>,
    /// Run-time constants, by name of their section.
    pub constants: HashMap<String, u64>,
    /// The backend, by name.
    pub backend: Option<String>,
}
