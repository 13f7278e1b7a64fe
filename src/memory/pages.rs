//! Memory that is packed in its file: unpacked as it is asked for, and no more of it kept than a small cache has.

use std::sync::{Arc, Mutex};

use crate::error::Result;

/// A packed dump's memory.
pub(super) trait Pages: Send + Sync {
    /// Fills the buffer from an offset, as extents count them; `false` where not all of it is there, and then nothing is
    /// said of what the buffer holds.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<bool>;

    /// The first offset from this one on at which there may be memory.
    fn next(&self, offset: u64) -> u64 {
        offset
    }
}

/// The blocks that were unpacked last, by number.
pub(super) struct Cache {
    /// The latest first.
    blocks: Mutex<Vec<(u64, Arc<[u8]>)>>,
    most: usize,
}

impl Cache {
    /// A cache of at most this many blocks.
    pub fn new(most: usize) -> Cache {
        Cache { blocks: Mutex::default(), most }
    }

    /// A block, unpacked now where the cache does not have it. `None` where it is not there.
    pub fn get(&self, number: u64, unpack: impl FnOnce() -> Result<Option<Vec<u8>>>) -> Result<Option<Arc<[u8]>>> {
        if let Ok(mut blocks) = self.blocks.lock()
            && let Some(at) = blocks.iter().position(|(known, _)| *known == number)
        {
            blocks[..=at].rotate_right(1);
            return Ok(Some(Arc::clone(&blocks[0].1)));
        }
        let Some(block) = unpack()? else { return Ok(None) };
        let block: Arc<[u8]> = block.into();
        if let Ok(mut blocks) = self.blocks.lock() {
            blocks.truncate(self.most.saturating_sub(1));
            blocks.insert(0, (number, Arc::clone(&block)));
        }
        Ok(Some(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_unpacked_once_while_it_is_among_the_last() {
        let cache = Cache::new(2);
        let mut unpacked = Vec::new();
        for number in [1, 2, 1, 3, 1, 2] {
            let block = cache.get(number, || {
                unpacked.push(number);
                Ok(Some(vec![number as u8]))
            });
            assert_eq!(&*block.unwrap().unwrap(), [number as u8]);
        }
        assert_eq!(unpacked, [1, 2, 3, 2]);
    }
}
