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

/// The formats that begin with what tells them, in the order in which they are asked.
const TOLD: &[Probe] = &[xen_core::probe, elf_core::probe, kdump::probe, lime::probe, avml::probe, vmware::probe];
/// What is asked then.
const OTHERS: &[Probe] = &[foreign::probe, plain::probe];

/// Opens a dump in the first format that takes it.
pub(super) fn open(dump: &Dump) -> Result<Opened> {
    if dump.head().is_empty() {
        return Err(Error::memory("is empty"));
    }
    let unfolded = flattened::unfold(dump)?.map(Dump::new).transpose()?;
    let dump = unfolded.as_ref().unwrap_or(dump);
    for probe in TOLD.iter().chain(OTHERS) {
        if let Some(opened) = probe(dump)? {
            return Ok(opened);
        }
    }
    Err(Error::memory("is in no format that can be read"))
}

/// Whether a stream of this beginning would be opened as plain memory; an error where it is in a format that is not read.
/// A format that begins with what tells it may need more than the beginning: what is wrong with it [`open`] says.
pub(super) fn begins_plainly(start: &Dump) -> Result<bool> {
    if start.head().is_empty() || !matches!(flattened::unfold(start), Ok(None)) {
        return Ok(false);
    }
    if TOLD.iter().any(|probe| !matches!(probe(start), Ok(None))) {
        return Ok(false);
    }
    foreign::probe(start)?;
    Ok(true)
}
