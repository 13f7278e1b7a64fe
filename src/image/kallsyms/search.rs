//! The search: from a token table to names, from names to addresses, and one reading of all.

use super::region::{MAX_CANDIDATES, Region, View};
use super::symbols::Symbols;
use super::{addresses, names, tokens};
use crate::error::{Error, Result};

impl Symbols {
    /// Finds and reads the kallsyms tables of a kernel whose `long` is `word` bytes (4 or 8).
    ///
    /// `.rodata` is searched first, then the other regions without code, then the rest, each for tables aligned to words
    /// and then for tables aligned to 32 bits; the first of these that has consistent tables decides. `Ok(None)` means
    /// that there are none (`CONFIG_KALLSYMS=n`).
    ///
    /// # Errors
    /// When there are token tables and no consistent names or addresses beside them, when two different readings
    /// are consistent, and when the tables exceed the bounds of any real kernel.
    pub fn find(regions: &[Region<'_>], word: usize) -> Result<Option<Symbols>> {
        if word != 4 && word != 8 {
            return Err(Error::image(format!("kallsyms of a machine with words of {word} bytes")));
        }
        let group = |r: &Region<'_>| if r.name == ".rodata" { 0 } else { 1 + u8::from(r.executable) };
        let text = addresses::Text::new(regions);
        for wanted in 0..3 {
            let mut search = Search { found: None, failure: None, steps: 0 };
            for align in if word == 4 { &[4][..] } else { &[8, 4] } {
                for region in regions.iter().filter(|r| group(r) == wanted) {
                    search.region(&View { region, word, align: *align }, &text)?;
                }
                if search.found.is_some() {
                    return Ok(search.found);
                }
            }
            if let Some(failure) = search.failure {
                return Err(failure);
            }
        }
        Ok(None)
    }
}

/// What a search has come to so far.
struct Search {
    found: Option<Symbols>,
    /// Why the first token table led nowhere.
    failure: Option<Error>,
    steps: u64,
}

impl Search {
    fn region(&mut self, view: &View<'_>, text: &addresses::Text) -> Result<()> {
        let candidates = tokens::find(view);
        if candidates.len() > MAX_CANDIDATES {
            return Err(view.error(0, format!("{} kallsyms token tables, a kernel has one", candidates.len())));
        }
        for tokens in &candidates {
            let layouts = names::find(view, tokens, &mut self.steps)?;
            if layouts.is_empty() {
                self.fail(view.error(tokens.start, "kallsyms token table without names and markers before it"));
            }
            for layout in &layouts {
                match names::measured(view, layout, tokens).and_then(|names| addresses::read(view, layout, names, text))
                {
                    Ok(symbols) if self.found.as_ref().is_some_and(|other| *other != symbols) => {
                        return Err(view.error(layout.names, "two different readings of kallsyms, both consistent"));
                    }
                    Ok(mut symbols) => {
                        symbols.tables_end = view.region.address.saturating_add(tokens.end as u64);
                        self.found = Some(symbols);
                    }
                    Err(error) => self.fail(error),
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}
