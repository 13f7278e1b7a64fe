//! The image as a kernel that slid has it: every field that holds an address moved, and the headers with it.

use object::LittleEndian as LE;
use object::elf::{self, FileHeader32, FileHeader64};
use object::pod::{from_bytes_mut, slice_from_bytes_mut};

use super::elf::header_error;
use super::opened::Image;
use super::section::{LOWEST_KERNEL, Segment};
use crate::error::{Error, Result};
use crate::insn::Bits;

impl Image {
    /// The same image, moved by `slide` bytes as KASLR moves it before anything else runs (6.1
    /// arch/x86/boot/compressed/misc.c: handle_relocations()). What is linked at an offset, as per-CPU data is, stays.
    /// A slide is a number modulo 2^64: i386's kernels run where their loader put them, which may be below where they
    /// were linked (CONFIG_RELOCATABLE, arch/x86/boot/compressed/head_32.S: 3.10 takes any aligned place, 3.16 none below).
    ///
    /// # Errors
    /// The image does not say where its addresses stand, or `slide` takes it out of the address space.
    pub fn moved(&self, slide: u64) -> Result<Image> {
        let moved = || {
            let Some(relocations) = self.relocations()? else {
                return Err(Error::image("does not say where its addresses stand: it cannot be moved"));
            };
            let loaded = || self.sections().iter().filter(|section| section.address >= LOWEST_KERNEL);
            let highest = loaded().map(|section| section.end()).max().unwrap_or(0);
            let lowest = loaded().map(|section| section.address).min().unwrap_or(highest);
            let top = if self.bits() == Bits::B32 { u64::from(u32::MAX) } else { u64::MAX };
            let moved = |address: u64| address.checked_add_signed(slide as i64).filter(|&to| to <= top);
            if moved(highest).is_none() || moved(lowest).is_none_or(|to| to < LOWEST_KERNEL) {
                return Err(Error::image(format!("moved by {slide:#x} it leaves the address space")));
            }
            // What follows the ELF file lists the fields where they were linked.
            let end = self.bytes().len() - self.trailer().len();
            let mut bytes = self.bytes()[..end].to_vec();
            for field in relocations.all() {
                let at = self.offset_of(field.address).and_then(|at| usize::try_from(at).ok());
                let place = at.and_then(|at| bytes.get_mut(at..at.checked_add(field.kind.width())?));
                let Some(place) = place else {
                    return Err(Error::image("a relocated field has no bytes").at_address(field.address));
                };
                field.kind.apply(place, slide);
            }
            match self.bits() {
                Bits::B64 => headers_64(&mut bytes, slide)?,
                Bits::B32 => headers_32(&mut bytes, slide)?,
            }
            Image::from_bytes(self.name(), bytes)
        };
        moved().map_err(|error| error.in_file(self.name()))
    }

    /// Where in the file the byte is that is loaded at an address. Per-CPU data is linked at 0 on x86-64 before 6.15, and
    /// loaded between other data: its relocations name where.
    fn offset_of(&self, address: u64) -> Option<u64> {
        if let Some(section) = self.section_at(address) {
            return section.bits_present.then(|| section.offset + (address - section.address));
        }
        let usual = self.segments().iter().find(|segment| segment.address >= LOWEST_KERNEL)?;
        let physical = address.wrapping_sub(usual.address.wrapping_sub(usual.physical));
        let holds = |s: &&Segment| physical.checked_sub(s.physical).is_some_and(|at| at < s.file_size);
        let segment = self.segments().iter().find(holds)?;
        segment.offset.checked_add(physical - segment.physical)
    }
}

/// A function that moves the addresses of sections, segments and symbols of one ELF class.
macro_rules! headers {
    ($name:ident, $header:ident, $section:ty, $segment:ty, $symbol:ty, $word:ty) => {
        fn $name(bytes: &mut [u8], slide: u64) -> Result<()> {
            let broken = || header_error("headers lie outside the file".to_owned());
            let moved = |address: $word| {
                let kernel = u64::from(address) >= LOWEST_KERNEL;
                if kernel { address.wrapping_add(slide as $word) } else { address }
            };
            let (header, _) = from_bytes_mut::<$header<LE>>(bytes).map_err(|()| broken())?;
            header.e_entry.set(LE, moved(header.e_entry.get(LE)));
            let sections = (u64::from(header.e_shoff.get(LE)), usize::from(header.e_shnum.get(LE)));
            let segments = (u64::from(header.e_phoff.get(LE)), usize::from(header.e_phnum.get(LE)));
            let part = |at: u64| usize::try_from(at).ok();
            let from = part(segments.0).and_then(|at| bytes.get_mut(at..)).ok_or_else(broken)?;
            let (segments, _) = slice_from_bytes_mut::<$segment>(from, segments.1).map_err(|()| broken())?;
            for segment in segments {
                segment.p_vaddr.set(LE, moved(segment.p_vaddr.get(LE)));
            }
            let from = part(sections.0).and_then(|at| bytes.get_mut(at..)).ok_or_else(broken)?;
            let (sections, _) = slice_from_bytes_mut::<$section>(from, sections.1).map_err(|()| broken())?;
            let mut symbols = None;
            for section in sections {
                section.sh_addr.set(LE, moved(section.sh_addr.get(LE)));
                if section.sh_type.get(LE) == elf::SHT_SYMTAB {
                    symbols = Some((section.sh_offset.get(LE), section.sh_size.get(LE)));
                }
            }
            let Some((offset, size)) = symbols else { return Ok(()) };
            let from = part(u64::from(offset)).and_then(|at| bytes.get_mut(at..)).ok_or_else(broken)?;
            let count = part(u64::from(size)).ok_or_else(broken)? / size_of::<$symbol>();
            let (symbols, _) = slice_from_bytes_mut::<$symbol>(from, count).map_err(|()| broken())?;
            for symbol in symbols.iter_mut().filter(|symbol| symbol.st_shndx.get(LE) != elf::SHN_ABS) {
                symbol.st_value.set(LE, moved(symbol.st_value.get(LE)));
            }
            Ok(())
        }
    };
}

headers!(headers_64, FileHeader64, elf::SectionHeader64<LE>, elf::ProgramHeader64<LE>, elf::Sym64<LE>, u64);
headers!(headers_32, FileHeader32, elf::SectionHeader32<LE>, elf::ProgramHeader32<LE>, elf::Sym32<LE>, u32);
