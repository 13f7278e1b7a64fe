//! The ELF file: sections and segments, every range checked once, here, so that nobody has to check it again.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use super::section::{Section, Segment};
use super::symtab::SymbolTable;
use super::text;
use crate::error::{Error, Result};
use crate::insn::Bits;

/// Longest name of a section. Real ones have some 20 bytes; the bound keeps a string table that is one endless string from
/// being copied for every section.
const MAX_NAME: usize = 255;

/// What an ELF file says about itself.
#[derive(Debug)]
pub(super) struct Elf {
    pub bits: Bits,
    /// In file order, without the null section.
    pub sections: Vec<Section>,
    /// The allocated, not empty ones of `sections` by address.
    pub by_address: Vec<usize>,
    pub segments: Vec<Segment>,
    pub symbols: Option<SymbolTable>,
    /// Where the ELF file ends: behind its last section or table.
    pub end: u64,
}

/// Parses and checks the headers. Bytes of sections are not touched, so a mapped file stays on disk.
pub(super) fn parse(bytes: &[u8]) -> Result<Elf> {
    match identify(bytes, false)? {
        Bits::B32 => parse_class::<elf::FileHeader32<LE>>(bytes, Bits::B32),
        Bits::B64 => parse_class::<elf::FileHeader64<LE>>(bytes, Bits::B64),
    }
}

/// Refuses what is no x86 kernel; or, where `objects` are welcome, no module either.
pub(super) fn identify(bytes: &[u8], objects: bool) -> Result<Bits> {
    let refuse = |offset: u64, reason: String| Err(header_error(reason).at_offset(offset));
    let Some(header) = bytes.first_chunk::<20>() else {
        return Err(header_error("file ends in its ELF header".to_owned()));
    };
    if header[5] == 2 {
        return refuse(5, "is a big-endian ELF file, only x86 kernels can be opened".to_owned());
    }
    let kind = u16::from_le_bytes([header[16], header[17]]);
    let machine = u16::from_le_bytes([header[18], header[19]]);
    let name = match machine {
        8 => " (MIPS)",
        20 => " (PowerPC)",
        21 => " (PowerPC64)",
        22 => " (s390)",
        40 => " (arm)",
        42 => " (SuperH)",
        183 => " (arm64)",
        243 => " (RISC-V)",
        258 => " (LoongArch)",
        _ => "",
    };
    let bits = match (header[4], elf::Machine(machine)) {
        (1, elf::EM_386) => Bits::B32,
        (2, elf::EM_X86_64) => Bits::B64,
        (class, elf::EM_386 | elf::EM_X86_64) => {
            return refuse(4, format!("ELF class {class} does not fit machine {machine}"));
        }
        _ => return refuse(18, format!("is an ELF file for machine {machine}{name}, only x86 kernels can be opened")),
    };
    match elf::FileType(kind) {
        elf::ET_EXEC | elf::ET_DYN => Ok(bits),
        elf::ET_REL if objects => Ok(bits),
        elf::ET_REL => refuse(16, "is a relocatable object (a .o file or a kernel module), not a kernel".to_owned()),
        elf::ET_CORE => refuse(16, "is a core file (a memory dump), not a kernel".to_owned()),
        _ => refuse(16, format!("is an ELF file of unknown type {kind}")),
    }
}

fn parse_class<H: FileHeader<Endian = LE>>(bytes: &[u8], bits: Bits) -> Result<Elf> {
    let header = H::parse(bytes).map_err(malformed)?;
    let offset: u64 = header.e_shoff(LE).into();
    let size = u64::from(header.e_shnum(LE)) * u64::from(header.e_shentsize(LE));
    if offset.saturating_add(size) > bytes.len() as u64 {
        let length = bytes.len();
        return Err(header_error(format!("section headers at {offset:#x} leave the file of {length} bytes")));
    }
    let headers = header.section_headers(LE, bytes).map_err(malformed)?;
    if headers.is_empty() && header.e_shnum(LE) != 0 {
        return Err(header_error(format!("{} section headers, but no offset of them", header.e_shnum(LE))));
    }
    // Beyond this many, numbers of sections move elsewhere (SHN_LORESERVE). No kernel comes near.
    if headers.len() >= 0xff00 {
        return Err(header_error(format!("{} sections are too many", headers.len())));
    }
    let strings = header.section_strings(LE, bytes, headers).map_err(malformed)?;
    let mut end = u64::from(header.e_ehsize(LE));
    let mut sections = Vec::with_capacity(headers.len().saturating_sub(1));
    for (index, section) in headers.iter().enumerate().skip(1) {
        let at = |error: Error| error.in_section(&format!("section header {index}"));
        let name = strings.get(section.sh_name(LE)).map_err(|()| {
            at(Error::image(format!("name at {:#x} leaves the section name table", section.sh_name(LE))))
        })?;
        if name.len() > MAX_NAME {
            return Err(at(Error::image(format!("name of {} bytes is too long", name.len()))));
        }
        let name = text::of(name).ok_or_else(|| at(Error::image("name is not text")))?;
        let section = check_section(name, section, bytes.len() as u64, bits)?;
        if section.bits_present {
            end = end.max(section.offset.saturating_add(section.size));
        }
        sections.push(section);
    }
    let segments = segments(header, bytes, bits)?;
    for segment in &segments {
        end = end.max(segment.offset.saturating_add(segment.file_size));
    }
    // Both tables lie in the file, or they would not have been read.
    let table_end = |offset: u64, bytes: usize| if bytes == 0 { 0 } else { offset.saturating_add(bytes as u64) };
    end = end.max(table_end(header.e_shoff(LE).into(), size_of_val(headers)));
    let programs = header.program_headers(LE, bytes).map_err(malformed)?;
    end = end.max(table_end(header.e_phoff(LE).into(), size_of_val(programs)));
    let by_address = by_address(&sections)?;
    let symbols = SymbolTable::find::<H>(headers, &sections, bits)?;
    Ok(Elf { bits, sections, by_address, segments, symbols, end })
}

fn check_section<S: SectionHeader<Endian = LE>>(name: &str, header: &S, file_len: u64, bits: Bits) -> Result<Section> {
    let flags = header.sh_flags(LE);
    let has = |flag: elf::SectionFlags| flags.0 & flag.0 != 0;
    let (address, size, offset) = (header.sh_addr(LE).into(), header.sh_size(LE).into(), header.sh_offset(LE).into());
    let bits_present = !matches!(header.sh_type(LE), elf::SHT_NOBITS | elf::SHT_NULL);
    let refuse = |reason: String| Error::image(reason).in_section(name).at_offset(offset);
    if bits_present && offset.checked_add(size).is_none_or(|end| end > file_len) {
        return Err(refuse(format!("{size} bytes leave the file of {file_len} bytes")));
    }
    // The end itself must be an address too, so that `end()` is never a lie.
    if address.checked_add(size).is_none_or(|end| end > bits.max_address()) {
        return Err(refuse(format!("{size} bytes leave the address space")).at_address(address));
    }
    // A program's .tbss is laid out in each thread, and takes none of the addresses that it names.
    let in_threads = has(elf::SHF_TLS) && !bits_present;
    Ok(Section {
        name: name.to_owned(),
        address,
        offset,
        size,
        executable: has(elf::SHF_EXECINSTR),
        writable: has(elf::SHF_WRITE),
        allocated: has(elf::SHF_ALLOC) && !in_threads,
        bits_present,
    })
}

fn segments<H: FileHeader<Endian = LE>>(header: &H, bytes: &[u8], bits: Bits) -> Result<Vec<Segment>> {
    let programs = header.program_headers(LE, bytes).map_err(malformed)?;
    let mut segments = Vec::new();
    for (index, program) in programs.iter().enumerate().filter(|(_, program)| program.p_type(LE) == elf::PT_LOAD) {
        let segment = Segment {
            address: program.p_vaddr(LE).into(),
            physical: program.p_paddr(LE).into(),
            offset: program.p_offset(LE).into(),
            file_size: program.p_filesz(LE).into(),
            memory_size: program.p_memsz(LE).into(),
        };
        let leaves_file = segment.offset.checked_add(segment.file_size).is_none_or(|end| end > bytes.len() as u64);
        let leaves_space = segment.address.checked_add(segment.memory_size).is_none_or(|end| end > bits.max_address());
        if leaves_file || leaves_space || segment.file_size > segment.memory_size {
            let Segment { file_size, memory_size, .. } = segment;
            let reason = if leaves_file {
                format!("{file_size} bytes leave the file of {} bytes", bytes.len())
            } else if leaves_space {
                format!("{memory_size} bytes leave the address space")
            } else {
                format!("{file_size} bytes in the file are more than {memory_size} in memory")
            };
            return Err(Error::image(reason)
                .in_section(&format!("segment {index}"))
                .at_address(segment.address)
                .at_offset(segment.offset));
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// Sorts the sections that have addresses; two may not share one.
fn by_address(sections: &[Section]) -> Result<Vec<usize>> {
    let mut order: Vec<usize> =
        (0..sections.len()).filter(|&i| sections[i].allocated && sections[i].size > 0).collect();
    order.sort_by_key(|&i| sections[i].address);
    for pair in order.windows(2) {
        let (a, b) = (&sections[pair[0]], &sections[pair[1]]);
        if a.end() > b.address {
            let reason = format!("overlaps {} ({:#x}, {} bytes)", b.name, b.address, b.size);
            return Err(Error::image(reason).in_section(&a.name).at_address(a.address).at_offset(a.offset));
        }
    }
    Ok(order)
}

pub(super) fn header_error(reason: String) -> Error {
    Error::image(reason).in_section("ELF header")
}

fn malformed(error: object::read::Error) -> Error {
    header_error(error.to_string())
}
