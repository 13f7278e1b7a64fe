//! `.ibt_endbr_seal`: `endbr` instructions that nothing needs. See [`super::relative`] for the rows.

use super::code::Code;
use super::relative::{self, AddressTable, Shape};
use crate::error::Result;

/// The section's name.
pub const SECTION: &str = ".ibt_endbr_seal";

pub(crate) fn read(code: &Code<'_>) -> Result<AddressTable> {
    relative::read(code, SECTION, Shape { least: 4, holes: false })
}
