//! Memory of a running kernel: a dump, a live kernel, or anything that reads virtual addresses.
//!
//! ```text
//! dump ─ Memory ─ find(image) → Found ─ read(range) → Held: bytes as if the kernel had not slid
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | ELF core | QEMU's `dump-guest-memory`, `virsh dump --memory-only --format elf`, kdump, `/proc/kcore` |
//! | LiME | ranges of physical memory, each headed |
//! | exactly as long as the image's `.text` | that text, at its linked address |
//! | anything else | physical memory from 0 on, as QEMU's `pmemsave` writes it |
//!
//! Nothing is read that is not needed: headers, a few places to find the kernel by, then what is asked for. Only where the
//! kernel is not found at any place it can lie is the whole memory gone through, for what is there instead.
//!
//! This room uses [`crate::image`], and knows nothing of sites and plans.

mod elf_core;
#[doc(hidden)]
pub mod exercise;
mod find;
mod held;
mod identify;
mod lime;
mod live;
mod mapped;
mod marks;
mod modules;
mod notes;
mod pagetables;
mod refusal;
mod slide;
mod space;
mod store;

use std::fmt;
use std::ops::Range;
use std::path::Path;

pub use find::Found;
pub use held::Held;
pub use live::{KCORE, running_kernel};
pub use mapped::Mapped;
pub use modules::{LoadedModule, modules};
pub use notes::{ControlRegisters, Notes, VmCoreInfo};
pub use space::{Extent, Space};

use crate::error::{Error, Result};
use crate::image::Image;
use store::Store;

/// How much is read at a time where much is read.
const CHUNK: usize = 1 << 20;
/// The smallest piece of memory that can be absent.
const PAGE: u64 = 4096;

/// Reads virtual memory: what drgn's `prog.read` and volatility3's `layer.read` do.
pub trait Reader: Send + Sync {
    /// Fills the buffer from a virtual address; `false` where not all of it is there. An error ends all reading.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool>;

    /// What it said when something was not there, if it said anything.
    fn complaint(&self) -> Option<String> {
        None
    }
}

/// Told how far a long search is: bytes done, and how many there are. An error ends the search.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

/// What kind of memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// An ELF core.
    ElfCore,
    /// LiME's format.
    Lime,
    /// No headers: physical memory from 0 on, or an image's `.text` alone.
    Plain,
    /// The kernel this runs on.
    Live,
    /// Something that reads virtual addresses.
    Reader,
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryKind::ElfCore => "elf-core",
            MemoryKind::Lime => "lime",
            MemoryKind::Plain => "plain",
            MemoryKind::Live => "live",
            MemoryKind::Reader => "reader",
        })
    }
}

enum Source {
    Store(Store),
    Reader(Box<dyn Reader>),
}

/// Opened memory.
pub struct Memory {
    name: String,
    kind: MemoryKind,
    source: Source,
    physical: Space,
    virtual_: Space,
    notes: Notes,
}

/// Where in memory the image lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
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
        let name = path.display().to_string();
        Store::open(path).and_then(|store| Memory::new(&name, store)).map_err(|error| error.in_file(&name))
    }

    /// Opens a dump that is in memory; `name` is for messages.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Memory> {
        Memory::new(name, Store::Bytes(bytes)).map_err(|error| error.in_file(name))
    }

    /// Memory that something else reads; `name` is for messages.
    pub fn from_reader(name: &str, reader: Box<dyn Reader>) -> Memory {
        Memory {
            name: name.to_owned(),
            kind: MemoryKind::Reader,
            source: Source::Reader(reader),
            physical: Space::default(),
            virtual_: Space::default(),
            notes: Notes::default(),
        }
    }

    /// Opens the memory of a running kernel: [`KCORE`], which takes root, or a file of its form.
    pub fn live(path: &Path) -> Result<Memory> {
        live::open(path).map_err(|error| error.in_file(&path.display().to_string()))
    }

    fn new(name: &str, store: Store) -> Result<Memory> {
        let mut head = [0; 16];
        let len = store.read(0, &mut head)?;
        let head = &head[..len];
        let (kind, physical, virtual_, notes) = if head.starts_with(b"\x7fELF") {
            let core = elf_core::parse(&store)?;
            (MemoryKind::ElfCore, core.physical, core.virtual_, core.notes)
        } else if head.starts_with(&lime::MAGIC) {
            (MemoryKind::Lime, lime::parse(&store)?, Space::default(), Notes::default())
        } else if head.is_empty() {
            return Err(Error::memory("is empty"));
        } else if let Some(refusal) = refusal::explain(head) {
            return Err(refusal);
        } else {
            let whole = Space::new(vec![Extent { address: 0, size: store.len(), offset: 0 }]);
            (MemoryKind::Plain, whole, Space::default(), Notes::default())
        };
        Ok(Memory { name: name.to_owned(), kind, source: Source::Store(store), physical, virtual_, notes })
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

    /// Finds where an image lies in this memory, and how far it slid. `progress` is told where that takes long.
    ///
    /// The error says what is there instead: another kernel, another build of the same release, noise, nothing.
    pub fn find(&self, image: &Image, progress: Progress<'_>) -> Result<Found> {
        find::find(self, image, progress).map_err(|error| error.in_file(&self.name))
    }

    /// Fills the buffer with what memory holds at a linked address, as it stands there; returns the linked addresses that
    /// are not there, whose bytes are left as they were.
    fn fill(&self, place: Place, text: u64, address: u64, buffer: &mut [u8]) -> Result<Vec<Range<u64>>> {
        let (delta, space) = match place {
            Place::Text => (text.wrapping_neg(), &self.physical),
            Place::Physical(delta) => (delta, &self.physical),
            Place::Virtual(delta) => (delta, &self.virtual_),
        };
        let mut unread = Vec::new();
        let at = address.wrapping_add(delta);
        match &self.source {
            Source::Store(store) if self.kind != MemoryKind::Live => {
                let end = at.saturating_add(buffer.len() as u64);
                let mut next = at;
                for extent in space.within(at..end) {
                    push(&mut unread, next.wrapping_sub(delta), extent.address - next);
                    let from = (extent.address - at) as usize;
                    let part = &mut buffer[from..][..extent.size as usize];
                    let n = store.read(extent.offset, part)? as u64;
                    push(&mut unread, (extent.address + n).wrapping_sub(delta), extent.size - n);
                    next = extent.address + extent.size;
                }
                push(&mut unread, next.wrapping_sub(delta), end - next);
            }
            source => {
                let read = |at: u64, part: &mut [u8]| match source {
                    Source::Reader(reader) => reader.read(at, part),
                    Source::Store(store) => Ok(live::read(store, space, at, part)),
                };
                let mut done = 0;
                while done < buffer.len() {
                    let part = &mut buffer[done..];
                    let n = part.len().min(CHUNK);
                    let from = at.wrapping_add(done as u64);
                    if !read(from, &mut part[..n])? {
                        pages(from, &mut part[..n], &read, &mut |gap: u64, size: u64| {
                            push(&mut unread, gap.wrapping_sub(delta), size);
                        })?;
                    }
                    done += n;
                }
            }
        }
        Ok(unread)
    }

    /// Fills the buffer from physical memory; whether all of it is there.
    fn read_physical(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        Ok(self.fill(Place::Physical(0), 0, address, buffer)?.is_empty())
    }
}

/// Reads page by page what could not be read in one go.
fn pages(
    address: u64,
    buffer: &mut [u8],
    read: &dyn Fn(u64, &mut [u8]) -> Result<bool>,
    missing: &mut dyn FnMut(u64, u64),
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
fn push(gaps: &mut Vec<Range<u64>>, start: u64, size: u64) {
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
