//! No hypervisor.

#[cfg(not(any(loom, shuttle)))]
use super::super::slots::SYMMETRIC;
use super::super::slots::Want;
use super::super::sync::{self, AtomicU32};
use super::interface::PvLockOps;

/// The native ops: there is no hypervisor to call, a waiter spins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl PvLockOps for Native {
    #[inline]
    fn slot(&self, _: Want) -> &AtomicU32 {
        #[cfg(not(any(loom, shuttle)))]
        {
            static NOBODY: AtomicU32 = AtomicU32::new(SYMMETRIC);
            &NOBODY
        }
        #[cfg(any(loom, shuttle))]
        {
            unreachable!("the models' backends have tables of their own")
        }
    }

    #[cfg(any(loom, shuttle))]
    fn waited(&self) -> &AtomicU32 {
        unreachable!("the models' backends have tables of their own")
    }

    #[cfg(any(loom, shuttle))]
    fn left(&self) -> &super::super::left::Left {
        unreachable!("the models' backends have sets of their own")
    }

    fn lock_spinning(&self, _: &AtomicU32, _: u32, _: Want) {
        sync::relax();
    }

    fn unlock_kick(&self, _: &AtomicU32, _: Want) {}

    fn blocks(&self) -> bool {
        false
    }
}
