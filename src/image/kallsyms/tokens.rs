//! `kallsyms_token_table` and `kallsyms_token_index`: 256 strings and where each starts.

use super::region::{MAX_CANDIDATES, MAX_NAME, View};

/// The 256 tokens that names are made of.
pub(super) struct Tokens<'a> {
    /// Where the token table starts.
    pub start: usize,
    /// Where the token index ends.
    pub end: usize,
    /// Printable ASCII.
    pub strings: Vec<&'a [u8]>,
}

/// All pairs of tables in this region that agree with each other; no more than one over [`MAX_CANDIDATES`].
///
/// One pass, each byte read a bounded number of times: a table of ascending numbers has no zero but its first, so
/// attempts do not overlap.
pub(super) fn find<'a>(view: &'a View<'_>) -> Vec<Tokens<'a>> {
    let mut found = Vec::new();
    let bytes = view.bytes();
    let first = view.first();
    for (i, head) in bytes.get(first..).unwrap_or_default().chunks_exact(view.align).enumerate() {
        // Entry 0 is 0 and entry 1 is not: all but a few places fail here.
        let head = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if head & 0xffff != 0 || head == 0 {
            continue;
        }
        let at = first + i * view.align;
        let Some(table) = bytes.get(at..at + 512) else { break };
        let entry = |i: usize| usize::from(u16::from_le_bytes([table[2 * i], table[2 * i + 1]]));
        if (1..256).all(|i| entry(i - 1) < entry(i) && entry(i) - entry(i - 1) <= MAX_NAME) {
            let index: Vec<usize> = (0..256).map(entry).collect();
            found.extend(strings_before(view, at, &index));
            if found.len() > MAX_CANDIDATES {
                break;
            }
        }
    }
    found
}

/// The token table that ends at `end` (where the index begins) and has its strings where `index` says.
fn strings_before<'a>(view: &'a View<'_>, end: usize, index: &[usize]) -> Option<Tokens<'a>> {
    let bytes = view.bytes();
    let last = index[255];
    // The length of the last string is the one thing that the index leaves open.
    let start_of = |size: usize| end.checked_sub(view.padded(size)).filter(|&start| view.aligned(start));
    (0..MAX_NAME).step_by(view.align).find_map(|more| {
        let start = start_of(last + 1 + more)?;
        let size = memchr_zero(bytes.get(start + last..end)?)?;
        if !view.is_padding(start + last + size + 1, end) {
            return None;
        }
        let ends = index[1..].iter().copied().chain([last + size + 1]);
        let strings: Vec<&[u8]> = index
            .iter()
            .zip(ends)
            .map(|(&from, to)| {
                let (zero, string) = bytes.get(start + from..start + to)?.split_last()?;
                (*zero == 0 && string.iter().all(u8::is_ascii_graphic)).then_some(string)
            })
            .collect::<Option<_>>()?;
        // A run of zeros before an identity table is not a token table.
        if strings.iter().filter(|s| !s.is_empty()).count() < 4 {
            return None;
        }
        Some(Tokens { start, end: end + 512, strings })
    })
}

fn memchr_zero(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&b| b == 0)
}
