//! All passes of one boot, under way: what they read, and where they write.

use super::decision::{Decision, Kind, Reason};
use super::its::Pages;
use super::landmarks::Landmarks;
use super::loaded::{KernelCode, LoadedCode};
use super::machine::{Boot, CfiMode};
use super::passes::Pass;
use super::rules::Rules;
use super::stretches::Stretches;
use super::writes::Plan;
use crate::error::{Error, Result};
use crate::numbers::unsigned;
use crate::sites::Tables;

/// The image's data, for the passes that look pointers up: `len` bytes at an address.
pub(super) type Data<'a> = &'a dyn Fn(u64, usize) -> Option<&'a [u8]>;

/// All passes of one boot, under way.
pub struct Run<'a> {
    pub(super) memory: LoadedCode,
    pub(super) plan: Plan,
    pub(super) tables: &'a Tables,
    pub(super) landmarks: &'a Landmarks,
    pub(super) boot: &'a Boot,
    pub(super) rules: &'a Rules,
    pub(super) data: Data<'a>,
    /// The rows that are run are those at addresses in here; without it all are.
    pub(super) within: Option<&'a Stretches>,
    /// The code of the image as built, where not all rows are run.
    pub(super) elsewhere: Option<KernelCode<'a>>,
    /// `thunks_initialized` of callthunks.c.
    pub(super) counting: bool,
    /// Thunks of ITS that have been allocated.
    pub(super) its: Pages,
}

impl<'a> Run<'a> {
    /// A run over this memory.
    pub fn new(
        memory: LoadedCode,
        tables: &'a Tables,
        landmarks: &'a Landmarks,
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
            // Once for the first state, once for the last, and static calls once more for a return thunk.
            + 2 * tables.jump_labels.len()
            + 3 * tables.static_calls.len()
            + tables.trampolines.len();
        Run {
            memory,
            plan: Plan::with_capacity(rows, 4),
            tables,
            landmarks,
            boot,
            rules,
            data,
            within: None,
            elsewhere: None,
            counting: false,
            its: Pages::default(),
        }
    }

    /// Whether the row of this address is run.
    pub(super) fn runs(&self, address: u64) -> bool {
        self.within.is_none_or(|within| within.has(address))
    }

    /// Returns go through a thunk. Without CONFIG_RETHUNK nothing asks for the feature, whoever sets it
    /// (`DISABLE_RETHUNK` of arch/x86/include/asm/disabled-features.h, 5.19, f43b9876e857), and no return is listed.
    pub(super) fn rethunk(&self) -> bool {
        self.boot.with(self.boot.rethunk) && !self.tables.returns.is_empty()
    }

    /// Callers of FineIBT compare too: `cfi_paranoid`, which kernels before 6.15 do not know.
    pub(super) fn is_paranoid(&self) -> bool {
        self.boot.cfi.mode == CfiMode::Paranoid && self.landmarks.fineibt_paranoid.is_some()
    }

    /// How far before a function its preamble begins, as this kernel looks for it.
    pub(super) fn preamble(&self) -> u64 {
        self.rules.preamble(self.tables.preambles)
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
        unsigned((self.data)(address, self.memory.bits().word())?)
    }
}

/// An error of this row of a pass's table.
pub(super) fn row_error(error: Error, pass: Pass, row: u32, address: u64) -> Error {
    error.in_section(pass.table()).at_row(row as usize).at_address(address)
}
