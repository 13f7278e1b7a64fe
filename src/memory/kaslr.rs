//! How far a kernel slid, by the absolute addresses in it: each relocated field tells, and they must agree.

use std::collections::HashMap;
use std::fmt;

use super::read::Place;
use super::search::Search;
use crate::error::{Error, Result};
use crate::image::Relocation;

/// How many fields of each section vote at most.
const SAMPLE: usize = 2048;
/// Sections whose fields the kernel does not rewrite, or rewrites some of. Data is run-time data.
const ASKED: [&str; 3] = [".rodata", ".text", "__param"];

/// What the fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Votes {
    pub slide: u64,
    pub agree: usize,
    pub read: usize,
}

impl fmt::Display for Votes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slide {:#x}: {} of {} relocated addresses agree", self.slide, self.agree, self.read)
    }
}

/// What the fields at a place say; none where the image does not list any, or none could be read. An error where most do
/// not agree.
pub(super) fn votes(search: &Search<'_>, place: Place) -> Result<Option<Votes>> {
    let Some(relocations) = search.image.relocations()? else { return Ok(None) };
    let mut counts: HashMap<u64, usize> = HashMap::new();
    let mut read = 0;
    for name in ASKED {
        let Some(section) = search.image.section(name) else { continue };
        let fields = relocations.touching(section.address, section.end());
        let step = fields.len().div_ceil(SAMPLE).max(1);
        for field in fields.iter().step_by(step) {
            if let Some(slide) = vote(search, place, field)? {
                *counts.entry(slide).or_default() += 1;
                read += 1;
            }
        }
    }
    let Some((slide, agree)) = counts.into_iter().max_by_key(|&(slide, count)| (count, u64::MAX - slide)) else {
        return Ok(None);
    };
    let votes = Votes { slide, agree, read };
    if 2 * agree <= read {
        return Err(Error::memory(format!("its relocated addresses do not agree on a slide: {votes}")));
    }
    Ok(Some(votes))
}

fn vote(search: &Search<'_>, place: Place, field: &Relocation) -> Result<Option<u64>> {
    let mut buffer = [0; 8];
    let found = &mut buffer[..field.kind.width()];
    if !search.memory.fill(place, search.text.start, field.address, found)?.is_empty() {
        return Ok(None);
    }
    let linked = search.image.read(field.address, field.kind.width());
    Ok(linked.and_then(|linked| field.kind.slide_between(linked, found)))
}
