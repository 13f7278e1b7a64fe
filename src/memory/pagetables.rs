//! Page tables: where a CPU, or the kernel itself, says that virtual memory lies.

use super::read::Memory;
use super::search::Search;
use crate::error::Result;
use crate::image::{Bits, Image};

/// A page-table entry: present, and a large page.
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Where the physical address is in an entry of 8 bytes.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bytes of the smallest page.
pub(super) const PAGE: u64 = 4096;
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
}

impl Root {
    /// Where it lies, and how many levels it has.
    pub fn top(&self) -> (u64, usize) {
        (self.address, self.shape.shifts.len())
    }
}

/// The top page tables there are: those of the CPUs; where there are none, or they are asked for, the kernel's own, which lies
/// in its image.
pub(super) fn roots(memory: &Memory, image: &Image, delta: u64, own: bool) -> Result<Vec<Root>> {
    let mut roots = Vec::new();
    for (cpu, registers) in memory.notes.cpus.iter().enumerate() {
        let shape = match image.bits() {
            Bits::B64 if registers.cr4 & CR4_LA57 != 0 => FIVE,
            Bits::B64 => FOUR,
            Bits::B32 if registers.cr4 & CR4_PAE != 0 => PAE,
            Bits::B32 => OLD,
        };
        // With page-table isolation a CPU in user mode has the page behind the kernel's (`PTI_USER_PGTABLE_BIT`).
        let address = match image.bits() {
            Bits::B64 => registers.cr3 & ADDRESS & !0x1000,
            Bits::B32 => registers.cr3 & 0xffff_ffe0,
        };
        roots.push(Root { address, shape, name: format!("the page tables of CPU {cpu}") });
        if registers.cr3 & ADDRESS & 0x1000 != 0 && image.bits() == Bits::B64 {
            roots.push(Root { address: address | 0x1000, shape, name: format!("the page tables of CPU {cpu}") });
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
    Ok(roots)
}

/// Where a virtual address lies in physical memory by a top page table.
pub(super) fn translate(memory: &Memory, root: &Root, address: u64) -> Result<Option<u64>> {
    Ok(mapped(memory, root, address)?.map(|(address, _)| address))
}

/// Likewise, and at which bit the page that it lies in begins.
pub(super) fn mapped(memory: &Memory, root: &Root, address: u64) -> Result<Option<(u64, u32)>> {
    let mut table = root.address;
    let mut top = match (root.shape.entry, root.shape.shifts.len()) {
        (8, 5) => 57,
        (8, 4) => 48,
        _ => 32,
    };
    for &shift in root.shape.shifts {
        let index = address >> shift & ((1 << (top - shift)) - 1);
        top = shift;
        let mut bytes = [0; 8];
        let at = table.wrapping_add(index * root.shape.entry as u64);
        if !memory.read_physical(at, &mut bytes[..root.shape.entry])? {
            return Ok(None);
        }
        let entry = u64::from_le_bytes(bytes);
        if entry & PRESENT == 0 {
            return Ok(None);
        }
        let low = (1u64 << shift) - 1;
        // Bit 7 of the last level, and of PAE's first, means something else.
        if shift == 12 || shift <= 30 && entry & LARGE != 0 && !(root.shape.shifts.len() == 3 && shift == 30) {
            let page = memory.frames.guest(entry & ADDRESS & !low);
            return Ok(page.map(|page| (page | address & low, shift)));
        }
        let Some(next) = memory.frames.guest(entry & ADDRESS) else { return Ok(None) };
        table = next;
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
