//! Tables that the linker merged into another section, between two symbols: `__start_NAME` and `__stop_NAME`.

use super::code::Code;
use crate::error::{Error, Result};

/// Such a table: where it begins, and its bytes.
pub(crate) struct Bounded<'a> {
    pub start: u64,
    pub bytes: &'a [u8],
}

impl<'a> Bounded<'a> {
    /// The rows of this many bytes, each with its address.
    pub fn rows(&self, stride: usize) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let start = self.start;
        self.bytes.chunks_exact(stride).enumerate().map(move |(row, record)| (start + (row * stride) as u64, record))
    }
}

/// Finds the table; `None` where no symbol says where it is. `table` is what errors call it.
pub(crate) fn find<'a>(code: &Code<'a>, table: &str, name: &str) -> Result<Option<Bounded<'a>>> {
    let image = code.image();
    let symbols = image.symbols()?;
    let named = |prefix: &str| symbols.and_then(|s| s.address_of(&format!("{prefix}{name}")));
    let (Some(start), Some(stop)) = (named("__start_"), named("__stop_")) else { return Ok(None) };
    if start == stop {
        // Where nothing stands there, the section may have ended before.
        return Ok(Some(Bounded { start, bytes: &[] }));
    }
    let len = stop.checked_sub(start).and_then(|len| usize::try_from(len).ok());
    match len.and_then(|len| image.read(start, len)) {
        Some(bytes) => Ok(Some(Bounded { start, bytes })),
        None => {
            let reason = format!("its end {stop:#x} and start are in no one section");
            Err(Error::table(reason).at_address(start).in_section(table).in_file(image.name()))
        }
    }
}

/// Fails where a table is no whole number of rows.
pub(crate) fn whole(code: &Code<'_>, table: &str, bytes: &[u8], stride: usize) -> Result<()> {
    if bytes.len().is_multiple_of(stride) {
        return Ok(());
    }
    let reason = format!("{} bytes are no whole number of rows of {stride}", bytes.len());
    Err(Error::table(reason).in_section(table).in_file(code.image().name()))
}

/// The longest run of rows that make sense, over all data: what a table is found by where no symbol names it. Rows begin
/// at multiples of 4 bytes; `is_table` tells of a run, which is mostly short, whether it may be one.
pub(crate) fn longest_run<T>(
    code: &Code<'_>,
    stride: usize,
    mut parse: impl FnMut(u64, &[u8], &[T]) -> Option<T>,
    is_table: impl Fn(&[T]) -> bool,
) -> Option<(u64, Vec<T>)> {
    let image = code.image();
    let mut longest: Option<(u64, Vec<T>)> = None;
    for section in image.sections().iter().filter(|s| s.allocated && !s.executable) {
        let bytes = image.section_bytes(section);
        let mut at = 0;
        while at + stride <= bytes.len() {
            let start = at;
            let mut run = Vec::new();
            while let Some(record) = bytes.get(at..at + stride)
                && let Some(row) = parse(section.address + at as u64, record, &run)
            {
                run.push(row);
                at += stride;
            }
            if longest.as_ref().is_none_or(|(_, rows)| run.len() > rows.len()) && is_table(&run) {
                longest = Some((section.address + start as u64, run));
            }
            at = if at == start { at + 4 } else { at };
        }
    }
    longest
}
