//! `.call_sites`: direct calls. See [`super::relative`] for the rows.

use super::code::Code;
use super::relative::{self, AddressTable, Shape};
use crate::error::Result;

/// The section's name.
pub const SECTION: &str = ".call_sites";

pub(crate) fn read(code: &Code<'_>) -> Result<AddressTable> {
    relative::read(code, SECTION, Shape { least: 5, holes: false })
}
