//! Formats of dumps, one file a format. Each has a `probe`, which opens the dump or says "not mine" with `None`; they are
//! asked in the order of [`FORMATS`], and the last takes everything.

mod avml;
mod dump;
mod elf_core;
mod flattened;
mod foreign;
mod kdump;
mod lime;
pub(super) mod notes;
mod plain;
mod vmware;
mod xen_core;

use crate::error::{Error, Result};

pub(super) use dump::{Content, Dump, Opened};
pub(super) use elf_core::parse as parse_core;

/// What a format is: "not mine" is `Ok(None)`.
type Probe = fn(&Dump) -> Result<Option<Opened>>;

/// The formats, in the order in which they are asked.
const FORMATS: &[Probe] = &[
    xen_core::probe,
    elf_core::probe,
    kdump::probe,
    lime::probe,
    avml::probe,
    vmware::probe,
    foreign::probe,
    plain::probe,
];

/// Opens a dump in the first format that takes it.
pub(super) fn open(dump: &Dump) -> Result<Opened> {
    if dump.head().is_empty() {
        return Err(Error::memory("is empty"));
    }
    let unfolded = flattened::unfold(dump)?.map(Dump::new).transpose()?;
    let dump = unfolded.as_ref().unwrap_or(dump);
    for probe in FORMATS {
        if let Some(opened) = probe(dump)? {
            return Ok(opened);
        }
    }
    Err(Error::memory("is in no format that can be read"))
}
