//! `.return_sites`: jumps to `__x86_return_thunk`. See [`super::relative`] for the rows.

use super::code::Code;
use super::relative::{self, AddressTable, Shape};
use crate::error::Result;

/// The section's name.
pub const SECTION: &str = ".return_sites";

pub(crate) fn read(code: &Code<'_>) -> Result<AddressTable> {
    relative::read(code, SECTION, Shape { least: 5, holes: false })
}
