//! Which layout the rows of a table have: every candidate is held against the whole table, and one must fit.
//!
//! Versions are not asked, as distributions backport.

use crate::error::{Error, Result};

/// Reads a table by each layout. Fails where none fits, with the complaint of the one that came furthest, and where more
/// than one does and they do not say the same.
pub(crate) fn only<L, T: PartialEq>(
    layouts: impl IntoIterator<Item = L>,
    name: impl Fn(&L) -> String,
    read: impl Fn(&L) -> Result<T>,
) -> Result<(L, T)> {
    let mut found: Option<(L, T)> = None;
    let mut furthest: Option<Error> = None;
    for layout in layouts {
        match (read(&layout), &found) {
            (Ok(rows), None) => found = Some((layout, rows)),
            (Ok(rows), Some((_, first))) if *first == rows => {}
            (Ok(_), Some((first, _))) => {
                let both = format!("every row is valid under two layouts ({}; {})", name(first), name(&layout));
                return Err(Error::table(both));
            }
            // The layout that got furthest is most likely the right one: its complaint is the one to show.
            (Err(e), _) if furthest.as_ref().is_none_or(|f| f.place.row < e.place.row) => furthest = Some(e),
            (Err(_), _) => {}
        }
    }
    found.ok_or_else(|| furthest.unwrap_or_else(|| Error::table("no layout is known for this pointer size")))
}
