//! `.smp_locks`: `lock` prefixes.
//!
//! ```c
//! u8 *lock[];     /* 2.6.18 to 2.6.34 */
//! s32 lock[];     /* since 2.6.35, as in `relative` */
//! ```
//!
//! Source: `LOCK_PREFIX_HERE` of arch/x86/include/asm/alternative.h. Linkers pad the section to a page with zeros.

use super::code::{Code, Record};
use super::relative::{self, AddressTable, SMP_LOCKS};
use crate::error::Result;

pub(crate) fn read(code: &Code<'_>) -> Result<AddressTable> {
    match relative::read(code, SMP_LOCKS) {
        Ok(table) => Ok(table),
        // Of the two readings an honest table is valid under one only: no address is a distance to another one in code.
        Err(error) => pointers(code).ok_or(error),
    }
}

/// The rows, if every one is a pointer into code.
fn pointers(code: &Code<'_>) -> Option<AddressTable> {
    let image = code.image();
    let word = image.bits().word();
    let bytes = image.section_bytes(image.section(SMP_LOCKS.section)?);
    if !bytes.len().is_multiple_of(word) {
        return None;
    }
    let sites: Vec<u64> = bytes.chunks_exact(word).map(|record| Record(record).pointer(0, word)).collect();
    let valid = sites.iter().all(|&site| site == 0 || code.from(site).is_some());
    valid.then(|| AddressTable { section: SMP_LOCKS.section.to_owned(), sites })
}
