//! The kernel's passes over its own text, one file a pass, and the plan they write.
//!
//! A [`Plan`] is the ordered list of writes a kernel would make: at which address, which bytes, by which pass and row,
//! and why. Where two passes write at one address both writes are there, in order; the last one is what runs. A write of
//! no bytes says why a row changed nothing. [`boot()`] runs all passes of an era over one [`LoadedCode`].
//!
//! | pass | kernel function | table |
//! |---|---|---|
//! | [`paravirt`] | `apply_paravirt()` | `.parainstructions` |
//! | [`alternatives`] | `apply_alternatives()` | `.altinstructions` |
//! | [`cfi`] | `apply_fineibt()` | `.cfi_sites`, `.retpoline_sites` |
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

mod affected;
pub mod alternatives;
mod boot;
pub mod callthunks;
pub mod cfi;
mod choices;
pub mod decision;
mod differences;
mod eras;
mod fineibt;
pub mod forms;
pub mod ftrace;
mod guess;
mod guesses;
pub mod ibt;
mod its;
pub mod jump_labels;
mod landmarks;
mod loaded;
mod machine;
pub mod optimise;
pub mod paravirt;
pub mod passes;
pub mod relocate;
pub mod retpolines;
pub mod returns;
pub mod rules;
mod run;
pub mod runtime_const;
pub mod smp_locks;
pub mod static_calls;
mod stretches;
pub mod template;
mod undetermined;
pub mod unlisted;
mod writes;

pub use boot::{boot, boot_at};
pub use decision::{Decision, Kind, Reason};
pub use differences::{Difference, Side, differences};
pub use eras::ERAS;
pub use fineibt::BhiCode;
pub(crate) use fineibt::arguments;
pub use guess::{Forms, Guess};
pub use landmarks::Landmarks;
pub use loaded::{KernelCode, LoadedCode};
pub use machine::{Bhi, Boot, Cfi, CfiMode, HvmCall, Known, Paravirt};
pub use passes::{ALL_PASSES, Pass};
pub use rules::{Rules, Stage};
pub use run::Run;
pub use undetermined::{Otherwise, Undetermined, undetermined};
pub use writes::{Plan, Write};
