//! Opened memory, read by address.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::formats::notes::Notes;
use super::formats::{self, Content, Dump, Opened};
use super::frames::Frames;
use super::histogram::never_memory;
use super::kind::MemoryKind;
use super::pages::Pages;
use super::space::{Extent, Space};
use super::store::Store;
use crate::error::{Error, Result, shown};
use crate::image::Given;

/// How much is read at a time where much is read.
pub(super) const CHUNK: usize = 1 << 20;
/// At how many virtual addresses a byte is at most, taken over all of a dump.
const MOST_ALIASES: u64 = 8;
/// The smallest piece of memory that can be absent.
pub(super) const PAGE: u64 = 4096;

/// Reads memory by address, virtual or physical: what drgn's `prog.read` and volatility3's `layer.read` do.
pub trait Reader: Send + Sync {
    /// Fills the buffer from an address; `false` where not all of it is there. An error ends all reading.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool>;

    /// What it said when something was not there, if it said anything.
    fn complaint(&self) -> Option<String> {
        None
    }
}

/// Told how far a long search is: bytes done, and how many there are. An error ends the search.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

pub(super) enum Source {
    /// Extents say where in the file the bytes are.
    File(Arc<Store>),
    /// Extents say where the bytes are in what comes out when the file is unpacked.
    Pages(Box<dyn Pages>),
    /// The memory of a running kernel: what is listed may be absent nonetheless.
    Live(Store),
    /// Reads virtual addresses; physical ones where extents say which there are.
    Reader(Box<dyn Reader>),
}

/// Opened memory.
pub struct Memory {
    pub(super) name: String,
    pub(super) kind: MemoryKind,
    pub(super) source: Source,
    pub(super) physical: Space,
    pub(super) virtual_: Space,
    pub(super) notes: Notes,
    /// How it was put together, a sentence each.
    pub(super) remarks: Vec<String>,
    pub(super) frames: Frames,
}

/// Where in memory the image lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The memory is the image's `.text` and nothing else.
    Text,
    /// In physical memory; physical addresses less linked ones, wrapping.
    Physical(u64),
    /// In virtual memory; virtual addresses less linked ones, wrapping.
    Virtual(u64),
}

impl Memory {
    /// Opens a dump. Its headers are read, and checked against the file's length.
    pub fn open(path: &Path) -> Result<Memory> {
        let name = shown(path);
        Dump::at(path).and_then(|dump| Memory::new(&name, &dump)).map_err(|error| error.in_file(&name))
    }

    /// Opens a dump by a path that says nothing to anybody (`/proc/self/fd/0`), by another name.
    pub fn open_as(path: &Path, name: &str) -> Result<Memory> {
        let dump = Store::open(path).and_then(Dump::new);
        dump.and_then(|dump| Memory::new(name, &dump)).map_err(|error| error.in_file(name))
    }

    /// Opens a dump that is in memory, without a copy; `name` is for messages.
    pub fn from_bytes(name: &str, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Memory> {
        let dump = Dump::new(Store::Bytes(Given::new(bytes)));
        dump.and_then(|dump| Memory::new(name, &dump)).map_err(|error| error.in_file(name))
    }

    /// Refuses a stream by its beginning, where that is known for what is not read; `name` is for messages. A beginning of
    /// [`Memory::TELLING`] bytes or more is refused too where no machine's memory begins so.
    pub fn refuse_by_start(name: &str, start: &[u8]) -> Result<()> {
        let dump = Dump::new(Store::Bytes(Given::new(start.to_vec())))?;
        let refused = formats::begins_plainly(&dump).and_then(|plain| {
            let tells = plain && start.len() >= Memory::TELLING;
            tells.then(|| never_memory(start)).flatten().map_or(Ok(()), Err)
        });
        refused.map_err(|error| error.in_file(name))
    }

    /// So many bytes of a machine's memory have code in them, page tables, and pages that nobody has used.
    pub const TELLING: usize = 64 << 20;

    /// Virtual memory that something else reads; `name` is for messages.
    pub fn from_reader(name: &str, reader: Box<dyn Reader>) -> Memory {
        Memory::from_physical_reader(name, reader, &[])
    }

    /// Physical memory that something else reads: `there` has the address and size of each stretch that there is.
    pub fn from_physical_reader(name: &str, reader: Box<dyn Reader>, there: &[(u64, u64)]) -> Memory {
        let extent =
            |&(address, size): &(u64, u64)| Extent { address, size: size.min(u64::MAX - address), offset: address };
        Memory {
            name: name.to_owned(),
            kind: MemoryKind::Reader,
            source: Source::Reader(reader),
            physical: Space::new(there.iter().map(extent).collect()),
            virtual_: Space::default(),
            notes: Notes::default(),
            remarks: Vec::new(),
            frames: Frames::default(),
        }
    }

    fn new(name: &str, dump: &Dump) -> Result<Memory> {
        let Opened { kind, content, physical, virtual_, notes, mut remarks, frames } = formats::open(dump)?;
        let source = match content {
            Content::File(store) => {
                proportionate(&store, &physical, &virtual_)?;
                let holes = store.holes();
                if holes > 0 {
                    remarks.push(format!(
                        "{holes} of {} bytes are holes of a sparse file, which read as zeros",
                        store.len()
                    ));
                }
                Source::File(store)
            }
            Content::Pages(pages) => Source::Pages(pages),
        };
        Ok(Memory { name: name.to_owned(), kind, source, physical, virtual_, notes, remarks, frames })
    }

    /// The file as the user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of memory it is.
    pub fn kind(&self) -> MemoryKind {
        self.kind
    }

    /// Which physical addresses it has; none where only virtual ones can be read.
    pub fn physical(&self) -> &Space {
        &self.physical
    }

    /// What the notes of a core say.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Fills the buffer with what memory holds at a linked address, as it stands there; returns the linked addresses that
    /// are not there, whose bytes are left as they were.
    pub(super) fn fill(&self, place: Place, text: u64, address: u64, buffer: &mut [u8]) -> Result<Vec<Range<u64>>> {
        let (delta, space) = match place {
            Place::Text => (text.wrapping_neg(), &self.physical),
            Place::Physical(delta) => (delta, &self.physical),
            Place::Virtual(delta) => (delta, &self.virtual_),
        };
        let at = address.wrapping_add(delta);
        let mut unread = Vec::new();
        let mut missing = |at: u64, size: u64| push(&mut unread, at.wrapping_sub(delta), size);
        match &self.source {
            Source::File(store) => {
                listed(space, at, buffer, &mut missing, &mut |offset, part, missing| {
                    let n = store.read(offset, part)?;
                    missing(n as u64, (part.len() - n) as u64);
                    Ok(())
                })?;
            }
            Source::Pages(packed) => {
                listed(space, at, buffer, &mut missing, &mut |offset, part, missing| {
                    pages(offset, part, &|offset, part| packed.read(offset, part), &mut |gap, size| {
                        missing(gap - offset, size);
                    })
                })?;
            }
            Source::Live(store) => chunks(at, buffer, &|at, part| Ok(whole(store, space, at, part)), &mut missing)?,
            Source::Reader(reader) if matches!(place, Place::Physical(_)) => {
                listed(space, at, buffer, &mut missing, &mut |offset, part, missing| {
                    chunks(offset, part, &|at, part| reader.read(at, part), &mut |gap, size| {
                        missing(gap - offset, size)
                    })
                })?;
            }
            Source::Reader(reader) => chunks(at, buffer, &|at, part| reader.read(at, part), &mut missing)?,
        }
        Ok(unread)
    }

    /// What memory holds at a linked address, where it is; none where it does not lie in this process, in one piece.
    pub(super) fn lent(&self, place: Place, text: u64, address: u64, len: usize) -> Option<&[u8]> {
        let Source::File(store) = &self.source else { return None };
        let (delta, space) = match place {
            Place::Text => (text.wrapping_neg(), &self.physical),
            Place::Physical(delta) => (delta, &self.physical),
            Place::Virtual(delta) => (delta, &self.virtual_),
        };
        let at = address.wrapping_add(delta);
        let extent = space.within(at..at.checked_add(len as u64)?).next()?;
        let whole = extent.address == at && extent.size == len as u64;
        store.lent(extent.offset, len).filter(|_| whole)
    }

    /// The first address from one of an extent on at which there may be anything but zeros; the extent's end, where nothing
    /// follows in it.
    pub(super) fn written(&self, extent: &Extent, address: u64) -> u64 {
        let offset = extent.offset.saturating_add(address.saturating_sub(extent.address));
        let next = match &self.source {
            Source::File(store) => store.data(offset),
            Source::Pages(pages) => pages.next(offset),
            Source::Live(_) | Source::Reader(_) => offset,
        };
        extent.address.saturating_add(next.saturating_sub(extent.offset).min(extent.size))
    }

    /// Fills the buffer from physical memory; whether all of it is there.
    pub(super) fn read_physical(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        Ok(self.fill(Place::Physical(0), 0, address, buffer)?.is_empty())
    }
}

/// Refuses headers that make much memory of few bytes: no byte is at two physical addresses, and few at many virtual ones.
fn proportionate(store: &Store, physical: &Space, virtual_: &Space) -> Result<()> {
    let virtual_ = if physical.size() == 0 { virtual_.size() } else { 0 };
    if physical.size() > store.len() || virtual_ / MOST_ALIASES > store.len() {
        let size = physical.size().max(virtual_);
        return Err(Error::memory(format!("has {} bytes, of which its headers make {size} of memory", store.len())));
    }
    Ok(())
}

/// Reads the live kernel's virtual memory; whether all of it is there. What cannot be read (`EFAULT`) is not.
fn whole(store: &Store, space: &Space, address: u64, buffer: &mut [u8]) -> bool {
    let end = address.saturating_add(buffer.len() as u64);
    let mut next = address;
    for extent in space.within(address..end) {
        let from = (extent.address - address) as usize;
        let part = &mut buffer[from..][..extent.size as usize];
        if extent.address != next || store.read(extent.offset, part).is_ok_and(|n| n < part.len()) {
            return false;
        }
        next = extent.address + extent.size;
    }
    next == end
}

/// Takes the size of a gap, after where it is.
type Missing<'a> = &'a mut dyn FnMut(u64, u64);
/// Fills a buffer from an offset; gaps count from its start.
type Fill<'a> = &'a mut dyn FnMut(u64, &mut [u8], Missing<'_>) -> Result<()>;

/// Reads from the extents that a range of addresses has.
fn listed(space: &Space, at: u64, buffer: &mut [u8], missing: Missing<'_>, fill: Fill<'_>) -> Result<()> {
    let end = at.saturating_add(buffer.len() as u64);
    let mut next = at;
    for extent in space.within(at..end) {
        missing(next, extent.address - next);
        let from = (extent.address - at) as usize;
        let part = &mut buffer[from..][..extent.size as usize];
        fill(extent.offset, part, &mut |gap, size| missing(extent.address + gap, size))?;
        next = extent.address + extent.size;
    }
    missing(next, end - next);
    Ok(())
}

/// Reads from something that may refuse: in large pieces, and page by page what could not be read in one go.
fn chunks(
    at: u64,
    buffer: &mut [u8],
    read: &dyn Fn(u64, &mut [u8]) -> Result<bool>,
    missing: Missing<'_>,
) -> Result<()> {
    for (i, part) in buffer.chunks_mut(CHUNK).enumerate() {
        let from = at.wrapping_add((i * CHUNK) as u64);
        if !read(from, part)? {
            pages(from, part, read, missing)?;
        }
    }
    Ok(())
}

/// Reads page by page.
fn pages(
    address: u64,
    buffer: &mut [u8],
    read: &dyn Fn(u64, &mut [u8]) -> Result<bool>,
    missing: Missing<'_>,
) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let at = address.wrapping_add(done as u64);
        let n = (buffer.len() - done).min((PAGE - at % PAGE) as usize);
        if !read(at, &mut buffer[done..][..n])? {
            buffer[done..][..n].fill(0);
            missing(at, n as u64);
        }
        done += n;
    }
    Ok(())
}

/// Adds a gap, joined to the one before it where they touch.
pub(super) fn push(gaps: &mut Vec<Range<u64>>, start: u64, size: u64) {
    if size == 0 {
        return;
    }
    let end = start.wrapping_add(size);
    match gaps.last_mut() {
        Some(last) if last.end == start => last.end = end,
        _ => gaps.push(start..end),
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents = self.physical.extents().len();
        f.debug_struct("Memory")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("extents", &extents)
            .finish_non_exhaustive()
    }
}
