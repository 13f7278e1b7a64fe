//! What kind of code it is.

/// Word size of a kernel, and the mode its code runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bits {
    /// i386.
    B32,
    /// x86-64.
    B64,
}

impl Bits {
    /// Size of a pointer in bytes.
    pub fn word(self) -> usize {
        match self {
            Bits::B32 => 4,
            Bits::B64 => 8,
        }
    }

    /// The highest address there is.
    pub fn max_address(self) -> u64 {
        match self {
            Bits::B32 => u64::from(u32::MAX),
            Bits::B64 => u64::MAX,
        }
    }
}
