//! The states seen: packed, numbered in the order they were found, with whence each was first reached.
//!
//! The numbering is also the queue of a breadth-first search, so a state costs its packed words, four bytes for its
//! parent, and the eight to sixteen bytes of an open-addressed index. An entry of the index holds half the hash beside
//! the number: a miss rarely has to look at the state itself.

/// A packed state of `W` words.
pub(super) type Key<const W: usize> = [u64; W];

/// States by number, and numbers by state.
#[derive(Debug)]
pub(super) struct Visited<const W: usize> {
    keys: Vec<Key<W>>,
    parents: Vec<u32>,
    /// 0: empty; else the number plus one below, and the upper half of the hash above.
    index: Vec<u64>,
}

const LOW: u64 = 0xffff_ffff;

#[inline]
fn hash<const W: usize>(key: &Key<W>) -> u64 {
    // Folded multiplication, as in wyhash: every bit of the key reaches every bit of the result.
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    for word in key {
        let product = u128::from(hash ^ word) * u128::from(0xa076_1d64_78bd_642f_u64);
        hash = (product as u64) ^ (product >> 64) as u64 ^ word.rotate_left(29);
    }
    let product = u128::from(hash) * u128::from(0x8ebc_6af0_9c88_c6e3_u64);
    (product as u64) ^ (product >> 64) as u64
}

impl<const W: usize> Visited<W> {
    pub fn new() -> Visited<W> {
        Visited { keys: Vec::new(), parents: Vec::new(), index: vec![0; 1 << 12] }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn key(&self, number: usize) -> &Key<W> {
        &self.keys[number]
    }

    /// Whence the state was first reached; the first state is its own parent.
    pub fn parent(&self, number: usize) -> usize {
        self.parents[number] as usize
    }

    /// Notes a state; true if it is new.
    pub fn insert(&mut self, key: &Key<W>, parent: usize) -> bool {
        let Ok((slot, tag)) = self.slot(key) else { return false };
        self.keys.push(*key);
        self.parents.push(parent as u32);
        self.index[slot] = tag | self.keys.len() as u64;
        if self.keys.len() * 4 > self.index.len() * 3 {
            self.grow();
        }
        true
    }

    /// The number of the state, or the empty slot where it belongs and what of its hash stands there.
    #[inline]
    fn slot(&self, key: &Key<W>) -> Result<(usize, u64), usize> {
        let hash = hash(key);
        let mask = self.index.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let entry = self.index[slot];
            if entry == 0 {
                return Ok((slot, hash & !LOW));
            }
            if (entry ^ hash) & !LOW == 0 {
                let number = (entry & LOW) as usize - 1;
                if self.keys[number] == *key {
                    return Err(number);
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.index.len() * 2 - 1;
        self.index = vec![0; mask + 1];
        for (number, key) in self.keys.iter().enumerate() {
            let hash = hash(key);
            let mut slot = hash as usize & mask;
            while self.index[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.index[slot] = (hash & !LOW) | (number as u64 + 1);
        }
    }
}
