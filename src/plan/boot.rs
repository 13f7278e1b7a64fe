//! One boot: what the passes need to know about the machine, and the run of all passes.

use std::collections::{HashMap, HashSet};

use super::{
    Decision, Kind, Landmarks, Memory, Pass, Plan, Reason, Rules, Stage, alternatives, callthunks, ftrace, ibt,
    jump_labels, paravirt, retpolines, returns, runtime_const, smp_locks, static_calls, undetermined, unlisted,
};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::insn::{NopTable, X86_NOPS};
use crate::sites::Tables;

/// A value, and whether it is more than a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<T> {
    /// The value.
    pub value: T,
    /// Nothing after boot, no option and no device changes it: its sites are not marked undetermined.
    pub certain: bool,
}

/// What `apply_paravirt()` needs.
#[derive(Debug, Clone)]
pub struct Paravirt {
    /// What each slot holds, and what the patch function does with its type.
    pub template: Vec<paravirt::Slot>,
    /// The era's rules.
    pub rules: paravirt::Rules,
}

/// A machine, in the terms of the passes. It knows no names: features are numbers, functions are addresses.
#[derive(Debug, Clone)]
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
    /// A PV guest of Xen.
    pub xen: bool,
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
            xen: false,
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

/// The image's data, for the passes that look pointers up: `len` bytes at an address.
pub(super) type Data<'a> = &'a dyn Fn(u64, usize) -> Option<&'a [u8]>;

/// All passes of one boot, under way.
pub struct Run<'a> {
    pub(super) memory: Memory,
    pub(super) plan: Plan,
    pub(super) tables: &'a Tables,
    pub(super) marks: &'a Landmarks,
    pub(super) boot: &'a Boot,
    pub(super) rules: &'a Rules,
    pub(super) data: Data<'a>,
    /// `thunks_initialized` of callthunks.c.
    pub(super) counting: bool,
}

/// The plan of a boot of this image.
pub fn boot(image: &Image, tables: &Tables, boot: &Boot, rules: &Rules) -> Result<Plan> {
    let marks = Landmarks::of(image)?;
    let data = |address, len| image.read(address, len);
    let run = Run::new(Memory::of(image), tables, &marks, boot, rules, &data);
    run.all().map(|(plan, _)| plan).map_err(|e| e.in_file(image.name()))
}

impl<'a> Run<'a> {
    /// A run over this memory.
    pub fn new(
        memory: Memory,
        tables: &'a Tables,
        marks: &'a Landmarks,
        boot: &'a Boot,
        rules: &'a Rules,
        data: &'a dyn Fn(u64, usize) -> Option<&'a [u8]>,
    ) -> Run<'a> {
        let rows = tables.alternatives.as_ref().map_or(0, |t| t.rows.len())
            + tables.paravirt.as_ref().map_or(0, |t| t.sites.len())
            + tables.retpolines.sites.len()
            + tables.returns.sites.len()
            + tables.ibt.sites.len()
            + tables.smp_locks.sites.len()
            + tables.mcount.len()
            + tables.jump_labels.len()
            + tables.static_calls.len()
            + tables.trampolines.len();
        Run { memory, plan: Plan::with_capacity(rows, 4), tables, marks, boot, rules, data, counting: false }
    }

    /// Runs every pass in the era's order. Gives the plan, and the memory after it.
    pub fn all(mut self) -> Result<(Plan, Memory)> {
        for stage in self.rules.order {
            match stage {
                Stage::Unlisted => unlisted::apply(&mut self)?,
                Stage::JumpLabels => jump_labels::initialise(&mut self)?,
                Stage::StaticCalls => static_calls::initialise(&mut self)?,
                Stage::Ftrace => ftrace::apply(&mut self)?,
                Stage::Constants => runtime_const::apply(&mut self)?,
                Stage::Paravirt => paravirt::apply(&mut self)?,
                Stage::Retpolines => retpolines::apply(&mut self)?,
                Stage::Returns => returns::apply(&mut self)?,
                Stage::Alternatives => alternatives::apply(&mut self)?,
                Stage::CallThunks => callthunks::apply(&mut self)?,
                Stage::Ibt => ibt::apply(&mut self)?,
                Stage::SmpLocks => smp_locks::apply(&mut self)?,
                Stage::StaticCallsAgain => static_calls::again(&mut self)?,
                Stage::Updates => {
                    static_calls::update(&mut self)?;
                    jump_labels::update(&mut self)?;
                }
            }
        }
        undetermined::mark(&mut self)?;
        Ok((self.plan, self.memory))
    }

    /// Writes to memory and journal.
    pub(super) fn poke(
        &mut self,
        pass: Pass,
        row: u32,
        address: u64,
        bytes: &[u8],
        kind: Kind,
        reason: Reason,
    ) -> Result<()> {
        self.memory.poke(address, bytes).map_err(|e| e.at_row(row as usize))?;
        self.plan.push(address, pass, row, bytes, Decision { kind, reason, used: bytes.len() as u16 });
        Ok(())
    }

    /// Notes why a row changes nothing.
    pub(super) fn keep(&mut self, pass: Pass, row: u32, address: u64, reason: Reason) {
        self.plan.push(address, pass, row, &[], Decision { kind: Kind::Kept, reason, used: 0 });
    }

    /// The pointer at this address, as this machine has it.
    pub(super) fn pointer(&self, address: u64) -> Option<u64> {
        if let Some(&value) = self.boot.pointers.get(&address) {
            return Some(value);
        }
        let word = self.memory.bits().word();
        let mut bytes = [0; 8];
        bytes[..word].copy_from_slice((self.data)(address, word)?);
        Some(u64::from_le_bytes(bytes))
    }
}

/// An error of this section's row.
pub(super) fn row_error(error: Error, section: &str, row: u32, address: u64) -> Error {
    error.in_section(section).at_row(row as usize).at_address(address)
}
