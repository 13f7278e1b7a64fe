//! Container and address space of a kernel image.
//!
//! ```text
//! file ─ source ─ container (carrier, bzimage, unpack) ─ elf ─ Image
//! ```

pub(crate) mod banner;
pub mod btf;
mod bzimage;
mod carried;
mod carrier;
mod code_addresses;
mod container;
mod elf;
#[doc(hidden)]
pub mod exercise;
mod ikconfig;
pub mod kallsyms;
mod large;
mod module;
mod moved;
mod opened;
mod refusal;
mod relocation;
mod relocations;
mod section;
mod source;
mod symtab;
pub(crate) mod text;
mod unpack;

pub(crate) use code_addresses::code_addresses;
pub use container::{Container, ContainerKind};
pub use large::LargeBytes;
pub use module::{Blocks, Fields, KERNEL, Placement, StandIn};
pub use opened::{Image, LoadedImage};
pub use relocation::{Relocation, RelocationKind, Relocations};
pub(crate) use section::LOWEST_KERNEL;
pub use section::{Section, Segment};
pub use source::{Given, MAX_IMAGE};
pub use symtab::{ElfSymbol, ElfSymbols};
pub use unpack::Compression;

pub use crate::insn::Bits;
