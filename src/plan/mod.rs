//! The kernel's passes over its own text, one file a pass, and the plan they write.
//!
//! A [`Plan`] is the ordered list of writes a kernel would make: at which address, which bytes, by which pass and row,
//! and why. Where two passes write at one address both writes are there, in order; the last one is what runs. A write of
//! no bytes says why a row changed nothing. [`boot()`] runs all passes of an era over one [`Memory`].
//!
//! | pass | kernel function | table |
//! |---|---|---|
//! | [`paravirt`] | `apply_paravirt()` | `.parainstructions` |
//! | [`alternatives`] | `apply_alternatives()` | `.altinstructions` |
//! | [`retpolines`] | `apply_retpolines()` | `.retpoline_sites` |
//! | [`returns`] | `apply_returns()` | `.return_sites` |
//! | [`ibt`] | `apply_ibt_endbr()`, `apply_seal_endbr()` | `.ibt_endbr_seal` |
//! | [`smp_locks`] | `alternatives_smp_unlock()` | `.smp_locks` |
//! | [`callthunks`] | `callthunks_patch_builtin_calls()` | `.call_sites` |
//! | [`ftrace`] | `ftrace_init()` | `__mcount_loc` |
//! | [`jump_labels`] | `jump_label_init()`, `__jump_label_transform()` | `__jump_table` |
//! | [`static_calls`] | `static_call_init()`, `__static_call_transform()` | static call sites |
//! | [`runtime_const`] | `runtime_const_fixup()` | `runtime_*` |
//! | [`unlisted`] | `xen_start_kernel()` | none |

pub mod alternatives;
mod boot;
pub mod callthunks;
pub mod decision;
pub mod exercise;
pub mod ftrace;
pub mod ibt;
pub mod jump_labels;
mod landmarks;
mod memory;
pub mod optimise;
pub mod paravirt;
pub mod relocate;
pub mod retpolines;
pub mod returns;
mod rules;
pub mod runtime_const;
pub mod smp_locks;
pub mod static_calls;
pub mod undetermined;
pub mod unlisted;

pub use boot::{Boot, Known, Paravirt, Run, boot};
pub use decision::{Decision, Kind, Reason};
pub use landmarks::Landmarks;
pub use memory::Memory;
pub use rules::{Rules, Stage};
pub use undetermined::{Forms, Undetermined};

/// One of the kernel's functions that rewrite text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// `apply_paravirt()`.
    Paravirt,
    /// `apply_alternatives()`.
    Alternatives,
    /// `apply_retpolines()`.
    Retpolines,
    /// `apply_returns()`.
    Returns,
    /// `apply_ibt_endbr()`.
    Ibt,
    /// `alternatives_smp_unlock()`.
    SmpLocks,
    /// `callthunks_patch_builtin_calls()`.
    CallSites,
    /// `ftrace_init()`.
    Mcount,
    /// `__jump_label_transform()`.
    JumpLabels,
    /// `__static_call_transform()`, at call sites.
    StaticCalls,
    /// `__static_call_transform()`, at trampolines.
    Trampolines,
    /// `runtime_const_fixup()`.
    RuntimeConst,
    /// What no table names.
    Unlisted,
}

impl Pass {
    /// The name the command line and JSON use: that of its table.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Paravirt => "paravirt",
            Pass::Alternatives => "alternatives",
            Pass::Retpolines => "retpolines",
            Pass::Returns => "returns",
            Pass::Ibt => "ibt",
            Pass::SmpLocks => "smp_locks",
            Pass::CallSites => "call_sites",
            Pass::Mcount => "mcount",
            Pass::JumpLabels => "jump_labels",
            Pass::StaticCalls => "static_calls",
            Pass::Trampolines => "trampolines",
            Pass::RuntimeConst => "runtime_const",
            Pass::Unlisted => "unlisted",
        }
    }
}

/// One write of one pass, or a row it passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where, as linked.
    pub address: u64,
    /// The row of that pass's table which asks for it.
    pub row: u32,
    /// The pass that writes.
    pub pass: Pass,
    /// What was decided, and why.
    pub decision: Decision,
    start: u32,
    len: u16,
}

/// The ordered writes of a boot.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    writes: Vec<Write>,
    // All bytes written, one run after the other: a plan has tens of thousands of writes of a few bytes each.
    arena: Vec<u8>,
    undetermined: Vec<Undetermined>,
}

impl Plan {
    /// An empty plan with room for this many writes of this many bytes each.
    pub fn with_capacity(writes: usize, bytes_each: usize) -> Plan {
        let arena = Vec::with_capacity(writes.saturating_mul(bytes_each));
        Plan { writes: Vec::with_capacity(writes), arena, undetermined: Vec::new() }
    }

    /// Adds a write of the bytes that `fill` leaves in the buffer, which comes preloaded with `original`.
    ///
    /// Nothing is added where `fill` fails.
    pub fn write<E>(
        &mut self,
        address: u64,
        pass: Pass,
        row: u32,
        original: &[u8],
        fill: impl FnOnce(&mut [u8]) -> Result<Decision, E>,
    ) -> Result<(), E> {
        let start = self.arena.len();
        self.arena.extend_from_slice(original);
        match fill(&mut self.arena[start..]) {
            Ok(decision) => {
                // Lengths of sites are bytes in every table; an arena of 4 GiB is beyond any image.
                let (start, len) = (start as u32, original.len() as u16);
                self.writes.push(Write { address, row, pass, decision, start, len });
                Ok(())
            }
            Err(error) => {
                self.arena.truncate(start);
                Err(error)
            }
        }
    }

    /// Adds a write of these bytes; of none, where a row is passed over.
    pub fn push(&mut self, address: u64, pass: Pass, row: u32, bytes: &[u8], decision: Decision) {
        let (start, len) = (self.arena.len() as u32, bytes.len() as u16);
        self.arena.extend_from_slice(bytes);
        self.writes.push(Write { address, row, pass, decision, start, len });
    }

    /// All writes, in the order the kernel makes them.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The bytes of a write of this plan.
    pub fn bytes(&self, write: &Write) -> &[u8] {
        let start = write.start as usize;
        &self.arena[start..start + usize::from(write.len)]
    }

    /// What the plan can only guess: the writes hold the guess.
    pub fn undetermined(&self) -> &[Undetermined] {
        &self.undetermined
    }
}
