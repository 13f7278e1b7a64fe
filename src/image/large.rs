//! Bytes by the megabyte, in huge pages where there are some: what a copy of a kernel's code costs is page faults.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use super::source;

/// Bytes that grow; small ones are a vector.
#[derive(Debug)]
pub struct LargeBytes {
    held: Held,
    len: usize,
}

#[derive(Debug)]
enum Held {
    /// All of it is in use.
    Small(Vec<u8>),
    Mapped(MmapMut),
}

impl LargeBytes {
    /// From here on memory is mapped for them alone: a huge page.
    const LARGE: usize = 2 << 20;

    /// None yet, with room for this many.
    pub fn with_capacity(capacity: usize) -> LargeBytes {
        // Where nothing can be mapped, a vector says so.
        let mapped = (capacity >= LargeBytes::LARGE).then(|| source::map(capacity).ok()).flatten();
        let held = mapped.map_or_else(|| Held::Small(Vec::with_capacity(capacity)), Held::Mapped);
        LargeBytes { held, len: 0 }
    }

    /// Adds bytes behind them.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        let len = self.len.saturating_add(more.len());
        if let Held::Mapped(map) = &mut self.held {
            if let Some(room) = map.get_mut(self.len..len) {
                room.copy_from_slice(more);
            } else {
                let mut grown = LargeBytes::with_capacity(len.saturating_mul(2));
                grown.extend_from_slice(self);
                grown.extend_from_slice(more);
                *self = grown;
            }
        } else if let Held::Small(vector) = &mut self.held {
            vector.extend_from_slice(more);
        }
        self.len = len;
    }
}

impl Deref for LargeBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.held {
            Held::Small(vector) => vector,
            Held::Mapped(map) => &map[..self.len],
        }
    }
}

impl DerefMut for LargeBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.held {
            Held::Small(vector) => vector,
            Held::Mapped(map) => &mut map[..self.len],
        }
    }
}

impl Clone for LargeBytes {
    fn clone(&self) -> LargeBytes {
        let mut copy = LargeBytes::with_capacity(self.len);
        copy.extend_from_slice(self);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_as_they_grow() {
        for capacity in [0, 10, LargeBytes::LARGE] {
            let mut bytes = LargeBytes::with_capacity(capacity);
            assert!(bytes.is_empty());
            for i in 0..100u8 {
                bytes.extend_from_slice(&[i; 50_000]);
            }
            bytes[1] = 7;
            let copy = bytes.clone();
            assert_eq!((copy.len(), copy[0], copy[1]), (5_000_000, 0, 7));
            assert!(copy.iter().enumerate().skip(2).all(|(i, &b)| usize::from(b) == i / 50_000));
        }
    }
}
