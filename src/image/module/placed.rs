//! Where the kernel's loader puts a module's sections (`kernel/module/main.c`: `setup_load_info()`, `layout_sections()`,
//! the same in `kernel/module.c` of 5.10).
//!
//! Four kinds of sections follow each other, each in file order: code, constants, what is constant after init, data. Up to
//! 6.3 they are in one block, each kind from a new page on; since 6.4 each has a block of its own.

use std::collections::HashMap;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader, SectionTable};

use super::layout::{MAX_ALIGN, MAX_SIZE, Put};
use crate::error::{Error, Result};
use crate::image::elf::header_error;
use crate::insn::Bits;

const PAGE: u64 = 4096;
/// What the kernel marks as constant after init (`SHF_RO_AFTER_INIT` of the loader); 7.2 has the last, 6.12 has not.
const RO_AFTER_INIT: [&str; 3] = [".data..ro_after_init", "__jump_table", ".static_call_sites"];
/// What holds the `struct module`, whose address is known.
const THIS_MODULE: &str = ".gnu.linkonce.this_module";
/// Sections that the loader reads in the file only.
const NOT_LOADED: [&str; 4] = [".modinfo", "__versions", "__version_ext_crcs", "__version_ext_names"];
/// Where sections are that are gone once a module is up; no module is there.
const GONE: [(Bits, u64); 2] = [(Bits::B64, 0xffff_ffff_e000_0000), (Bits::B32, 0xfc00_0000)];

/// Where a module's memory begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// One block (up to 6.3).
    Together(u64),
    /// One for each kind of section (since 6.4).
    Apart {
        /// Code.
        text: u64,
        /// Constants.
        rodata: u64,
        /// What is constant once the module is up.
        ro_after_init: u64,
        /// Data.
        data: u64,
    },
}

/// A module's place in the memory of a kernel, and what it finds there.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'p> {
    /// Where its memory begins, at run time.
    pub blocks: Blocks,
    /// Where its `struct module` is, at run time: one of its sections, so that tells whether the rule is the right one.
    pub this_module: u64,
    /// Offset of its per-CPU data.
    pub percpu: u64,
    /// How far the kernel slid.
    pub slide: u64,
    /// What others export to it: by name, as linked.
    pub symbols: &'p HashMap<Vec<u8>, u64>,
    /// Where others lie, as linked: (start, size) of the kernel and of modules; they do not overlap.
    pub others: &'p [(u64, u64)],
}

/// Where each section is; `None` where it is not in memory. And how many bytes of code there are, without what was freed.
/// The rule is the one by which the `struct module` is where it is.
pub(super) fn sections<H: FileHeader<Endian = LE>>(
    bytes: &[u8],
    table: &SectionTable<'_, H>,
    bits: Bits,
    place: &Placement<'_>,
) -> Result<(Vec<Option<Put>>, u64)> {
    let Some((this_module, _)) = table.section_by_name(LE, THIS_MODULE.as_bytes()) else {
        return Err(header_error(format!("has no section {THIS_MODULE}")));
    };
    let wanted = place.this_module.wrapping_sub(place.slide) & bits.max_address();
    for known in [RO_AFTER_INIT.len() - 1, RO_AFTER_INIT.len()] {
        let (put, code) = by_rule(bytes, table, bits, place, &RO_AFTER_INIT[..known])?;
        if put.get(this_module.0).copied().flatten().is_some_and(|put| put.address == wanted) {
            return Ok((put, code));
        }
    }
    let reason = "its sections are laid out by no known rule, or it is another build than the one in memory";
    Err(Error::memory(reason).in_section(THIS_MODULE).at_address(wanted))
}

fn by_rule<H: FileHeader<Endian = LE>>(
    bytes: &[u8],
    table: &SectionTable<'_, H>,
    bits: Bits,
    place: &Placement<'_>,
    ro_after_init: &[&str],
) -> Result<(Vec<Option<Put>>, u64)> {
    let refuse = |reason: String| header_error(reason);
    let mut put = vec![None; table.len()];
    let mut kinds: [Vec<(usize, u64, u64)>; 5] = Default::default();
    for (index, section) in table.iter().enumerate() {
        let name = table.section_name(LE, section).map_err(|error| refuse(error.to_string()))?;
        let name = std::str::from_utf8(name).unwrap_or_default();
        let flags: u64 = section.sh_flags(LE).0;
        let align = Into::<u64>::into(section.sh_addralign(LE)).max(1);
        let size: u64 = section.sh_size(LE).into();
        if flags & elf::SHF_ALLOC.0 == 0 || NOT_LOADED.contains(&name) {
            continue;
        }
        if align > MAX_ALIGN || !align.is_power_of_two() {
            return Err(refuse(format!("a section is aligned to {align:#x}")).in_section(name));
        }
        if section.sh_type(LE) != elf::SHT_NOBITS && section.data(LE, bytes).is_err() {
            return Err(refuse("leaves the file".to_owned()).in_section(name));
        }
        if name == ".data..percpu" {
            put[index] = Some(Put { address: place.percpu, moves: false, gone: false });
            continue;
        }
        let kind = if name.starts_with(".init") {
            4
        } else if flags & elf::SHF_EXECINSTR.0 != 0 {
            0
        } else if flags & elf::SHF_WRITE.0 == 0 {
            1
        } else if ro_after_init.contains(&name) {
            2
        } else {
            3
        };
        kinds[kind].push((index, size, align));
    }
    let gone = GONE.iter().find(|(of, _)| *of == bits).map_or(0, |&(_, address)| address);
    let starts = match place.blocks {
        Blocks::Together(base) => [Some(base), None, None, None, Some(gone)],
        Blocks::Apart { text, rodata, ro_after_init: constant, data } => {
            [Some(text), Some(rodata), Some(constant), Some(data), Some(gone)]
        }
    };
    let mut code = 0;
    let mut next = 0u64;
    for (kind, (sections, start)) in kinds.iter().zip(starts).enumerate() {
        let base = start.unwrap_or(0);
        // Sections are aligned within their block, which begins at a page.
        let mut offset = if start.is_some() { 0 } else { next };
        for &(index, size, align) in sections {
            let at = offset.next_multiple_of(align);
            let block = if start.is_some() { base } else { starts[0].unwrap_or(0) };
            let runs = block.wrapping_add(at);
            let address = if kind == 4 { runs } else { runs.wrapping_sub(place.slide) & bits.max_address() };
            put[index] = Some(Put { address, moves: true, gone: kind == 4 });
            offset = at
                .checked_add(size)
                .filter(|&end| end <= MAX_SIZE)
                .ok_or_else(|| refuse("is too large for a module".to_owned()))?;
        }
        if kind == 0 {
            code = offset.next_multiple_of(PAGE);
        }
        next = if kind < 3 { offset.next_multiple_of(PAGE) } else { offset };
    }
    Ok((put, code))
}
