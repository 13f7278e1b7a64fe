//! What kinds of memory there are.

use std::fmt;

/// What kind of memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// An ELF core.
    ElfCore,
    /// A kdump-compressed dump.
    Kdump,
    /// LiME's format.
    Lime,
    /// AVML's compressed format.
    Avml,
    /// What `xl dump-core` writes.
    Xen,
    /// VMware's memory, and its state.
    Vmware,
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
            MemoryKind::Kdump => "kdump",
            MemoryKind::Lime => "lime",
            MemoryKind::Avml => "avml",
            MemoryKind::Xen => "xen-core",
            MemoryKind::Vmware => "vmware",
            MemoryKind::Plain => "plain",
            MemoryKind::Live => "live",
            MemoryKind::Reader => "reader",
        })
    }
}
