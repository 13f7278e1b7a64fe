//! Where an image was found in memory.

use super::read::Place;

/// Where an image lies in memory, and how far it slid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The KASLR offset: run-time addresses less linked ones, wrapping. What `KERNELOFFSET` and `/proc/kallsyms` show.
    pub slide: u64,
    /// The physical address of the first byte of `.text`, where physical memory was searched.
    pub physical: Option<u64>,
    /// How it was found, a sentence each.
    pub how: Vec<String>,
    pub(super) place: Place,
}

impl Location {
    /// Whether the memory is the image's `.text` and nothing else.
    pub fn is_text(&self) -> bool {
        self.place == Place::Text
    }
}
