//! `pvops._core.BlockCounter`: what an emulated CPU executes, counted block by block without a call into Python.

use std::collections::HashMap;
use std::ffi::c_void;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

/// A block: its address and size, as the emulator hands them over.
type Block = (u64, u32);

/// What is known of a block.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// How many instructions it has.
    instructions: u64,
    /// It begins within a site: where a jump enters it, it has to be looked at.
    inside: bool,
    /// How often it was entered since this was last added up.
    entered: u64,
}

/// Mixes the two numbers of a block: what is executed is the user's own, and chooses no collisions.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Debug, Default)]
struct Counts {
    known: HashMap<Block, Known, BuildHasherDefault<Mixer>>,
    last: Block,
    instructions: i64,
    limit: i64,
}

impl Counts {
    fn enter(&mut self, block: Block) {
        if let Some(known) = self.known.get_mut(&block) {
            known.entered += 1;
            self.instructions = self.instructions.saturating_add_unsigned(known.instructions);
            self.last = block;
        }
    }

    /// Enters a block unless it has to be looked at: an unknown one, one in a site that was not gone on to, one too many.
    fn entered(&mut self, block: Block) -> bool {
        let Some(known) = self.known.get(&block) else { return false };
        let follows = self.last.0.wrapping_add(self.last.1.into()) == block.0;
        let fits = self.instructions.saturating_add_unsigned(known.instructions) <= self.limit;
        let plain = fits && (follows || !known.inside);
        if plain {
            self.enter(block);
        }
        plain
    }
}

/// Counts the blocks that an emulator's hook names; those that have to be looked at go to Python.
#[pyclass(frozen, module = "pvops._core")]
pub struct BlockCounter {
    counts: Mutex<Counts>,
    /// Called with address and size of a block that has to be looked at.
    look: Py<PyAny>,
    /// What that raised.
    failed: Mutex<Option<PyErr>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Who panicked while holding it left numbers behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hook, as Unicorn calls it (`uc_cb_hookcode_t`, `UC_HOOK_BLOCK`): engine, address, size, user data.
extern "C" fn entered(_: *mut c_void, address: u64, size: u32, counter: *const BlockCounter) {
    // SAFETY: the user data of the hook is `BlockCounter::data`, of an object that lives as long as the emulator, and that is
    // only shared: all that changes is behind locks.
    let Some(counter) = (unsafe { counter.as_ref() }) else { return };
    if locked(&counter.counts).entered((address, size)) {
        return;
    }
    let looked = Python::attach(|py| counter.look.call1(py, (address, size)).map(drop));
    if let Err(error) = looked {
        locked(&counter.failed).get_or_insert(error);
    }
}

#[pymethods]
impl BlockCounter {
    /// `look` is called with address and size of a block that is not known, that begins in a site and was not gone on to, or
    /// that has more instructions than are left of `limit`.
    #[new]
    fn new(limit: i64, look: Py<PyAny>) -> BlockCounter {
        let counts = Counts { limit, ..Counts::default() };
        BlockCounter { counts: Mutex::new(counts), look, failed: Mutex::new(None) }
    }

    /// The address of the function that is the hook; its user data is `data`.
    #[getter]
    fn hook(&self) -> usize {
        entered as *const () as usize
    }

    /// The address of this object, which has to live as long as the hook does.
    #[getter]
    fn data(slf: &Bound<'_, Self>) -> usize {
        std::ptr::from_ref(slf.get()) as usize
    }

    /// Makes a block known: how many instructions it has, and whether it begins within a site.
    fn know(&self, address: u64, size: u32, instructions: u64, inside: bool) {
        locked(&self.counts).known.entry((address, size)).or_insert(Known { instructions, inside, entered: 0 });
    }

    /// Counts a known block once more.
    fn enter(&self, address: u64, size: u32) {
        locked(&self.counts).enter((address, size));
    }

    /// The block that was entered last: address and size.
    #[getter]
    fn last(&self) -> Block {
        locked(&self.counts).last
    }

    /// Says what of the last block was executed.
    #[setter]
    fn set_last(&self, block: Block) {
        locked(&self.counts).last = block;
    }

    /// The instructions of all blocks that were entered.
    #[getter]
    fn instructions(&self) -> i64 {
        locked(&self.counts).instructions
    }

    /// Says how many of them were executed.
    #[setter]
    fn set_instructions(&self, instructions: i64) {
        locked(&self.counts).instructions = instructions;
    }

    /// (address, size, times) of each block that was entered since this was last asked. `forget` makes all unknown: the code
    /// is about to change. Raises what looking at a block raised.
    #[pyo3(signature = (*, forget = false))]
    fn taken(&self, forget: bool) -> PyResult<Vec<(u64, u32, u64)>> {
        if let Some(error) = locked(&self.failed).take() {
            return Err(error);
        }
        let mut counts = locked(&self.counts);
        let mut taken: Vec<_> = counts
            .known
            .iter_mut()
            .filter(|(_, known)| known.entered > 0)
            .map(|(&(address, size), known)| (address, size, std::mem::take(&mut known.entered)))
            .collect();
        taken.sort_unstable();
        if forget {
            counts.known.clear();
        }
        Ok(taken)
    }
}
