//! Pages of an image that page tables map to another place than where the image lies: what runs is not what lies there then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use super::location::Location;
use super::pagetables::{self, Entry, Root};
use super::read::{Memory, Place};
use crate::error::Result;
use crate::image::Image;

/// So many pages that lie elsewhere are kept: more than any kernel has of text and constants, in all that CPUs map.
const KEPT: usize = 1 << 20;

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
/// not read by physical addresses. Page tables that map none of them to where it lies are not this kernel's, but a guest's,
/// say, unless they are in the image; what a process runs with, where page tables are isolated, is its if the other half is.
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
    let mut walk = Walk { memory, offset: delta.wrapping_sub(found.slide), known: HashMap::new(), kept: 0 };
    let mut listed = HashSet::new();
    let mut roots = pagetables::roots(memory, image, delta, true)?;
    // The kernel's halves first.
    roots.sort_by_key(Root::is_half);
    let mut own = HashSet::new();
    let whole: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start).div_ceil(pagetables::PAGE)).sum();
    for root in roots {
        let mut tables = Vec::new();
        for range in ranges {
            let (start, end) = (range.start.wrapping_add(found.slide), range.end.wrapping_add(found.slide));
            // Addresses of the kernel lie in one half of virtual memory.
            if start < end && start >> root.bits() == (end - 1) >> root.bits() {
                tables.push(walk.table(&root, 0, root.top().0, start..end)?);
            }
        }
        let pages: u64 = tables.iter().map(|table| table.pages).sum();
        let right = pages - tables.iter().map(|table| table.away).sum::<u64>();
        // Those in the image that are read in another shape than they have map next to nothing.
        if right > 0 || root.is_own() && 2 * pages >= whole.max(1) || own.contains(&root.kernels()) {
            own.insert(root.top());
            most = most.max(pages);
            tables.iter().for_each(|table| table.list(&mut listed, &mut all));
        }
    }
    let stray = |(address, lies): (u64, u64)| Remapped {
        address: address.wrapping_sub(found.slide),
        expected: address.wrapping_add(walk.offset),
        found: lies,
    };
    Ok((most, all.into_iter().map(stray).collect()))
}

/// What a table maps of a range, and those below it.
#[derive(Default)]
struct Table {
    /// How many pages.
    pages: u64,
    /// How many of them lie elsewhere.
    away: u64,
    /// Those that it maps itself: where at run time, and where they lie.
    own: Vec<(u64, u64)>,
    below: Vec<Rc<Table>>,
}

impl Table {
    /// Lists what lies elsewhere, but for what was listed.
    fn list(self: &Rc<Table>, listed: &mut HashSet<*const Table>, all: &mut BTreeMap<u64, u64>) {
        if self.away > 0 && listed.insert(Rc::as_ptr(self)) {
            all.extend(self.own.iter().copied());
            self.below.iter().for_each(|table| table.list(listed, all));
        }
    }
}

/// Walks page tables, each of them once for a range: those of CPUs share what they have of the kernel.
struct Walk<'a> {
    memory: &'a Memory,
    /// Physical addresses less run-time ones.
    offset: u64,
    known: HashMap<(u64, u32, usize, u64, u64), Rc<Table>>,
    kept: usize,
}

impl Walk<'_> {
    /// What a table of a level maps of a range of addresses that is its own.
    fn table(&mut self, root: &Root, level: usize, at: u64, range: Range<u64>) -> Result<Rc<Table>> {
        let Some(&shift) = root.shifts().get(level) else { return Ok(Rc::default()) };
        let key = (at, shift, root.width(), range.start, range.end);
        if let Some(known) = self.known.get(&key) {
            return Ok(Rc::clone(known));
        }
        let mut table = Table::default();
        let (first, last) = (range.start >> shift, (range.end - 1) >> shift);
        let above = level.checked_sub(1).map_or(root.bits(), |above| root.shifts()[above]);
        let index = first & ((1 << (above - shift)) - 1);
        let mut entries = vec![0; (last - first + 1) as usize * root.width()];
        let there = self.memory.read_physical(at.wrapping_add(index * root.width() as u64), &mut entries)?;
        let entries = if there { entries.as_slice() } else { &[] };
        for (number, entry) in (first..=last).zip(entries.chunks_exact(root.width())) {
            let start = range.start.max(number << shift);
            let end = range.end.min(((number << shift) | ((1 << shift) - 1)).saturating_add(1));
            match root.entry(self.memory, level, entry) {
                Entry::Absent => {}
                Entry::Page(page) => {
                    let pages = (end - start).div_ceil(pagetables::PAGE);
                    table.pages += pages;
                    let found = page | start & ((1 << shift) - 1);
                    if found != start.wrapping_add(self.offset) {
                        table.away += pages;
                        if self.kept < KEPT {
                            self.kept += 1;
                            table.own.push((start, found));
                        }
                    }
                }
                Entry::Table(next) => {
                    let below = self.table(root, level + 1, next, start..end)?;
                    table.pages += below.pages;
                    table.away += below.away;
                    table.below.push(below);
                }
            }
        }
        let table = Rc::new(table);
        self.known.insert(key, Rc::clone(&table));
        Ok(table)
    }
}
