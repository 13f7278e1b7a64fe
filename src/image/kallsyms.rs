//! The kernel's own symbol table, as `scripts/kallsyms.c` embeds it in `.rodata`.
//!
//! Nothing in an image says where the tables are, and their order changed over the years. All of it is found by
//! validating, never by version. Each table starts on a word boundary (since 7.0 on one of 4 bytes), with zeros between:
//!
//! ```c
//! /* scripts/kallsyms.c, write_src(), Linux 2.6 to 6.3 */
//! unsigned long kallsyms_addresses[n];       /* without CONFIG_KALLSYMS_BASE_RELATIVE, always before 4.6; or: */
//! int           kallsyms_offsets[n];         /*   with it, and then                                           */
//! unsigned long kallsyms_relative_base;
//! unsigned int  kallsyms_num_syms;           /* a long before 4.20: the same bytes on a little-endian machine */
//! u8            kallsyms_names[];            /* n × { length; that many token numbers }                       */
//! unsigned int  kallsyms_markers[(n+255)/256]; /* where each 256th name starts; longs before 4.20             */
//! u8            kallsyms_seqs_of_names[3*n]; /* since 6.2, and in 6.1 stable: big-endian ranks by name        */
//! char          kallsyms_token_table[];      /* 256 strings, each ended by a zero                             */
//! u16           kallsyms_token_index[256];   /* where each starts                                             */
//!
//! /* 6.4 to 6.19 */  num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs_of_names
//! /* since 7.0   */  num_syms, names, markers, token_table, token_index, offsets (place-relative), seqs_of_names
//! ```
//!
//! The way in is `kallsyms_token_index`: 256 ascending numbers that start with 0 and agree with the 256 strings before
//! them. From there the markers lead to the names, the names to the count, the count to the addresses; each step must
//! agree with the one before it, and exactly one reading may survive. See [`Symbols::find`].

mod addresses;
mod names;
mod symbols;
mod tokens;

pub use symbols::{SymbolKind, Symbols};

use crate::error::{Error, Result};

/// `KSYM_NAME_LEN` (include/linux/kallsyms.h, since 6.1; 128 before): a name is shorter than this.
pub const MAX_NAME: usize = 512;

/// More symbols than any kernel has (about 200,000 in a distribution's, a million with everything built in).
pub const MAX_SYMBOLS: usize = 4 << 20;

/// Most bytes that all names together may take.
const MAX_NAMES: usize = 64 << 20;

/// Most token tables looked into in one region, and most readings of the names for one of them. An honest image has one.
const MAX_CANDIDATES: usize = 16;

/// Most steps (names walked, places tried) that a search may take before it gives up; an honest image needs 1 % of it.
const MAX_STEPS: u64 = 1 << 26;

/// One section with contents, as it lies in the kernel's address space.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    /// Its name, for messages, and because `.rodata` is searched first.
    pub name: &'a str,
    /// Where it is linked.
    pub address: u64,
    /// What is in it.
    pub bytes: &'a [u8],
    /// Whether it holds code; text symbols must lie in such a region.
    pub executable: bool,
}

impl Symbols {
    /// Finds and decodes the kallsyms tables of a kernel whose `long` is `word` bytes (4 or 8).
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
                match names::decode(view, layout, tokens).and_then(|names| addresses::read(view, layout, names, text)) {
                    Ok(symbols) if self.found.as_ref().is_some_and(|other| *other != symbols) => {
                        return Err(view.error(layout.names, "two different readings of kallsyms, both consistent"));
                    }
                    Ok(symbols) => self.found = Some(symbols),
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

/// A region, read as tables of a machine's words. Offsets are from the region's start.
struct View<'a> {
    region: &'a Region<'a>,
    word: usize,
    /// Where tables may start: every word, or since 7.0, which has no table of words left, every 4 bytes.
    align: usize,
}

impl View<'_> {
    fn bytes(&self) -> &[u8] {
        self.region.bytes
    }

    /// The unsigned little-endian number of this many bytes (at most 8), if it lies within.
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.bytes().get(at..at.checked_add(size)?)?;
        let mut number = [0; 8];
        number.get_mut(..size)?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(number))
    }

    /// The table of this many entries of this many bytes, if it lies within.
    fn table(&self, at: usize, entries: usize, size: usize) -> Option<&[u8]> {
        self.bytes().get(at..at.checked_add(entries.checked_mul(size)?)?)
    }

    /// This size and the zeros up to where the next table may start.
    fn padded(&self, size: usize) -> usize {
        size.next_multiple_of(self.align)
    }

    /// The first offset at which a table may start.
    fn first(&self) -> usize {
        (self.region.address.wrapping_neg() % self.align as u64) as usize
    }

    /// Whether a table may start at this offset.
    fn aligned(&self, at: usize) -> bool {
        at % self.align == self.first()
    }

    /// Whether `from..to` is what an assembler puts before an aligned table: a few zeros.
    fn is_padding(&self, from: usize, to: usize) -> bool {
        self.bytes().get(from..to).is_some_and(|pad| pad.len() < self.align && pad.iter().all(|&b| b == 0))
    }

    fn address(&self, at: usize) -> u64 {
        self.region.address.wrapping_add(at as u64)
    }

    fn error(&self, at: usize, reason: impl Into<String>) -> Error {
        Error::image(reason).in_section(self.region.name).at_address(self.address(at))
    }
}
