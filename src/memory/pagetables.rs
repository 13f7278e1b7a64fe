//! Page tables: where a CPU, or the kernel itself, says that virtual memory lies.

use std::collections::HashSet;

use super::formats::notes::ControlRegisters;
use super::location::Location;
use super::read::{Memory, Place};
use super::search::Search;
use crate::error::Result;
use crate::image::{Bits, Image};

/// `NR_CPUS` of the largest configuration.
const MAX_CPUS: usize = 8192;
/// A page-table entry: present, and a large page.
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Where the physical address is in an entry of 8 bytes.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bytes of the smallest page.
pub(super) const PAGE: u64 = 4096;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_FRED: u64 = 1 << 32;

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
}

impl Root {
    /// Where it lies, and how many levels it has.
    pub fn top(&self) -> (u64, usize) {
        (self.address, self.shape.shifts.len())
    }
}

/// The top page tables there are, each once: those of the CPUs; where there are none, or they are asked for, the kernel's own, which lies
/// in its image.
pub(super) fn roots(memory: &Memory, image: &Image, delta: u64, own: bool) -> Result<Vec<Root>> {
    let mut roots = Vec::new();
    for (cpu, registers) in memory.notes.cpus.iter().enumerate().take(MAX_CPUS) {
        let root = of_cpu(registers, cpu, image.bits());
        let (address, shape) = (root.address | 0x1000, root.shape);
        roots.push(root);
        if registers.cr3 & ADDRESS & 0x1000 != 0 && image.bits() == Bits::B64 {
            roots.push(Root { address, shape, name: format!("the page tables of CPU {cpu}") });
        }
    }
    if roots.is_empty() || own {
        let (names, shapes) = match image.bits() {
            Bits::B64 => (["init_top_pgt", "init_level4_pgt"], [FOUR, FIVE]),
            Bits::B32 => (["swapper_pg_dir", "initial_page_table"], [PAE, OLD]),
        };
        let symbols = image.symbols()?;
        let found = names.iter().find_map(|name| Some((name, symbols?.address_of(name)?)));
        if let Some((name, address)) = found {
            let address = address.wrapping_add(delta);
            roots.extend(shapes.map(|shape| Root { address, shape, name: format!("the page tables at {name}") }));
        }
    }
    let mut seen = HashSet::new();
    roots.retain(|root| seen.insert(root.top()));
    Ok(roots)
}

/// The kernel's page tables of a CPU.
fn of_cpu(registers: &ControlRegisters, cpu: usize, bits: Bits) -> Root {
    let shape = match bits {
        Bits::B64 if registers.cr4 & CR4_LA57 != 0 => FIVE,
        Bits::B64 => FOUR,
        Bits::B32 if registers.cr4 & CR4_PAE != 0 => PAE,
        Bits::B32 => OLD,
    };
    // With page-table isolation a CPU in user mode has the page behind the kernel's (`PTI_USER_PGTABLE_BIT`).
    let address = match bits {
        Bits::B64 => registers.cr3 & ADDRESS & !0x1000,
        Bits::B32 => registers.cr3 & 0xffff_ffe0,
    };
    Root { address, shape, name: format!("the page tables of CPU {cpu}") }
}

/// Where the table of interrupts of a CPU is, by its register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterruptTable {
    /// The CPU's number in the dump.
    pub cpu: usize,
    /// What the register has, an address at run time.
    pub base: u64,
    /// Which address of the image, as linked, lies there by the CPU's page tables; `None` where none is mapped.
    pub lies: Option<u64>,
}

/// The tables of interrupts of the CPUs whose page tables are this kernel's, where the dump has these registers, which it has
/// not where they are 0: not of those that use none (FRED).
///
/// # Errors
/// Memory that cannot be read.
pub fn interrupt_tables(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<InterruptTable>> {
    let Place::Physical(delta) = found.place else { return Ok(Vec::new()) };
    let text = image.section(".text").map_or(0, |section| section.address);
    let mut tables = Vec::new();
    for (cpu, registers) in memory.notes.cpus.iter().enumerate().take(MAX_CPUS) {
        let Some(base) = registers.idt.filter(|&base| base != 0 && registers.cr4 & CR4_FRED == 0) else { continue };
        let root = of_cpu(registers, cpu, image.bits());
        let run = text.wrapping_add(found.slide) & image.bits().max_address();
        if translate(memory, &root, run)? == Some(text.wrapping_add(delta)) {
            let lies = translate(memory, &root, base)?.map(|physical| physical.wrapping_sub(delta));
            tables.push(InterruptTable { cpu, base, lies });
        }
    }
    Ok(tables)
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
