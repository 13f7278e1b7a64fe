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
//! | `.rodata`, `__bug_table`, ORC's tables | the file, with its relocations |
//! | what is read-only after boot | pointers to functions are such |
//!
//! Neither is believed against the other: an attacker may have changed either.

mod heard;
mod rodata;
mod tables;
mod votes;

use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Memory, Words};
use crate::verify::Report;

pub use heard::{Disagreement, Heard, Slots};
pub use rodata::{Changed, Rodata};

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

/// Holds `.rodata` and the tables among the data to the file; the reason, where the image does not say what of `.rodata` the
/// kernel writes.
///
/// # Errors
/// Memory that cannot be read.
pub fn rodata(memory: &Memory, found: &Location, image: &Image) -> Result<std::result::Result<Rodata, String>> {
    let mut held = rodata::hold(memory, found, image)?;
    if let Ok(rodata) = &mut held {
        tables::judge(memory, found, image, rodata)?;
    }
    Ok(held)
}
