//! The pages of ITS thunks: where the next one lies (arch/x86/kernel/alternative.c).

const PAGE: u64 = 4096;

/// Where the next ITS thunk goes: `its_page`, `its_offset`.
#[derive(Default)]
pub(super) struct Pages {
    used: usize,
    offset: u64,
}

impl Pages {
    /// `its_allocate_thunk()`: which page, and where in it. With paranoid FineIBT the end of a caller's check comes before.
    pub fn thunk(&mut self, register: u8, paranoid: bool) -> (usize, u64) {
        let size = 3 + u64::from(register / 8) + if paranoid { 3 } else { 0 };
        if self.used == 0 || self.offset + size > PAGE {
            self.used += 1;
            self.offset = 32;
        }
        // Only the upper half of a cache line is safe.
        if (self.offset + size - 1) % 64 < 32 {
            self.offset = ((self.offset - 1) | 0x3f) + 33;
        }
        let at = self.offset;
        self.offset += size;
        (self.used - 1, at + u64::from(paranoid))
    }
}
