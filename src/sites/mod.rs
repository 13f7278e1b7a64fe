//! The section tables: which addresses the kernel may rewrite. The only room that knows record layouts.

#[doc(hidden)]
pub mod exercise;
pub mod listing;
pub mod paravirt;

pub use paravirt::{ParavirtTable, Site};
