//! The paravirtual ticket lock.

pub mod check;
