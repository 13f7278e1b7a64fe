//! What `xl dump-core` writes: an ELF core without program headers. Its section `.xen_pages` has the guest's pages, and
//! another says which they are: `.xen_pfn` of a guest with hardware's help, a page number for each; `.xen_p2m` of a
//! paravirtual one, two, the guest's own and the machine's (Xen's `docs/misc/dump-core-format.txt`).
//!
//! Physical addresses are those of the guest. A paravirtual guest's page tables hold the machine's, which `.xen_p2m` tells.

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, SectionHeader64};
use object::pod;

use super::dump::{Dump, Opened};
use crate::error::{Error, Result};
use crate::memory::frames::Frames;
use crate::memory::kind::MemoryKind;
use crate::memory::space::{Extent, Space};
use crate::memory::store::Store;
use crate::numbers::u64_at;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// How many rows are read at a time.
const BATCH: u64 = 1 << 16;
/// How many stretches of pages there may be: `xl dump-core` lists pages in order.
const MAX_STRETCHES: usize = 1 << 20;
/// No page of the guest: the row is empty (`XC_CORE_INVALID_PFN`).
const INVALID: u64 = u64::MAX;

/// A section of the file.
#[derive(Debug, Clone, Copy)]
struct Section {
    offset: u64,
    size: u64,
    index: usize,
}

/// Takes cores that have `.xen_pages`.
pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    let store = &dump.store;
    let mut bytes = [0; size_of::<FileHeader64<LE>>()];
    if !dump.begins_with(b"\x7fELF\x02\x01") || store.read(0, &mut bytes)? < bytes.len() {
        return Ok(None);
    }
    let Ok((header, _)) = pod::from_bytes::<FileHeader64<LE>>(&bytes) else { return Ok(None) };
    if header.e_type.get(LE) != elf::ET_CORE || header.e_phnum.get(LE) != 0 || header.e_shnum.get(LE) == 0 {
        return Ok(None);
    }
    let entry = size_of::<SectionHeader64<LE>>();
    let count = usize::from(header.e_shnum.get(LE));
    if usize::from(header.e_shentsize.get(LE)) != entry {
        return Ok(None);
    }
    let table = store.read_exactly(header.e_shoff.get(LE), count * entry, "its table of sections")?;
    let sections: Vec<&SectionHeader64<LE>> =
        table.chunks_exact(entry).filter_map(|row| Some(pod::from_bytes::<SectionHeader64<LE>>(row).ok()?.0)).collect();
    let Some(names) = sections.get(usize::from(header.e_shstrndx.get(LE).0)) else { return Ok(None) };
    let name_at =
        |section: &SectionHeader64<LE>| names.sh_offset.get(LE).saturating_add(section.sh_name.get(LE).into());
    let find = |wanted: &[u8]| -> Result<Option<Section>> {
        for (index, section) in sections.iter().enumerate() {
            let mut name = [0; 16];
            let len = store.read(name_at(section), &mut name)?;
            if name[..len].split(|&byte| byte == 0).next() == Some(wanted) {
                let (offset, size) = (section.sh_offset.get(LE), section.sh_size.get(LE));
                return Section { offset, size, index }.in_file(store).map(Some);
            }
        }
        Ok(None)
    };
    let Some(pages) = find(b".xen_pages")? else { return Ok(None) };
    let (rows, width) = match (find(b".xen_pfn")?, find(b".xen_p2m")?) {
        (Some(rows), _) => (rows, 8),
        (None, Some(rows)) => (rows, 16),
        (None, None) => {
            return Err(Error::memory("does not say which pages .xen_pages has: no .xen_pfn, no .xen_p2m"));
        }
    };
    let (physical, frames) = space(store, pages, rows, width)?;
    Ok(Some(Opened { frames, ..Opened::in_file(MemoryKind::Xen, dump, physical) }))
}

impl Section {
    fn in_file(self, store: &Store) -> Result<Section> {
        let Section { offset, size, index } = self;
        if offset.checked_add(size).is_none_or(|end| end > store.len()) {
            let reason = format!("is truncated: {size} bytes at {offset:#x} leave the file of {} bytes", store.len());
            return Err(Error::memory(reason).in_section(&format!("section {index}")).at_offset(offset));
        }
        Ok(self)
    }
}

/// Which page of the guest each page of the file is, and which frame of the machine.
fn space(store: &Store, pages: Section, rows: Section, width: u64) -> Result<(Space, Frames)> {
    let count = rows.size / width;
    if count > pages.size / PAGE {
        let reason = format!("{count} pages are named, and {} are there", pages.size / PAGE);
        return Err(Error::memory(reason).in_section(&format!("section {}", rows.index)));
    }
    let (mut extents, mut frames): (Vec<Extent>, Frames) = Default::default();
    let mut row = 0;
    while row < count {
        let batch = BATCH.min(count - row);
        let bytes = store.read_exactly(rows.offset + row * width, (batch * width) as usize, "its list of pages")?;
        for found in bytes.chunks_exact(width as usize) {
            let number = u64_at(found, 0).unwrap_or(INVALID);
            let offset = pages.offset + row * PAGE;
            row += 1;
            let Some(address) = number.checked_mul(PAGE).filter(|address| address.checked_add(PAGE).is_some()) else {
                continue;
            };
            if let Some(machine) = u64_at(found, 8) {
                frames.push(number, machine);
            }
            if extents.len() > MAX_STRETCHES {
                let reason = format!("its pages are in no order: they are more than {MAX_STRETCHES} stretches");
                return Err(Error::memory(reason).in_section(&format!("section {}", rows.index)));
            }
            match extents.last_mut() {
                Some(last) if last.address + last.size == address && last.offset + last.size == offset => {
                    last.size += PAGE;
                }
                _ => extents.push(Extent { address, size: PAGE, offset }),
            }
        }
    }
    Ok((Space::new(extents), frames.sorted()))
}
