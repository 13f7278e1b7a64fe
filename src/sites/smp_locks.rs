//! `.smp_locks`: `lock` prefixes. See [`super::relative`] for the rows.

use super::code::Code;
use super::relative::{self, AddressTable, Shape};
use crate::error::Result;

/// The section's name.
pub const SECTION: &str = ".smp_locks";

pub(crate) fn read(code: &Code<'_>) -> Result<AddressTable> {
    relative::read(code, SECTION, Shape { least: 1, holes: true })
}
