//! ELF cores: QEMU's `dump-guest-memory`, `virsh dump --memory-only --format elf`, kdump's `/proc/vmcore`, `/proc/kcore`.
//!
//! | made by | `p_paddr` | `p_vaddr` |
//! |---|---|---|
//! | QEMU, `paging=false` | where the memory is | 0 |
//! | QEMU, `paging=true` | where the memory is | where a CPU sees it; the same memory often |
//! | kdump | where the memory is | the kernel's direct mapping, and its text's |
//! | `/proc/kcore` | where the memory is, or -1 or 0 | where the kernel sees it |
//! | perf's copy of it (`kcore_dir`) | 0 | where the kernel sees it |
//! | VirtualBox | where the memory is | 0 |

use std::sync::Arc;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader32, FileHeader64, ProgramHeader32, ProgramHeader64};
use object::pod;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use super::dump::{Content, Dump, Opened};
use super::notes::{self, Notes};
use crate::error::{Error, Result};
use crate::memory::frames::Frames;
use crate::memory::kind::MemoryKind;
use crate::memory::space::{Extent, Space};
use crate::memory::store::Store;

/// More program headers than any dump has: a page of a 4 GiB guest each.
const MAX_HEADERS: u64 = 1 << 20;
/// How many program headers are read at a time.
const BATCH: usize = 4096;
/// A section header that says how many program headers there are, where 16 bits do not suffice (`PN_XNUM`).
const PN_XNUM: u16 = 0xffff;

/// What an ELF core has.
#[derive(Debug, Default)]
pub(in crate::memory) struct Core {
    pub physical: Space,
    pub virtual_: Space,
    pub notes: Notes,
}

/// Takes every ELF file: what is no core of an x86 machine is refused.
pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    if !dump.begins_with(b"\x7fELF") {
        return Ok(None);
    }
    let Core { physical, virtual_, notes } = parse(&dump.store)?;
    let content = Content::File(Arc::clone(&dump.store));
    Ok(Some(Opened {
        kind: MemoryKind::ElfCore,
        content,
        physical,
        virtual_,
        notes,
        remarks: Vec::new(),
        frames: Frames::default(),
    }))
}

/// Parses the headers and notes of a core; every segment must lie in the file.
pub(in crate::memory) fn parse(store: &Store) -> Result<Core> {
    let mut ident = [0; 20];
    if store.read(0, &mut ident)? < ident.len() {
        return Err(header("is truncated: it ends in its ELF header"));
    }
    let [.., class, data] = [ident[4], ident[5]];
    let (kind, machine) = (u16::from_le_bytes([ident[16], ident[17]]), u16::from_le_bytes([ident[18], ident[19]]));
    if data != 1 {
        return Err(header("is a big-endian ELF file, which no dump of an x86 machine is"));
    }
    if elf::FileType(kind) != elf::ET_CORE {
        let what = match elf::FileType(kind) {
            elf::ET_REL => " (an object file, as a module)",
            elf::ET_EXEC => " (a program, as an image of a kernel)",
            elf::ET_DYN => " (a program or library)",
            _ => "",
        };
        return Err(header(&format!("is an ELF file of type {kind}{what}, not a core (4), which a dump is")));
    }
    if !matches!(elf::Machine(machine), elf::EM_386 | elf::EM_X86_64) {
        return Err(header(&format!("is a core of machine {machine}, not of an x86 machine")));
    }
    match class {
        1 => parse_class::<FileHeader32<LE>, ProgramHeader32<LE>>(store),
        2 => parse_class::<FileHeader64<LE>, ProgramHeader64<LE>>(store),
        class => Err(header(&format!("ELF class {class} is neither 1 nor 2"))),
    }
}

fn header(reason: &str) -> Error {
    Error::memory(reason).in_section("ELF header")
}

fn parse_class<H, P>(store: &Store) -> Result<Core>
where
    H: FileHeader<Endian = LE, ProgramHeader = P>,
    P: ProgramHeader<Endian = LE>,
{
    let bytes = store.read_exactly(0, size_of::<H>(), "its ELF header")?;
    let Ok((head, _)) = pod::from_bytes::<H>(&bytes) else { return Err(header("cannot be read")) };
    let (offset, entry): (u64, usize) = (head.e_phoff(LE).into(), usize::from(head.e_phentsize(LE)));
    let count = match head.e_phnum(LE) {
        PN_XNUM => extended_count::<H>(store, head)?,
        count => u64::from(count),
    };
    if count > MAX_HEADERS || entry != size_of::<P>() {
        return Err(header(&format!("{count} program headers of {entry} bytes")));
    }
    let mut core = Core::default();
    let (mut physical, mut virtual_) = (Vec::new(), Vec::new());
    let mut index = 0;
    while index < count {
        let batch = BATCH.min((count - index) as usize);
        let at = offset.saturating_add(index * entry as u64);
        let bytes = store.read_exactly(at, batch * entry, "its table of program headers")?;
        for chunk in bytes.chunks_exact(entry) {
            let Ok((program, _)) = pod::from_bytes::<P>(chunk) else { continue };
            segment(store, program, index, (&mut physical, &mut virtual_), &mut core.notes)?;
            index += 1;
        }
    }
    // perf copies what it needs of `/proc/kcore` and writes 0 for every physical address (`kcore__add_phdr()`).
    if !virtual_.is_empty() && physical.iter().all(|extent| extent.address == 0) && physical.len() <= virtual_.len() {
        physical.clear();
    }
    core.physical = Space::new(physical);
    core.virtual_ = Space::new(virtual_);
    if core.physical.size() == 0 && core.virtual_.size() == 0 {
        return Err(header("has no memory in it"));
    }
    Ok(core)
}

fn extended_count<H: FileHeader<Endian = LE>>(store: &Store, head: &H) -> Result<u64> {
    let bytes = store.read_exactly(head.e_shoff(LE).into(), size_of::<H::SectionHeader>(), "its section header")?;
    let Ok((section, _)) = pod::from_bytes::<H::SectionHeader>(&bytes) else { return Err(header("cannot be read")) };
    Ok(section.sh_info(LE).into())
}

fn segment<P: ProgramHeader<Endian = LE>>(
    store: &Store,
    program: &P,
    index: u64,
    (physical, virtual_): (&mut Vec<Extent>, &mut Vec<Extent>),
    found: &mut Notes,
) -> Result<()> {
    let (offset, size): (u64, u64) = (program.p_offset(LE).into(), program.p_filesz(LE).into());
    let kind = program.p_type(LE);
    if !matches!(kind, elf::PT_LOAD | elf::PT_NOTE) || size == 0 {
        return Ok(());
    }
    let name = format!("segment {index}");
    if offset.checked_add(size).is_none_or(|end| end > store.len()) {
        let reason = format!("is truncated: {size} bytes at {offset:#x} leave the file of {} bytes", store.len());
        return Err(Error::memory(reason).in_section(&name).at_offset(offset));
    }
    if kind == elf::PT_NOTE {
        return notes::read(store, offset, size, found).map_err(|error| error.in_section(&name));
    }
    // What the file has less than memory is not there: a filter left it out (`makedumpfile`).
    let (at, seen): (u64, u64) = (program.p_paddr(LE).into(), program.p_vaddr(LE).into());
    let leaves = |address: u64| address.checked_add(size - 1).is_none();
    if at != u64::MAX && !leaves(at) {
        physical.push(Extent { address: at, size, offset });
    }
    if seen != 0 && !leaves(seen) {
        virtual_.push(Extent { address: seen, size, offset });
    }
    Ok(())
}
