//! Page tables: where a CPU, or the kernel itself, says that virtual memory lies.

use std::collections::HashSet;

use super::formats::notes::ControlRegisters;
use super::read::Memory;
use super::search::Search;
use crate::error::Result;
use crate::image::{Bits, Image};

/// `NR_CPUS` of the largest configuration.
pub(super) const MAX_CPUS: usize = 8192;
/// A page-table entry: present, and a large page.
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Where the physical address is in an entry of 8 bytes.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bytes of the smallest page.
pub(super) const PAGE: u64 = 4096;
/// `PTI_USER_PGTABLE_BIT`: with page-table isolation a process runs with the page behind the kernel's.
const HALF: u64 = 0x1000;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;

/// How a top page table is walked: the width of an entry, and which bit of an address each level begins at.
#[derive(Debug, Clone, Copy)]
struct Shape {
    entry: usize,
    shifts: &'static [u32],
}

const FIVE: Shape = Shape { entry: 8, shifts: &[48, 39, 30, 21, 12] };
const FOUR: Shape = Shape { entry: 8, shifts: &[39, 30, 21, 12] };
const PAE: Shape = Shape { entry: 8, shifts: &[30, 21, 12] };
const OLD: Shape = Shape { entry: 4, shifts: &[22, 12] };

#[derive(Debug)]
pub(super) struct Root {
    address: u64,
    shape: Shape,
    name: String,
    /// Whether it is what a process runs with, behind the kernel's.
    half: bool,
    /// Whether it lies in the kernel's image.
    own: bool,
}

impl Root {
    /// Where it lies, and how many levels it has.
    pub fn top(&self) -> (u64, usize) {
        (self.address, self.shape.shifts.len())
    }

    /// Whether a process runs with it where page tables are isolated.
    pub fn is_half(&self) -> bool {
        self.half
    }

    /// Whether it lies in the kernel's image.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Where the kernel's is, and how many levels it has.
    pub fn kernels(&self) -> (u64, usize) {
        (if self.half { self.address & !HALF } else { self.address }, self.shape.shifts.len())
    }
}

/// The top page tables there are, each once: those of the CPUs; where there are none, or they are asked for, the kernel's own, which lies
/// in its image.
pub(super) fn roots(memory: &Memory, image: &Image, delta: u64, own: bool) -> Result<Vec<Root>> {
    let mut roots = Vec::new();
    for (cpu, registers) in memory.notes.cpus.iter().enumerate().take(MAX_CPUS) {
        roots.extend(of_cpu(registers, cpu, image.bits()));
    }
    if roots.is_empty() || own {
        let (names, shapes) = match image.bits() {
            Bits::B64 => (["init_top_pgt", "init_level4_pgt"], [FOUR, FIVE]),
            Bits::B32 => (["swapper_pg_dir", "initial_page_table"], [PAE, OLD]),
        };
        let symbols = image.symbols()?;
        let found = names.iter().find_map(|name| Some((name, symbols?.address_of(name)?)));
        if let Some((name, linked)) = found {
            let address = linked.wrapping_add(delta);
            let name = format!("the page tables at {name}");
            let of = |shape, address, half| Root { address, shape, name: name.clone(), half, own: true };
            roots.extend(shapes.map(|shape| of(shape, address, false)));
            // Since 4.15 (and in stable releases before) there is room for both (`PTI_USER_PGD_FILL` of head_64.S).
            let next = symbols.and_then(|symbols| symbols.addresses().find(|&next| next > linked));
            if linked.is_multiple_of(2 * HALF) && next.is_none_or(|next| next >= linked + 2 * HALF) {
                roots.extend(shapes.map(|shape| of(shape, address.wrapping_add(HALF), true)));
            }
        }
    }
    let mut seen = HashSet::new();
    roots.retain(|root| seen.insert(root.top()));
    Ok(roots)
}

/// The page tables of a CPU, the kernel's first. With page-table isolation a process runs with the page behind the kernel's;
/// without, the top page may be any.
pub(super) fn of_cpu(registers: &ControlRegisters, cpu: usize, bits: Bits) -> Vec<Root> {
    let shape = match bits {
        Bits::B64 if registers.cr4 & CR4_LA57 != 0 => FIVE,
        Bits::B64 => FOUR,
        Bits::B32 if registers.cr4 & CR4_PAE != 0 => PAE,
        Bits::B32 => OLD,
    };
    let (address, either) = match bits {
        Bits::B64 => (registers.cr3 & ADDRESS & !HALF, registers.cr3 & HALF != 0),
        Bits::B32 => (registers.cr3 & 0xffff_ffe0, false),
    };
    let name = format!("the page tables of CPU {cpu}");
    let of = |address, half| Root { address, shape, name: name.clone(), half, own: false };
    [Some(of(address, false)), either.then(|| of(address | HALF, true))].into_iter().flatten().collect()
}

/// What an entry of a page table says.
pub(super) enum Entry {
    Absent,
    /// Where the page lies that is mapped.
    Page(u64),
    /// Where the next table lies.
    Table(u64),
}

impl Root {
    /// At which bit of an address each level begins, the top one first.
    pub fn shifts(&self) -> &'static [u32] {
        self.shape.shifts
    }

    /// How many bytes an entry has.
    pub fn width(&self) -> usize {
        self.shape.entry
    }

    /// How many bits of an address are translated.
    pub fn bits(&self) -> u32 {
        match (self.shape.entry, self.shape.shifts.len()) {
            (8, 5) => 57,
            (8, 4) => 48,
            _ => 32,
        }
    }

    /// What an entry of a level says.
    pub fn entry(&self, memory: &Memory, level: usize, bytes: &[u8]) -> Entry {
        let entry = bytes.iter().rev().fold(0, |entry: u64, &byte| entry << 8 | u64::from(byte));
        let Some(&shift) = self.shape.shifts.get(level).filter(|_| entry & PRESENT != 0) else { return Entry::Absent };
        // Bit 7 of the last level, and of PAE's first, means something else.
        let page = shift == 12 || shift <= 30 && entry & LARGE != 0 && !(self.shape.shifts.len() == 3 && shift == 30);
        let at = if page { entry & ADDRESS & !((1 << shift) - 1) } else { entry & ADDRESS };
        match memory.frames.guest(at) {
            Some(at) if page => Entry::Page(at),
            Some(at) => Entry::Table(at),
            None => Entry::Absent,
        }
    }
}

/// Where a virtual address lies in physical memory by a top page table.
pub(super) fn translate(memory: &Memory, root: &Root, address: u64) -> Result<Option<u64>> {
    let mut table = root.address;
    let mut top = root.bits();
    for (level, &shift) in root.shifts().iter().enumerate() {
        let index = address >> shift & ((1 << (top - shift)) - 1);
        top = shift;
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..root.width()];
        if !memory.read_physical(table.wrapping_add(index * root.width() as u64), bytes)? {
            return Ok(None);
        }
        match root.entry(memory, level, bytes) {
            Entry::Absent => return Ok(None),
            Entry::Page(page) => return Ok(Some(page | address & ((1 << shift) - 1))),
            Entry::Table(next) => table = next,
        }
    }
    Ok(None)
}

/// Says who maps the image's text, slid, to where it lies; none where no page table that can be read does.
pub(super) fn confirms(search: &Search<'_>, delta: u64, slide: u64) -> Result<Option<String>> {
    let text = search.text.start;
    for root in roots(search.memory, search.image, delta, false)? {
        if translate(search.memory, &root, text.wrapping_add(slide))? == Some(text.wrapping_add(delta)) {
            return Ok(Some(format!("{} map it there", root.name)));
        }
    }
    Ok(None)
}

/// The page tables that map an address of the image, as linked, to where it lies. A CPU may have others: those of Xen, or of
/// a guest's user space.
pub(super) fn root(memory: &Memory, image: &Image, delta: u64, slide: u64, linked: u64) -> Result<Option<Root>> {
    for root in roots(memory, image, delta, true)? {
        if translate(memory, &root, linked.wrapping_add(slide))? == Some(linked.wrapping_add(delta)) {
            return Ok(Some(root));
        }
    }
    Ok(None)
}

/// The slide by which page tables map the image's text to where it lies.
pub(super) fn search(search: &Search<'_>, delta: u64, step: u64, limit: u64) -> Result<Option<u64>> {
    let text = search.text.start;
    for root in roots(search.memory, search.image, delta, false)? {
        for slide in (0..limit).step_by(step as usize) {
            if translate(search.memory, &root, text.wrapping_add(slide))? == Some(text.wrapping_add(delta)) {
                return Ok(Some(slide));
            }
        }
    }
    Ok(None)
}
