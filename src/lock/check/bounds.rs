//! How much can be checked.

use crate::error::{Error, Result};

/// The most threads.
pub const MAX_THREADS: usize = 6;
/// The most acquisitions of a bounded search.
pub const MAX_ACQUISITIONS: u8 = 7;

/// Refuses numbers of threads and acquisitions that make no sense.
pub(super) fn limits(threads: usize, acquisitions: Option<u8>) -> Result<()> {
    if !(1..=MAX_THREADS).contains(&threads) {
        return Err(Error::lock(format!("{threads} threads cannot be checked: 1 to {MAX_THREADS} can")));
    }
    if let Some(n) = acquisitions
        && !(1..=MAX_ACQUISITIONS).contains(&n)
    {
        return Err(Error::lock(format!(
            "{n} acquisitions a thread cannot be checked: 1 to {MAX_ACQUISITIONS} can, or any number of them"
        )));
    }
    Ok(())
}
