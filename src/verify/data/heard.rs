//! What the data of a kernel say, and where that is something else than its text does.

use std::collections::BTreeSet;
use std::ops::Range;

use super::rodata::Rodata;

/// A datum that disagrees with the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// What kind of data: `static_key`, `static_call`, `pv_ops`, `return_thunk`, `feature`, `alternatives_patched`,
    /// `tracepoint`, `tracepoint_call`, `dynamic_debug`, `lsm_hook`, `lsm_call`, `mirrored_call`, `sched_feature`,
    /// `updated_call`; or what no text speaks of: `function` (a pointer to one), `gate` and `gate_bits` (of an
    /// interrupt), `idt_register` (of a CPU), `segment` (a descriptor in the tables of a CPU), `page` (of the image, where
    /// it is mapped to), `jump_entry` and `static_call_site` (rows of their tables).
    pub what: &'static str,
    /// Where it is, as linked.
    pub address: u64,
    /// A feature's number, an interrupt's vector, a CPU, a CPU and a selector of 16 bits, the site of a row; otherwise the
    /// same address.
    pub which: u64,
    /// What the text says, or the file: a function, or 0 or 1; of a row the first field that differs.
    pub expected: u64,
    /// What the data say.
    pub found: u64,
}

/// What the data of a kernel say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// How many data of each kind could be read.
    pub counts: Vec<(&'static str, u64)>,
    /// Where they say something else than the text does.
    pub disagreements: Vec<Disagreement>,
    /// The constants, held to the file; or why they are not.
    pub rodata: Result<Rodata, String>,
    /// What of the constants is written at boot and was held to the file: tables, by their rows, and vDSOs.
    pub held: Vec<Range<u64>>,
    /// What could not be read, and why.
    pub unheard: Vec<String>,
    /// Static keys of which nothing tells but their text and their count: a change of both alike cannot be told.
    pub alone: BTreeSet<u64>,
}

/// What is known of ops: where each slot of the template is, and what it may hold.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    /// Address of each slot.
    pub addresses: Vec<u64>,
}
