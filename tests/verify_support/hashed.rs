//! Code of kCFI, as clang builds it this far behind preambles; and FineIBT's.

/// FineIBT's code in 6.18: `fineibt_preamble_start`, `_caller_start`, `_paranoid_start`, `_bhi1_start`.
pub const FINEIBT_6_18: &[u8] = b"\xf3\x0f\x1e\xfa\x2d\x78\x56\x34\x12\x2e\x0f\x85\x03\x00\x00\x00\x0f\x1f\x40\xd6\
    \xb8\x78\x56\x34\x12\x4d\x8d\x5b\xf0\x0f\x1f\x44\x00\x00\
    \xb8\x78\x56\x34\x12\x41\x3b\x43\xf5\x2e\x4d\x8d\x5b\xf0\x75\xfd\x2e\x41\xff\xd3\
    \x48\x0f\x45\xf8\x2e\x75\x03\x0f\x1f\x40\xd6";

/// A preamble whose `mov` loads this register.
pub fn preamble(register: u8, hash: &[u8], far: u64) -> Vec<u8> {
    [&[0xb8 + register][..], hash, &vec![0x90; far as usize - 5]].concat()
}

/// A caller's check, before its call.
pub fn check(hash: &[u8], far: u64) -> Vec<u8> {
    [b"\x41\xba", hash, b"\x45\x03\x53", &[before(far)], b"\x74\x02\x0f\x0b"].concat()
}

/// What seals a hash: `movl $0,-15(%rbx); ret`.
pub fn seals(far: u64) -> Vec<u8> {
    [&b"\xc7\x43"[..], &[before(far)], b"\0\0\0\0\xc3"].concat()
}

/// The displacement of a hash from its function.
fn before(far: u64) -> u8 {
    1u8.wrapping_sub(far as u8)
}
