//! The section tables: which addresses the kernel may rewrite. The only room that knows record layouts.
//!
//! | table | rows | file |
//! |---|---|---|
//! | `.parainstructions` | paravirt call sites | [`paravirt`] |
//! | `.altinstructions` | code to replace by feature | [`alternatives`] |
//! | `.retpoline_sites`, `.return_sites`, `.call_sites`, `.ibt_endbr_seal`, `.cfi_sites`, `.smp_locks` | addresses | [`relative`] |
//! | .. `.cfi_sites` | and how far before their functions they are | [`preambles`] |
//! | `__mcount_loc` | calls of the tracer | [`mcount`] |
//! | `__jump_table` | branches by static key | [`jump_labels`] |
//! | static call sites and trampolines | calls by key | [`static_calls`] |
//! | `runtime_*` | constants known at boot | [`runtime_const`] |
//! | `_kprobe_blacklist`, `__bug_table`, `__ex_table` | where the kernel refuses probes | [`reserved`] |
//!
//! `sorted` has those that the kernel sorts at boot. [`rows`] has any table's rows in one shape, [`columns`] all of them
//! grouped by site, [`document`] writes those as JSON, CSV or text. [`mod@intrusions`] looks for branches into the middle
//! of a site, of which there must be none.

pub mod alternatives;
mod bounded;
pub(crate) mod call_template;
mod code;
pub mod columns;
mod counts;
mod data_in_text;
pub mod document;
#[doc(hidden)]
pub mod exercise;
pub mod intrusions;
pub mod jump_labels;
mod layouts;
pub mod listing;
pub mod mcount;
pub mod nops;
mod order;
pub mod paravirt;
mod parts;
pub mod preambles;
pub mod relative;
pub mod reserved;
pub mod return_thunks;
pub mod rows;
pub mod runtime_const;
pub mod smp_locks;
mod sorted;
pub mod static_calls;
mod tables;
mod text;
pub mod thunks;
pub mod unknown;
mod uses;
pub mod xen;

pub use alternatives::{Alternative, AlternativeTable};
pub use columns::Columns;
pub use counts::Counts;
pub use data_in_text::data_in_text;
pub use intrusions::{Intrusion, intrusions};
pub use jump_labels::JumpLabel;
pub(crate) use order::by_address;
pub use paravirt::{ParavirtTable, Site};
pub use preambles::Preambles;
pub use relative::AddressTable;
pub use reserved::Reserved;
pub use rows::Row;
pub use runtime_const::ConstantTable;
pub(crate) use sorted::INIT;
pub use sorted::SortedTable;
pub use static_calls::{StaticCall, Trampoline};
pub use tables::{Tables, sorted};
pub use uses::{CallKey, StaticKey, call_keys, sites_of_keys, static_keys};
