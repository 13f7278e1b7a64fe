//! Virtual CPUs that wait for a physical one.

use std::collections::VecDeque;

/// Those who wait for a physical CPU, first come, first served in each class.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Kicked while under their share, not under yet, over their share. Round robin has the middle one alone.
    pub classes: [VecDeque<u32>; 3],
    /// The gang whose turn it is.
    pub gang: usize,
}

pub const BOOST: usize = 0;
pub const UNDER: usize = 1;
pub const OVER: usize = 2;

impl Queues {
    pub fn pop(&mut self) -> Option<usize> {
        self.classes.iter_mut().find_map(VecDeque::pop_front).map(|v| v as usize)
    }

    /// The class of who would be next.
    pub fn best(&self) -> Option<usize> {
        self.classes.iter().position(|class| !class.is_empty())
    }
}
