//! Large memory as huge pages: a kernel's code, its symbols and its sites are copied or made in buffers of megabytes, each
//! touched once, and with small pages most of the time goes to the kernel that hands them out.

use std::alloc::{GlobalAlloc, Layout, System};

/// Blocks from this size on; in bytes. One of less has at most one whole huge page.
const LARGE: usize = 4 << 20;
/// x86's huge page.
const HUGE_PAGE: usize = 2 << 20;

/// The system's allocator, which asks for huge pages under large blocks.
pub(super) struct HugePages;

/// Advises huge pages for those that lie in a block as a whole.
fn advise(block: *mut u8, size: usize) -> *mut u8 {
    if size >= LARGE && !block.is_null() {
        let before = block.align_offset(HUGE_PAGE);
        let pages = size.saturating_sub(before) / HUGE_PAGE;
        if pages > 0 {
            // SAFETY: the pages lie in a block that is the caller's, and the advice changes no byte of it. Where it is
            // refused, small pages do the same job.
            unsafe { libc::madvise(block.wrapping_add(before).cast(), pages * HUGE_PAGE, libc::MADV_HUGEPAGE) };
        }
    }
    block
}

// SAFETY: every block is the system allocator's own, asked for and given back by the layout that the caller names.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the system allocator's contract, which is this one's.
        advise(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        advise(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        advise(unsafe { System.realloc(block, layout, size) }, size)
    }
}
