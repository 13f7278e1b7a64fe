//! Hashes of kCFI in code: before functions, and before indirect calls.

/// Bytes of FineIBT's code before a function, and of a caller's check.
pub(super) const PREAMBLE: usize = 16;
pub(super) const CALLER: usize = 14;
/// Bytes of a caller's check and its call.
pub(super) const PARANOID: usize = 20;

/// The hash of a kCFI preamble, unless it is sealed.
pub(super) fn preamble_hash(code: &[u8]) -> Option<u32> {
    match *code {
        // The register says how many arguments there are, where the compiler tells (6.15, 0c92385dc05e).
        [0xb8..=0xbf, a, b, c, d, ..] => Some(u32::from_le_bytes([a, b, c, d])).filter(|&hash| hash != 0),
        _ => None,
    }
}

/// The hash that a kCFI caller asks for.
pub(super) fn caller_hash(code: &[u8]) -> Option<u32> {
    match *code {
        [0x41, 0xba, a, b, c, d, 0x45, 0x03, ..] => {
            Some(u32::from_le_bytes([a, b, c, d]).wrapping_neg()).filter(|&hash| hash != 0)
        }
        _ => None,
    }
}
