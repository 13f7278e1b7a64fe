//! The kernel's own data, compared with its text: where the two disagree, one of them was changed, and both values are
//! reported.
//!
//! | data | text |
//! |---|---|
//! | `static_key.enabled` | the jump labels of the key |
//! | `static_call_key.func` | the sites and the trampoline of the call |
//! | slots of `pv_ops` | the calls of the op; where there are none, the backend that was found |
//! | `x86_return_thunk` | where returns jump |
//! | `boot_cpu_data.x86_capability` | what is keyed on a feature |
//! | `alternatives_patched` | that it is patched at all |
//! | `.rodata` | the file, with its relocations |
//!
//! Neither is believed against the other: an attacker may have changed either.

mod rodata;
mod votes;

use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Memory, Words};
use crate::verify::Report;

pub use rodata::{Changed, Rodata, rodata};

/// A datum that disagrees with the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// What kind of data: `static_key`, `static_call`, `pv_ops`, `return_thunk`, `feature`, `alternatives_patched`.
    pub what: &'static str,
    /// Where it is, as linked.
    pub address: u64,
    /// A feature's number; otherwise the same address.
    pub which: u64,
    /// What the text says: a function, or 0 or 1.
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
    pub rodata: std::result::Result<Rodata, String>,
    /// What could not be read, and why.
    pub unheard: Vec<String>,
}

/// What is known of ops: where each slot of the template is, and what it may hold.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    /// Address of each slot.
    pub addresses: Vec<u64>,
}

/// Reads the data of a kernel whose text was judged.
pub fn hear(
    report: &Report,
    backends: &[super::PossibleBackend],
    slots: &Slots,
    memory: &Memory,
    found: &Location,
    image: &Image,
) -> Result<Heard> {
    let words = Words::new(memory, found, image)?;
    let mut heard = votes::hear(report, backends, slots, &words, image)?;
    heard.rodata = rodata(memory, found, image)?;
    Ok(heard)
}
