//! Tables that the kernel sorts at boot: what stays are their rows, wherever each has gone. `jump_label_sort_entries()` and
//! `static_call_sort_entries()` swap whole rows, moving what is relative to its place.

/// What a row says, as linked, whatever its place: the site, where that goes or 0, the key with the flags that are built
/// into it and the one that the kernel sets at boot. Takes where the row lies, its bytes, the machine's word, and what the
/// kernel slid by.
pub(crate) type Fields = fn(u64, &[u8], usize, u64) -> [u64; 3];

/// The flag of a key whose site is in code that is freed: `jump_entry_set_init()`, `static_call_set_init()`. Such a site is not
/// written any more.
pub(crate) const INIT: u64 = 2;

/// Where such a table is, and how its rows are read.
#[derive(Debug, Clone, Copy)]
pub struct SortedTable {
    /// Its name.
    pub name: &'static str,
    /// Its first address.
    pub start: u64,
    /// Its bytes.
    pub size: usize,
    /// Bytes of a row.
    pub stride: usize,
    pub(super) fields: Fields,
}

impl SortedTable {
    /// The rows of the table, as memory or the file has its bytes: where each lies, and what it says.
    pub fn rows<'a>(&self, bytes: &'a [u8], word: usize, slide: u64) -> impl Iterator<Item = (u64, [u64; 3])> + 'a {
        let SortedTable { start, stride, fields, .. } = *self;
        let rows = bytes.chunks_exact(stride).enumerate();
        rows.map(move |(at, row)| {
            let place = start + (at * stride) as u64;
            (place, fields(place, row, word, slide))
        })
    }
}
