//! LiME's own format: before each range of physical memory a header of 32 bytes (`lime.h`): "EMiL", version 1, first and
//! last address, 8 bytes of nothing.

use super::dump::{Dump, Opened};
use crate::error::{Error, Result};
use crate::memory::kind::MemoryKind;
use crate::memory::space::{Extent, Space};
use crate::memory::store::Store;
use crate::numbers::u64_at;

/// What each header begins with.
const MAGIC: [u8; 4] = *b"EMiL";
const HEADER: u64 = 32;
/// More ranges than any machine's firmware lists.
const MAX_RANGES: usize = 1 << 16;

pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    if !dump.begins_with(&MAGIC) {
        return Ok(None);
    }
    Ok(Some(Opened::in_file(MemoryKind::Lime, dump, parse(&dump.store)?)))
}

/// Parses the headers; every range must lie in the file.
fn parse(store: &Store) -> Result<Space> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < store.len() {
        let place = |error: Error| error.in_section(&format!("range {}", extents.len())).at_offset(at);
        let header = store.read_exactly(at, HEADER as usize, "a range's header").map_err(place)?;
        let word = |at: usize| u64_at(&header, at).unwrap_or(0);
        let version = word(0) >> 32;
        if !header.starts_with(&MAGIC) {
            return Err(place(Error::memory("does not begin with LiME's magic")));
        }
        if version != 1 {
            return Err(place(Error::memory(format!("is LiME's format of version {version}, only 1 can be read"))));
        }
        let (address, last) = (word(8), word(16));
        let size = last.checked_sub(address).and_then(|size| size.checked_add(1));
        let Some(size) = size else {
            return Err(place(Error::memory(format!("ends at {last:#x}, before it begins"))).at_address(address));
        };
        let offset = at + HEADER;
        let Some(end) = offset.checked_add(size).filter(|&end| end <= store.len()) else {
            let reason = format!("is truncated: {size} bytes leave the file of {} bytes", store.len());
            return Err(place(Error::memory(reason).at_address(address)));
        };
        if extents.len() >= MAX_RANGES {
            return Err(place(Error::memory("are too many ranges")));
        }
        extents.push(Extent { address, size, offset });
        at = end;
    }
    Ok(Space::new(extents))
}
