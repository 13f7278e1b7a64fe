//! The code that counts calls, found where no symbol names it: a kernel lists its data only with CONFIG_KALLSYMS_ALL.

use memchr::memmem;

use crate::image::Image;

/// `sarq`, with a prefix for the per-CPU area.
const SHIFT: &[u8] = b"\x65\x48\xc1";
/// Its operand where that is absolute, and where it is relative; an address of 4 bytes follows.
const OPERANDS: [&[u8]; 2] = [b"\x3c\x25", b"\x3d"];
/// `$5`.
const BY: u8 = 5;
/// `incq` of the count that CONFIG_CALL_THUNKS_DEBUG adds, before its address of 4 bytes.
const COUNTS: [&[u8]; 2] = [b"\x65\x48\xff\x04\x25", b"\x65\x48\xff\x05"];

/// `skl_call_thunk_template` and `skl_call_thunk_tail`, its end: `sarq $5, %gs:call_depth` among the constants
/// (`INCREMENT_CALL_DEPTH`, arch/x86/kernel/callthunks.c, 6.2, e81dc127ef69; the operand is relative since 6.8). `None`
/// where the image lists no calls, or the code stands there more than once.
pub fn find(image: &Image) -> Option<(u64, u64)> {
    image.section(".call_sites")?;
    let rodata = image.section(".rodata")?;
    let bytes = image.section_bytes(rodata);
    let mut found = memmem::find_iter(bytes, SHIFT).filter_map(|at| Some((at, length(&bytes[at..])?)));
    let (Some((at, len)), None) = (found.next(), found.next()) else { return None };
    let start = rodata.address + at as u64;
    Some((start, start + len as u64))
}

/// How long the code is that stands here, if it is this.
fn length(code: &[u8]) -> Option<usize> {
    let operand = OPERANDS.iter().find(|&&operand| code[SHIFT.len()..].starts_with(operand))?;
    let shift = SHIFT.len() + operand.len() + 4;
    let (&by, rest) = code.get(shift..)?.split_first()?;
    let counts = COUNTS.iter().find(|&&count| rest.starts_with(count));
    let counted = counts.map_or(0, |count| count.len() + 4);
    (by == BY && rest.len() >= counted).then_some(shift + 1 + counted)
}
