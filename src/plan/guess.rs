//! Bytes that nothing in the image and the machine's description settles, and what they may be.
//!
//! A static key may be flipped by user space, a static call by a driver, ITS thunks and run-time constants are wherever the
//! kernel's allocator put them. The plan's writes hold a first guess; here is what else is legal.

use std::ops::Range;

use super::passes::Pass;

/// What undetermined bytes may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forms {
    /// One of two, each as long as the bytes; both lie one behind the other.
    Either(Range<u32>),
    /// A call of any function, or one of the forms without a call.
    StaticCall,
    /// A jump to any function, or a `ret`: five bytes, or one before what stands there.
    StaticTail {
        /// Whether it is one.
        short_ret: bool,
    },
    /// The displacement of a conditional jump to any function.
    StaticCondition,
    /// The displacement of a branch to this offset of some page: ITS thunks fill pages in table order.
    Thunk {
        /// Which page: one number, one address.
        page: u16,
        /// Offset in it.
        offset: u16,
    },
    /// A hash of the kernel's control flow: one seed for all.
    Hash,
    /// A number: the same at all sites of this constant, by its place among the tables.
    Constant(u16),
}

/// Bytes that the plan can only guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// Where.
    pub address: u64,
    /// How many.
    pub len: u8,
    /// The pass that wrote the guess, or left the bytes as built.
    pub pass: Pass,
    /// Its row.
    pub row: u32,
    /// What they may be.
    pub forms: Forms,
}
