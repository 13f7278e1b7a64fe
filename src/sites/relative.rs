//! Tables of nothing but addresses, one `s32` a row, relative to the row itself:
//!
//! ```c
//! s32 site[];     /* the site is at &site[i] + site[i] */
//! ```
//!
//! | section | who lays it down | since |
//! |---|---|---|
//! | `.retpoline_sites` | objtool: every call and jump to `__x86_indirect_thunk_*` | 5.16 (134ab5bd1883), and stable |
//! | `.return_sites` | objtool: every jump to `__x86_return_thunk` | 5.19 (d9e9d2300681), and stable |
//! | `.call_sites` | objtool: every direct call | 6.2 (00abd3840812) |
//! | `.ibt_endbr_seal` | objtool: every `endbr` that no indirect branch needs | 5.18 |
//! | `.cfi_sites` | objtool: every `__cfi_` preamble | 6.2 (931ab63664f0) |
//! | `.smp_locks` | `LOCK_PREFIX_HERE` (include/asm/alternative.h): every `lock` prefix | 2.6.18; relative since 2.6.35 |
//! | `runtime_ptr_*`, `runtime_shift_*`, `runtime_mask_*` | arch/x86/include/asm/runtime-const.h | 6.11 (e3c92e81711d) |

use super::code::{Code, Record, relative};
use crate::error::{Error, Result};
use crate::image::Image;

/// A table of addresses. Its rows are in the table's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressTable {
    /// The section's name.
    pub section: String,
    /// One address a row; 0 where a row names none (`.smp_locks` is padded to a page).
    pub sites: Vec<u64>,
}

impl AddressTable {
    /// How many rows name a site.
    pub fn len(&self) -> usize {
        self.sites.iter().filter(|&&site| site != 0).count()
    }

    /// Whether no row names a site.
    pub fn is_empty(&self) -> bool {
        self.sites.iter().all(|&site| site == 0)
    }

    /// Number and address of each row that names a site.
    pub fn rows(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        (0u32..).zip(self.sites.iter().copied()).filter(|&(_, site)| site != 0)
    }
}

/// What a table's rows are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind<'a> {
    /// The section's name.
    pub section: &'a str,
    /// Bytes each site has at least.
    pub least: usize,
    /// A row may be 0: no site.
    pub holes: bool,
}

impl Kind<'_> {
    /// Rows that all name a site.
    pub const fn of(section: &str, least: usize) -> Kind<'_> {
        Kind { section, least, holes: false }
    }
}

/// Calls and jumps to the retpoline thunks.
pub(crate) const RETPOLINES: Kind<'_> = Kind::of(".retpoline_sites", 5);
/// Jumps to the return thunk.
pub(crate) const RETURNS: Kind<'_> = Kind::of(".return_sites", 5);
/// Direct calls.
pub(crate) const CALL_SITES: Kind<'_> = Kind::of(".call_sites", 5);
/// `endbr` instructions that nothing needs.
pub(crate) const IBT: Kind<'_> = Kind::of(".ibt_endbr_seal", 4);
/// Preambles of functions that are called through pointers.
pub(crate) const CFI: Kind<'_> = Kind::of(".cfi_sites", 5);
/// `lock` prefixes; linkers pad the section to a page.
pub(crate) const SMP_LOCKS: Kind<'_> = Kind { section: ".smp_locks", least: 1, holes: true };

/// Reads the section of this name; empty where the image has none.
pub(crate) fn read(code: &Code<'_>, kind: Kind<'_>) -> Result<AddressTable> {
    let image: &Image = code.image();
    let Some(section) = image.section(kind.section) else {
        return Ok(AddressTable { section: kind.section.to_owned(), sites: Vec::new() });
    };
    let placed = |e: Error| e.in_section(&section.name).in_file(image.name());
    let bytes = image.section_bytes(section);
    if !bytes.len().is_multiple_of(4) {
        return Err(placed(Error::table(format!("{} bytes are no whole number of rows of 4", bytes.len()))));
    }
    let word = image.bits().word();
    let mut sites = Vec::with_capacity(bytes.len() / 4);
    for (row, record) in bytes.chunks_exact(4).enumerate() {
        let offset = Record(record).s32(0);
        if offset == 0 && kind.holes {
            sites.push(0);
            continue;
        }
        let site = relative(section.address + 4 * row as u64, offset.into(), word);
        code.holds(site, kind.least).map_err(|e| placed(e.at_row(row)))?;
        sites.push(site);
    }
    Ok(AddressTable { section: section.name.clone(), sites })
}
