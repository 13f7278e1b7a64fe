//! Container and address space of a kernel image.

pub mod btf;
pub mod kallsyms;
