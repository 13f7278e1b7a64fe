//! Pages of an image that page tables map to another place than where the image lies: what runs is not what lies there then.

use std::collections::BTreeMap;
use std::ops::Range;

use super::location::Location;
use super::pagetables::{self, Root};
use super::read::{Memory, Place};
use crate::error::Result;
use crate::image::Image;

/// So many page tables are walked: those of CPUs share what they have of the kernel.
const MAX_ROOTS: usize = 64;

/// A page that lies elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remapped {
    /// Its address, as linked.
    pub address: u64,
    /// Where it belongs in physical memory.
    pub expected: u64,
    /// Where it is mapped to.
    pub found: u64,
}

/// How many pages of these ranges page tables map, and which of them not to where the image lies. Nothing, where memory is
/// not read by physical addresses. Page tables that map most of them elsewhere are not this kernel's: a hypervisor's, say.
///
/// # Errors
/// Memory that cannot be read.
pub fn remapped(
    memory: &Memory,
    found: &Location,
    image: &Image,
    ranges: &[Range<u64>],
) -> Result<(u64, Vec<Remapped>)> {
    let Place::Physical(delta) = found.place else { return Ok((0, Vec::new())) };
    let (mut most, mut all) = (0, BTreeMap::new());
    let mut walked = Vec::new();
    for root in pagetables::roots(memory, image, delta, true)? {
        if walked.len() >= MAX_ROOTS || walked.contains(&root.top()) {
            continue;
        }
        walked.push(root.top());
        let (mut pages, mut strays) = (0, Vec::new());
        for range in ranges {
            walk(memory, &root, range, delta, found.slide, &mut pages, &mut strays)?;
        }
        if pages > 0 && strays.len() as u64 * 2 < pages {
            most = most.max(pages);
            all.extend(strays.into_iter().map(|stray| (stray.address, stray)));
        }
    }
    Ok((most, all.into_values().collect()))
}

fn walk(
    memory: &Memory,
    root: &Root,
    range: &Range<u64>,
    delta: u64,
    slide: u64,
    pages: &mut u64,
    strays: &mut Vec<Remapped>,
) -> Result<()> {
    let mut address = range.start;
    while address < range.end {
        let mapped = pagetables::mapped(memory, root, address.wrapping_add(slide))?;
        let size = mapped.map_or(pagetables::PAGE, |(_, shift)| 1 << shift);
        // Large pages end where they end at run time.
        let left = size - (address.wrapping_add(slide) & (size - 1));
        if let Some((found, _)) = mapped {
            *pages += left.min(range.end - address).div_ceil(pagetables::PAGE);
            let expected = address.wrapping_add(delta);
            if found != expected {
                strays.push(Remapped { address, expected, found });
            }
        }
        let Some(next) = address.checked_add(left) else { break };
        address = next;
    }
    Ok(())
}
