//! Kernel modules: an object file, laid out and relocated as the kernel would (`kernel/module/main.c`:
//! `layout_sections()`, `apply_relocations()`), but at addresses of our own.
//!
//! | what | x86-64 | i386 |
//! |---|---|---|
//! | the module's sections, in file order | from `0xffffffffc0000000` | from `0xf8000000` |
//! | symbols of the kernel's, 4 KiB each, section `.kernel` | from `0xffffffffd0000000` | from `0xfa000000` |
//!
//! The result is an ELF file like a kernel's, so that everything that reads an image reads a module. Bounds of tables that
//! a kernel's linker script names (`__start___jump_table`) are named here, and the thunks of the kernel's stand in the
//! array that they stand in there. What the kernel holds is not known from a module; what its `pv_ops` does is taken from
//! [`StandIn`], where the caller says so.

mod layout;
mod link;
mod placed;
mod relocate;
mod writer;

pub use layout::{KERNEL, StandIn};
pub(super) use link::{Target, is_object, link};
pub use placed::{Blocks, Placement};
pub use relocate::Fields;
pub(super) use relocate::Kept;
