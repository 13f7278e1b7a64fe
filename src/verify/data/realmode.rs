//! The code by which CPUs come up and wake: `real_mode_blob`, which the kernel copies below 1 MiB, relocates, and makes
//! read-only up to `ro_end` (`setup_real_mode()`, `set_real_mode_permissions()` of arch/x86/realmode/init.c, since 3.5).
//!
//! ```c
//! struct real_mode_header { u32 text_start, ro_end; … };    /* physical addresses */
//! u32 real_mode_relocs[]; /* how many segments, where they are in the blob; how many addresses, where they are */
//! ```

use super::heard::Heard;
use super::rodata::compare;
use crate::error::Result;
use crate::image::Image;
use crate::memory::{LinkedBytes, Location, Mapped, Memory, Words};
use crate::numbers::{u16_at, u32_at};

/// What the report calls it.
const NAME: &str = "real-mode code";
/// It is no longer than this, and lies below 1 MiB.
const LONGEST: u64 = 1 << 16;
const BELOW: u32 = 1 << 20;
const PAGE: u32 = 4096;
/// Bits of a segment's address that are not in its number.
const PARAGRAPH: u32 = 4;

/// Holds it to the file, once its relocations are applied.
pub(super) fn judge(
    words: &Words<'_>,
    (memory, found, image): (&Memory, &Location, &Image),
    heard: &mut Heard,
) -> Result<()> {
    let Some(symbols) = image.symbols()? else { return Ok(()) };
    let named = |name: &str| symbols.address_of(name);
    let (Some(pointer), Some(blob), Some(end), Some(relocs)) =
        (named("real_mode_header"), named("real_mode_blob"), named("real_mode_blob_end"), named("real_mode_relocs"))
    else {
        return Ok(());
    };
    let (Ok(rodata), Some(size)) = (&mut heard.rodata, end.checked_sub(blob).filter(|&size| size <= LONGEST)) else {
        return Ok(());
    };
    let (Some(built), Some(address)) = (image.read(blob, size as usize), words.pointer(pointer)?) else {
        return Ok(());
    };
    // A guest of Xen's without a machine of its own has none.
    let (Some(fields), 1..) = (Fields::of(image, relocs, size), address) else { return Ok(()) };
    let Some(ends) = u32_at(built, 4).filter(|&ends| u64::from(ends) <= size) else { return Ok(()) };
    let mapped = match Mapped::new(memory, found, image) {
        Ok(mapped) => mapped,
        Err(error) => {
            heard.unheard.push(format!("{NAME}: {}", error.reason));
            return Ok(());
        }
    };
    let mut bytes = vec![0; ends as usize];
    if !mapped.read(address.wrapping_add(found.slide), &mut bytes)? {
        heard.unheard.push(format!("{NAME}: it is not in memory"));
        return Ok(());
    }
    // All that it has as addresses are where it lies.
    let lies = u32_at(&bytes, 0).zip(u32_at(built, 0)).map_or(0, |(is, built)| is.wrapping_sub(built));
    let lies = if lies < BELOW && lies.is_multiple_of(PAGE) { lies } else { 0 };
    let built = fields.relocated(&built[..ends as usize], lies);
    compare(LinkedBytes { address: blob, bytes, unread: Vec::new(), strays: Vec::new() }, &built, rodata);
    rodata.tables.push(NAME.to_owned());
    Ok(())
}

/// Where the blob has segments, and where addresses.
struct Fields {
    segments: Vec<usize>,
    addresses: Vec<usize>,
}

impl Fields {
    fn of(image: &Image, table: u64, size: u64) -> Option<Fields> {
        let mut at = table;
        let mut next = || {
            let word = image.read(at, 4).and_then(|bytes| u32_at(bytes, 0))?;
            at += 4;
            Some(word)
        };
        let mut list = || {
            let count = next().filter(|&count| u64::from(count) <= size)?;
            (0..count).map(|_| next().map(|field| field as usize)).collect::<Option<Vec<usize>>>()
        };
        Some(Fields { segments: list()?, addresses: list()? })
    }

    fn relocated(&self, built: &[u8], lies: u32) -> Vec<u8> {
        let mut bytes = built.to_vec();
        let segment = ((lies >> PARAGRAPH) as u16).to_le_bytes();
        for &at in &self.segments {
            if u16_at(&bytes, at).is_some() {
                bytes[at..at + 2].copy_from_slice(&segment);
            }
        }
        for &at in &self.addresses {
            if let Some(word) = u32_at(&bytes, at) {
                bytes[at..at + 4].copy_from_slice(&word.wrapping_add(lies).to_le_bytes());
            }
        }
        bytes
    }
}
