//! Memory of a running kernel: a dump, a live kernel, or anything that reads virtual addresses.
//!
//! ```text
//! dump ─ Memory ─ find(image) → Location ─ read(range) → LinkedBytes: bytes as if the kernel had not slid
//! ```
//!
//! What a dump is, `formats` tells: one file a format, each asked in turn.
//!
//! Nothing is read that is not needed: headers, a few places to find the kernel by, then what is asked for. Only where the
//! kernel is not found at any place it can lie is the whole memory gone through, for what is there instead.
//!
//! This room uses [`crate::image`], and knows nothing of sites and plans.

#[doc(hidden)]
pub mod exercise;
mod find;
mod formats;
mod frames;
mod histogram;
mod identify;
mod kaslr;
mod kind;
mod linked;
mod live;
mod location;
mod mapped;
mod members;
mod module_layout;
mod modules;
mod pages;
mod pagetables;
mod pokes;
mod read;
mod registered;
mod registers;
mod remapped;
mod search;
mod signatures;
mod space;
mod store;
mod unnamed;
mod words;

pub use formats::notes::{ControlRegisters, Notes, VmCoreInfo};
pub use kind::MemoryKind;
pub use linked::LinkedBytes;
pub(crate) use linked::is_read;
pub use live::{KCORE, running_kernel};
pub use location::Location;
pub use mapped::Mapped;
pub(crate) use members::Members;
pub use modules::{LoadedModule, modules};
pub use pokes::{Poke, pokes};
pub use read::{Memory, Progress, Reader};
pub use registered::{Dispatcher, Entry, Registered, Registrar, Tracer, Tracing, registered};
pub use registers::{InterruptTable, SegmentTable, interrupt_tables, segment_tables};
pub use remapped::{Remapped, remapped};
pub use space::{Extent, Space};
pub use words::Words;
