//! Linux calls the hypervisor through tables of function pointers, and rewrites every call site at boot. This crate
//! is that machinery, run on a kernel image instead of a running kernel:
//!
//! ```text
//! kernel image → sites → plan(backend, machine) → text
//! memory → explanation
//! ```
//!
//! | room | what lives there |
//! |---|---|
//! | [`error`] | the one error: what, where, why |
//! | `numbers` | little-endian numbers in bytes |
//! | [`guard`] | panics that become errors |
//! | [`image`] | container and address space: bzImage, ELF, kallsyms, BTF, banner, config |
//! | [`sites`] | the section tables; the only room that knows record layouts |
//! | [`insn`] | the edge to the x86 decoder: nop tables, call and jump encoders, the bounded insn buffer |
//! | [`plan`] | the kernel's passes, one file a pass: which bytes go where, and why |
//! | [`memory`] | memory dumps, live kernels: the image found in them, and how far it slid |
//! | [`verify`] | text → explanation: what of a running kernel's text its tables account for |
//! | [`patch`] | plan → text, and files that appear whole or not at all |
//! | [`lock`] | the ticket lock, its pv slow path, its history, and what proves it; stands alone |
//! | [`exec`] | memory that holds code made here: written, then executed, never both |
//! | [`measure`] | what the forms of a call site cost on this CPU |
//! | `python` | the PyO3 bindings, behind the feature `python` |
//!
//! `exec` and `measure` are there on Linux on x86-64 only.
//!
//! # From Rust alone
//!
//! `examples/` has programs for it: `sites` opens a kernel and lists its sites, `boot` plans and patches with the ops that
//! the image itself holds, `verify` judges a dump. What a plan or a verdict needs beyond the image (the numbers of
//! features, what each hypervisor puts into the ops, the facts of a machine) is declared in the Python package, era by era,
//! and reaches this crate as numbers and addresses: [`plan::Boot`], [`verify::KernelInfo`]. A Rust program gives them
//! itself, as `examples/boot.rs` does for 2.6.24 to 7.3 natively, and `examples/verify.rs` for the same natively and, from
//! 3.15 on, under KVM. Both want symbols of kernels that have ops; of other hypervisors no example knows.
//!
//! Arrows point one way: `error ← insn ← image ← sites ← plan ← patch`, `image ← memory`, and
//! `{exec, plan} ← measure`. `verify` reads the vocabulary of `sites` and `plan`, and never calls a pass. Nothing in the
//! core knows Python or the name of an op: a template is a flat list, slot by slot.

pub mod error;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod exec;
pub mod guard;
pub mod image;
pub mod insn;
pub mod lock;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod measure;
pub mod memory;
mod numbers;
pub mod patch;
pub mod plan;
#[cfg(feature = "python")]
mod python;
pub mod sites;
pub mod verify;

pub use error::{Error, ErrorKind, Result};
pub use lock::{PvHybridLock, PvTicketLock};
