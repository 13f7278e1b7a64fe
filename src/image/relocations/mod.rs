//! Where absolute addresses stand in a relocatable kernel: in lists behind the ELF file, or where the linker left them.

mod behind;
mod emitted;

use super::opened::Image;
use super::relocation::Relocations;
use crate::error::Result;

/// Reads them; `None` in a kernel that does not say.
pub(super) fn read(image: &Image) -> Result<Option<Relocations>> {
    match behind::read(image)? {
        Some(found) => Ok(Some(found)),
        None => emitted::read(image),
    }
}
