//! The pages of ITS thunks, which the kernel's indirect branches go through: it allocates them, and fills them once
//! (`its_init_thunk()` of arch/x86/kernel/alternative.c).

use super::heard::Heard;
use super::rodata::compare;
use crate::error::Result;
use crate::image::Image;
use crate::memory::{LinkedBytes, Location, Mapped, Memory};
use crate::verify::Report;

/// What the report calls them.
const NAME: &str = "ITS thunks";

/// Holds them to what the kernel fills them with.
pub(super) fn judge(
    report: &Report,
    (memory, found, image): (&Memory, &Location, &Image),
    heard: &mut Heard,
) -> Result<()> {
    let Ok(rodata) = &mut heard.rodata else { return Ok(()) };
    if report.thunks.is_empty() {
        return Ok(());
    }
    let mapped = match Mapped::new(memory, found, image) {
        Ok(mapped) => mapped,
        Err(error) => {
            heard.unheard.push(format!("{NAME}: {}", error.reason));
            return Ok(());
        }
    };
    for (address, built) in &report.thunks {
        let runs = address.wrapping_add(found.slide);
        let mut bytes = vec![0; built.len()];
        let unread = mapped.fill(runs, &mut bytes)?;
        let unread =
            unread.into_iter().map(|gap| gap.start.wrapping_sub(found.slide)..gap.end.wrapping_sub(found.slide));
        compare(LinkedBytes { address: *address, bytes, unread: unread.collect(), strays: Vec::new() }, built, rodata);
    }
    rodata.tables.push(NAME.to_owned());
    Ok(())
}
