//! Container and address space of a kernel image.
