//! The code that some rows alone have to do with: what they read and write, and the rows that do so too.
//!
//! A row writes at its own address, and reads what stands there. What it makes of that depends on another row only where
//! that one writes there too, or where its site is part of a replacement. So a boot of some stretches of code, or one that
//! differs from another in features that only alternatives ask for, need run no other rows.

use super::landmarks::Landmarks;
use super::machine::Boot;
use super::stretches::Stretches;
use super::unlisted;
use crate::sites::{Alternative, Tables};

/// Rows that overlap others lead from one to the next: so often they are followed. Those of real kernels end after few.
const ROUNDS: usize = 16;
/// What a pass looks at where its table does not say how long a site is: an instruction.
const SITE: u64 = 15;

/// What a row reads and writes, at most.
struct Span {
    low: u64,
    high: u64,
    /// Where its replacement is, of an alternative.
    replacement: Option<(u64, u64)>,
}

impl Span {
    /// So many bytes from an address on.
    fn from(address: u64, len: u64) -> Span {
        Span { low: address, high: address.saturating_add(len.max(1)), replacement: None }
    }
}

/// The stretches of code that the boots may leave otherwise; `None` where that may be any.
pub(super) fn affected(tables: &Tables, landmarks: &Landmarks, boot: &Boot, other: &Boot) -> Option<Stretches> {
    let differs = differing(boot, other)?;
    let rows = tables.alternatives.iter().flat_map(|table| &table.rows);
    let asking = rows.filter(|row| differs(row.feature));
    let site = |row: &Alternative| span(row.address, row.len.into());
    let found = asking.flat_map(|row| std::iter::once(site(row)).chain(replacement(row))).collect();
    closed(tables, landmarks, other, found)
}

/// These stretches, extended until no row that runs on this machine reaches out of them; `None` where the tables do not
/// tell.
pub(super) fn closed(
    tables: &Tables,
    landmarks: &Landmarks,
    boot: &Boot,
    mut found: Vec<(u64, u64)>,
) -> Option<Stretches> {
    // These passes write elsewhere than at their rows, or by the order of all of them.
    if boot.with(boot.call_depth) || boot.hid_bpf.is_some() || !tables.cfi.is_empty() {
        return None;
    }
    for _ in 0..ROUNDS {
        let stretches = Stretches::of(found);
        let mut more = Vec::new();
        spans(tables, |Span { low, high, replacement }| {
            let Some(stretch) = stretches.touching(low, high) else { return };
            if low < stretch.0 || high > stretch.1 {
                more.push((low, high));
            }
            if let Some((from, to)) = replacement
                && stretches.touching(from, to).is_none_or(|stretch| from < stretch.0 || to > stretch.1)
            {
                more.push((from, to));
            }
        });
        if more.is_empty() {
            let touches = |range: &(u64, u64)| stretches.touching(range.0, range.1).is_some();
            return (!unlisted::places(landmarks).iter().any(touches)).then_some(stretches);
        }
        more.extend(stretches.ranges());
        found = more;
    }
    None
}

fn span(address: u64, len: u64) -> (u64, u64) {
    (address, address.saturating_add(len.max(1)))
}

/// Where an alternative's replacement is, if it has one.
fn replacement(row: &Alternative) -> Option<(u64, u64)> {
    (row.replacement_len > 0).then(|| span(row.replacement, row.replacement_len.into()))
}

/// Whether the machines differ in a feature, by its number; `None` where they differ in more, or in one that another pass
/// asks for.
fn differing<'b>(boot: &'b Boot, other: &'b Boot) -> Option<impl Fn(u16) -> bool + 'b> {
    let without = |boot: &Boot| Boot { features: Vec::new(), ..boot.clone() };
    let differs = |number: u16| boot.has(number) != other.has(number);
    let asked = [boot.retpoline, boot.retpoline_lfence, boot.rethunk, boot.its, boot.call_depth];
    let alike = boot.features.len() == other.features.len() && without(boot) == without(other);
    (alike && !asked.into_iter().flatten().any(differs)).then_some(differs)
}

/// Tells `each` of every row of every table.
fn spans(tables: &Tables, mut each: impl FnMut(Span)) {
    if let Some(table) = &tables.paravirt {
        table.sites.iter().for_each(|site| each(Span::from(site.address, site.len.into())));
    }
    for row in tables.alternatives.as_ref().map_or(&[][..], |table| &table.rows) {
        each(Span { replacement: replacement(row), ..Span::from(row.address, row.len.into()) });
    }
    for table in [&tables.retpolines, &tables.returns, &tables.ibt] {
        table.rows().for_each(|(_, address)| each(Span::from(address, SITE)));
    }
    tables.smp_locks.rows().for_each(|(_, address)| each(Span::from(address, 1)));
    tables.mcount.iter().for_each(|&address| each(Span::from(address, 5)));
    tables.jump_labels.iter().for_each(|label| each(Span::from(label.address, label.len.into())));
    tables.static_calls.iter().for_each(|site| each(Span::from(site.address, SITE)));
    tables.trampolines.iter().for_each(|trampoline| each(Span::from(trampoline.address, SITE)));
    for constant in &tables.constants {
        constant.table.rows().for_each(|(_, address)| each(Span::from(address, constant.width.into())));
    }
}
