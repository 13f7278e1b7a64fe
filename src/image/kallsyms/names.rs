//! `kallsyms_names`, `kallsyms_markers` and `kallsyms_num_syms`: found by each other, then measured.

use super::entry::{Entry, SymbolKind};
use super::packed::{Expansion, Packed, length_at};
use super::region::{MAX_CANDIDATES, MAX_NAME, MAX_NAMES, MAX_STEPS, MAX_SYMBOLS, View};
use super::tokens::Tokens;
use crate::error::Result;

/// Names between two markers.
const STRIDE: usize = 256;
/// Fewest and most bytes between two markers: each name has a length of one or two bytes and one token at least.
const NEAREST: u64 = 2 * STRIDE as u64;
const FARTHEST: u64 = (MAX_NAME as u64 + 2) * STRIDE as u64;

/// Where the tables around the names are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// `kallsyms_num_syms`.
    pub count_at: usize,
    /// Its value.
    pub count: usize,
    /// `kallsyms_names`.
    pub names: usize,
    /// End of `kallsyms_token_index`.
    pub end: usize,
}

/// `kallsyms_markers`, perhaps.
struct Markers {
    at: usize,
    entries: usize,
    /// Bytes of each.
    size: usize,
    /// Whether `kallsyms_seqs_of_names` lies between the markers and the token table.
    seqs: bool,
}

/// All consistent readings of what lies before the token table.
pub(super) fn find(view: &View<'_>, tokens: &Tokens<'_>, steps: &mut u64) -> Result<Vec<Layout>> {
    let mut found = Vec::new();
    let farthest = 3 * MAX_SYMBOLS + 8 * MAX_SYMBOLS / STRIDE;
    let before = view.bytes().get(view.first()..tokens.start).unwrap_or_default();
    for (i, word) in before.rchunks_exact(view.align).take(farthest / view.align).enumerate() {
        if word[..4] != [0; 4] {
            continue;
        }
        // The second marker tells nearly all places apart; a table of one is near the end.
        let at = tokens.start - (i + 1) * view.align;
        let plausible = |at, size| view.number(at, size).is_some_and(|n| (NEAREST..=FARTHEST).contains(&n));
        if !plausible(at + 4, 4) && !plausible(at + 8, 8) && tokens.start - at > 4 * STRIDE {
            continue;
        }
        for markers in markers_at(view, at, tokens.start, steps).into_iter().flatten() {
            names_before(view, &markers, tokens, steps, &mut found)?;
        }
        if *steps > MAX_STEPS || found.len() > MAX_CANDIDATES {
            return Err(view.error(tokens.start, "too many places that could be kallsyms names"));
        }
    }
    Ok(found)
}

/// The marker tables that may start at `at`, if what follows up to `end` has the size that it must have.
fn markers_at(view: &View<'_>, at: usize, end: usize, steps: &mut u64) -> [Option<Markers>; 5] {
    let room = end - at;
    // Without the ranks, the markers fill the room, except for one zero word of 32 bits at the end.
    let exact =
        |size: usize, less: usize| Some(Markers { at, entries: (room / size).checked_sub(less)?, size, seqs: false });
    // With them, a marker stands for 4 bytes and 3 × 1 to 3 × 256 more; padding leaves at most two possible counts.
    let least = room.saturating_sub(2 * (view.align - 1)).div_ceil(4 + 3 * STRIDE);
    let most = (room + 3 * (STRIDE - 1)) / (4 + 3 * STRIDE);
    let ranked = |entries: usize| Some(Markers { at, entries, size: 4, seqs: true });
    let wide = view.align == 8;
    let readings = [
        exact(4, 0),
        exact(4, 1).filter(|_| wide),
        exact(8, 0).filter(|_| wide),
        ranked(least),
        ranked(most).filter(|_| most != least),
    ];
    readings.map(|markers| {
        let markers = markers?;
        let fits = markers.entries > 0
            && markers.entries <= MAX_SYMBOLS.div_ceil(STRIDE)
            && (markers.seqs || view.padded(markers.entries * markers.size) == room);
        let entry = |i: usize| view.number(at + i * markers.size, markers.size);
        let mut before = (entry(0)? == 0 && fits).then_some(0)?;
        for i in 1..markers.entries {
            *steps += 1;
            let next = entry(i)?;
            if !(NEAREST..=FARTHEST).contains(&next.checked_sub(before)?) {
                return None;
            }
            before = next;
        }
        let end = at + markers.entries * markers.size;
        view.is_padding(end, view.padded(end - at) + at).then_some(markers)
    })
}

/// The names that these markers are of, all ways they can be read.
fn names_before(
    view: &View<'_>,
    markers: &Markers,
    tokens: &Tokens<'_>,
    steps: &mut u64,
    found: &mut Vec<Layout>,
) -> Result<()> {
    let last = view.number(markers.at + (markers.entries - 1) * markers.size, markers.size).unwrap_or(0) as usize;
    // The last marker is `last` from the start of the names, and at most 256 names from their end.
    let Some(highest) = markers.at.checked_sub(last) else { return Ok(()) };
    let lowest = highest.saturating_sub(FARTHEST as usize + view.align);
    let counts = (markers.entries - 1) * STRIDE + 1..=(markers.entries * STRIDE).min(MAX_SYMBOLS);
    let mut names = view.padded(lowest) + view.first();
    while names < highest {
        *steps += 1;
        let count_at = names.checked_sub(view.align);
        let count = count_at.and_then(|at| view.number(at, view.align)).and_then(|count| usize::try_from(count).ok());
        if let (Some(count_at), Some(count)) = (count_at, count)
            && counts.contains(&count)
            && let Some(seqs) = seqs(view, markers, count, tokens.start)
            && walk(view, names, count, markers, steps)
            && seqs.chunks_exact(3).all(|s| u32::from_be_bytes([0, s[0], s[1], s[2]]) < count as u32)
        {
            found.push(Layout { count_at, count, names, end: tokens.end });
            if found.len() > MAX_CANDIDATES {
                return Ok(());
            }
        }
        if *steps > MAX_STEPS {
            return Ok(());
        }
        names += view.align;
    }
    Ok(())
}

/// The ranks between the markers and the token table (none before 6.2), if they take just that room.
fn seqs<'a>(view: &'a View<'_>, markers: &Markers, count: usize, end: usize) -> Option<&'a [u8]> {
    let start = markers.at + view.padded(markers.entries * markers.size);
    let seqs = view.table(start, if markers.seqs { count } else { 0 }, 3)?;
    let fits = start + view.padded(seqs.len()) == end && view.is_padding(start + seqs.len(), end);
    fits.then_some(seqs)
}

/// Whether this many names from here pass every marker and end where the markers begin.
fn walk(view: &View<'_>, names: usize, count: usize, markers: &Markers, steps: &mut u64) -> bool {
    let Some(bytes) = view.bytes().get(names..markers.at) else { return false };
    let mut at = 0;
    for i in 0..count {
        if i % STRIDE == 0 {
            *steps += STRIDE as u64;
            if view.number(markers.at + i / STRIDE * markers.size, markers.size) != Some(at as u64) {
                return false;
            }
        }
        let Some((start, length)) = length_at(bytes, at) else { return false };
        at = start + length;
    }
    at <= bytes.len() && view.is_padding(names + at, markers.at)
}

/// Names with their types; addresses still to be filled in.
pub(super) struct Names {
    pub packed: Packed,
    pub entries: Vec<Entry>,
}

/// Measures every name; none is expanded.
pub(super) fn measured(view: &View<'_>, layout: &Layout, tokens: &Tokens<'_>) -> Result<Names> {
    let bytes = view.bytes();
    let expansion = Expansion::of(&tokens.strings);
    let (mut entries, mut hashes) = (Vec::with_capacity(layout.count), Vec::with_capacity(layout.count));
    let mut all = 0;
    let mut at = layout.names;
    for row in 0..layout.count {
        let fail = |reason: &str| Err(view.error(at, reason).at_row(row));
        let name = length_at(bytes, at).and_then(|(start, length)| Some((start, bytes.get(start..start + length)?)));
        let Some((start, name)) = name else { return fail("kallsyms names end early") };
        let found = expansion.measure(name);
        if found.length > MAX_NAME {
            return fail("kallsyms name is longer than KSYM_NAME_LEN");
        }
        let Some(kind) = found.kind.and_then(SymbolKind::new) else {
            return fail("kallsyms name does not start with a type letter");
        };
        if found.length < 2 {
            return fail("kallsyms symbol has no name");
        }
        let (name_at, length) = ((at - layout.names) as u32, (found.length - 1) as u16);
        entries.push(Entry { address: 0, name: name_at, length, kind, first: name[0] });
        hashes.push(found.hash);
        all += found.length;
        if all.max(at - layout.names) > MAX_NAMES {
            return fail("kallsyms names take more room than any kernel's");
        }
        at = start + name.len();
    }
    Ok(Names { packed: Packed::new(&bytes[layout.names..at], expansion, hashes), entries })
}
