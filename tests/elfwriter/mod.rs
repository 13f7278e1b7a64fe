//! Writes small ELF files, and packs them as kernels are packed: images for tests are built, not stored.
//!
//! ```ignore
//! let file = ElfWriter::new(Bits::B64)
//!     .section(".text", 0xffff_ffff_8100_0000, flags::TEXT, &[0x90; 64])
//!     .nobits(".bss", 0xffff_ffff_8200_0000, flags::DATA, 4096)
//!     .symbol("_text", 0xffff_ffff_8100_0000, 0, 'T')
//!     .build();
//! let vmlinuz = pack::bzimage(&pack::payload(Compression::Xz, &file));
//! ```
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]

pub mod dump;
mod elf;
pub mod hypervisors;
pub mod pack;
pub mod packed;

pub use elf::{ElfWriter, flags};
