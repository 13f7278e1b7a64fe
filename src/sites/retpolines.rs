//! `.retpoline_sites`: calls and jumps to the retpoline thunks (`__x86_indirect_thunk_*`). See [`super::relative`] for the rows.

use super::code::Code;
use super::relative::{self, AddressTable, Shape};
use crate::error::Result;

/// The section's name.
pub const SECTION: &str = ".retpoline_sites";

pub(crate) fn read(code: &Code<'_>) -> Result<AddressTable> {
    relative::read(code, SECTION, Shape { least: 5, holes: false })
}
