//! No headers at all: physical memory from 0 on, as QEMU's `pmemsave` and LiME's `padded` write it, or an image's `.text`
//! and nothing else, which only its length tells (`find`).

use super::dump::{Dump, Opened};
use crate::error::Result;
use crate::memory::kind::MemoryKind;
use crate::memory::space::{Extent, Space};

/// Takes everything.
pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    let whole = Space::new(vec![Extent { address: 0, size: dump.store.len(), offset: 0 }]);
    Ok(Some(Opened::in_file(MemoryKind::Plain, dump, whole)))
}
