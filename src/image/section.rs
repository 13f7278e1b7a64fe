//! Sections and segments: the parts of an ELF file that have addresses.

/// Below any address that a kernel is linked at (`CONFIG_PAGE_OFFSET` may be 1 GiB on i386), above any per-CPU offset.
pub(crate) const LOWEST_KERNEL: u64 = 0x4000_0000;

/// A section of the kernel, all ranges checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its address as linked; 0 if it is not allocated. On x86-64 before 6.15 `.data..percpu` is linked at 0 too.
    pub address: u64,
    /// Where its bytes start in the ELF file.
    pub offset: u64,
    /// Its size in memory, which for a section with bytes is that in the file.
    pub size: u64,
    /// Holds code.
    pub executable: bool,
    /// Is written to.
    pub writable: bool,
    /// Is in memory when the kernel runs.
    pub allocated: bool,
    /// Has bytes in the file; a section like `.bss` has not.
    pub bits_present: bool,
}

impl Section {
    /// Whether it holds the byte at this address.
    pub fn contains(&self, address: u64) -> bool {
        self.allocated && address.checked_sub(self.address).is_some_and(|offset| offset < self.size)
    }

    /// The address behind its last byte.
    pub fn end(&self) -> u64 {
        // Checked when the file was parsed: it cannot saturate.
        self.address.saturating_add(self.size)
    }
}

/// A part of the file that is loaded (`PT_LOAD`), all ranges checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its address as linked.
    pub address: u64,
    /// Its physical address as linked.
    pub physical: u64,
    /// Where its bytes start in the ELF file.
    pub offset: u64,
    /// How many bytes of it are in the file.
    pub file_size: u64,
    /// How many it has in memory.
    pub memory_size: u64,
}
