//! Names as `kallsyms_names` has them: strings of tokens, each expanded when it is asked for, with some around it.

use std::sync::OnceLock;

use super::entry::Entry;
use super::region::MAX_NAME;

/// So many names are expanded at once: listings ask for one after the other, look-ups for one here and one there.
const BLOCK: usize = 8;

/// How much of a token is copied in one go.
const SHORT: usize = 16;

/// What hashes are made with: a name's is that of a polynomial of its bytes, so that those of its tokens make it.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The names of a table of symbols, packed.
pub(super) struct Packed {
    /// `kallsyms_names`.
    names: Box<[u8]>,
    expansion: Expansion,
    /// [`hash`] of each name.
    hashes: Vec<u32>,
    /// Names one after the other, [`BLOCK`] by [`BLOCK`].
    expanded: Box<[OnceLock<String>]>,
}

impl Packed {
    /// The names of as many symbols as there are hashes.
    pub(super) fn new(names: &[u8], expansion: Expansion, hashes: Vec<u32>) -> Packed {
        let blocks = (0..hashes.len().div_ceil(BLOCK)).map(|_| OnceLock::new());
        Packed { names: names.into(), expansion, hashes, expanded: blocks.collect() }
    }

    /// The name of a symbol, by its number.
    pub(super) fn name(&self, entries: &[Entry], number: usize) -> &str {
        let (block, first) = (number / BLOCK, number / BLOCK * BLOCK);
        let held = self.expanded[block].get_or_init(|| {
            let symbols = &entries[first..entries.len().min(first + BLOCK)];
            let mut out = vec![0; symbols.iter().map(|symbol| usize::from(symbol.length)).sum::<usize>() + SHORT];
            let end = symbols.iter().fold(0, |at, symbol| self.expand(symbol, &mut out, at));
            out.truncate(end);
            // Tokens are ASCII.
            String::from_utf8(out).unwrap_or_default()
        });
        let before: usize = entries[first..number].iter().map(|symbol| usize::from(symbol.length)).sum();
        &held[before..before + usize::from(entries[number].length)]
    }

    /// The tokens of a name, its type among them.
    fn tokens(&self, symbol: &Entry) -> &[u8] {
        let at = symbol.name as usize;
        length_at(&self.names, at).map_or(&[], |(start, length)| &self.names[start..start + length])
    }

    /// Writes a name from `at`, behind which there must be room for it and [`SHORT`] more bytes; where it ends.
    fn expand(&self, symbol: &Entry, out: &mut [u8], at: usize) -> usize {
        let Some((first, rest)) = self.expansion.split(self.tokens(symbol)) else { return at };
        // The first character is the type.
        let text = self.expansion.text(first).get(1..).unwrap_or_default();
        let mut end = at + text.len();
        out[at..end].copy_from_slice(text);
        for &token in rest {
            let token = &self.expansion.tokens[usize::from(token)];
            let from = end;
            end += usize::from(token.length);
            if usize::from(token.length) <= SHORT {
                out[from..from + SHORT].copy_from_slice(&token.short);
            } else {
                out[from..end].copy_from_slice(self.expansion.text(token));
            }
        }
        end
    }

    /// The name of a symbol, written over `out`; nothing else is expanded.
    pub(super) fn one<'o>(&self, symbol: &Entry, out: &'o mut Vec<u8>) -> &'o str {
        out.clear();
        out.resize(usize::from(symbol.length) + SHORT, 0);
        let end = self.expand(symbol, out, 0);
        std::str::from_utf8(&out[..end]).unwrap_or_default()
    }

    /// What is looked for by how names begin.
    pub(super) fn beginning(&self, prefixes: &[&str]) -> Beginning {
        let texts = || self.expansion.tokens.iter().map(|token| self.expansion.text(token));
        let behind = |matched: usize, wanted: &[u8], text: &[u8]| {
            // The first character is the type.
            let same = |(at, byte): (usize, &u8)| match at.checked_sub(1) {
                Some(at) => wanted.get(at).is_none_or(|wanted| wanted == byte),
                None => true,
            };
            (matched..).zip(text).all(same).then_some((matched + text.len()).min(wanted.len() + 1))
        };
        let row = |matched, prefix: &str| {
            let mut row = [OTHER; 256];
            for (after, text) in row.iter_mut().zip(texts()) {
                *after = behind(matched, prefix.as_bytes(), text).and_then(|n| u16::try_from(n).ok()).unwrap_or(OTHER);
            }
            row
        };
        let table = |prefix: &&str| (0..=prefix.len()).map(|matched| row(matched, prefix)).collect();
        // No name begins with more than a name has.
        let tables: Vec<Vec<_>> = prefixes.iter().filter(|prefix| prefix.len() < MAX_NAME).map(table).collect();
        let first = std::array::from_fn(|token| tables.iter().any(|table| table[0][token] != OTHER));
        Beginning { first, tables }
    }

    /// Whether the name of a symbol begins with one of some prefixes.
    pub(super) fn begins(&self, symbol: &Entry, with: &Beginning) -> bool {
        // The first token tells of most.
        if !with.first[usize::from(symbol.first)] {
            return false;
        }
        let tokens = self.tokens(symbol);
        with.tables.iter().any(|table| {
            let mut matched = 0;
            for &token in tokens {
                matched = usize::from(table[matched][usize::from(token)]);
                if matched >= table.len() {
                    return matched == table.len();
                }
            }
            false
        })
    }

    /// Whether a symbol has this name.
    pub(super) fn is(&self, symbol: &Entry, name: &[u8]) -> bool {
        if name.len() != usize::from(symbol.length) {
            return false;
        }
        self.one(symbol, &mut Vec::new()).as_bytes() == name
    }

    /// The [`hash`] of every name.
    pub(super) fn hashes(&self) -> &[u32] {
        &self.hashes
    }
}

/// Where the tokens of the name at `at` start and how many there are: a byte, or since 6.1 two bytes of ULEB128
/// where there are more than 127 (`kallsyms_expand_symbol` in kernel/kallsyms.c).
pub(super) fn length_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let low = usize::from(*bytes.get(at)?);
    let (start, length) =
        if low < 0x80 { (at + 1, low) } else { (at + 2, low & 0x7f | usize::from(*bytes.get(at + 1)?) << 7) };
    (1..=MAX_NAME).contains(&length).then_some((start, length))
}

/// How names begin that are looked for.
pub(super) struct Beginning {
    /// For each beginning: how many characters of it and of the type before it are there behind a token, by how many there
    /// were before it; [`OTHER`] where they are others. One row for each character, and behind the last all are there.
    tables: Vec<Vec<[u16; 256]>>,
    /// Whether one may begin with a token.
    first: [bool; 256],
}

/// No name is so long.
const OTHER: u16 = u16::MAX;

/// The hash of a name: 32 bits that depend on every byte of it.
pub(super) fn hash(name: &[u8]) -> u32 {
    finished(unmixed(name))
}

fn unmixed(name: &[u8]) -> u64 {
    name.iter().fold(0, |hash, &byte| next(hash, FACTOR, byte.into()))
}

fn next(hash: u64, factor: u64, more: u64) -> u64 {
    hash.wrapping_mul(factor).wrapping_add(more)
}

fn finished(hash: u64) -> u32 {
    // The lower a bit is, the fewer bits of the bytes it depends on.
    (hash.wrapping_mul(FACTOR) >> 32) as u32
}

/// What each of the 256 tokens is expanded to.
pub(super) struct Expansion {
    tokens: Box<[Token; 256]>,
    text: Vec<u8>,
}

/// One token.
struct Token {
    /// Where it is in the text.
    start: u32,
    length: u16,
    short: [u8; SHORT],
    /// Its hash before it is mixed, and what that of the bytes before it is multiplied by.
    hash: u64,
    factor: u64,
    /// The hash of all but its first byte.
    rest: u64,
}

impl Token {
    fn of(string: &[u8], start: u32) -> Token {
        let mut short = [0; SHORT];
        let n = string.len().min(SHORT);
        short[..n].copy_from_slice(&string[..n]);
        let factor = string.iter().fold(1, |factor: u64, _| factor.wrapping_mul(FACTOR));
        let (hash, rest) = (unmixed(string), unmixed(string.get(1..).unwrap_or_default()));
        Token { start, length: string.len() as u16, short, hash, factor, rest }
    }
}

/// What a name is made of.
pub(super) struct Measured {
    /// How many characters, its type among them.
    pub length: usize,
    /// Its type.
    pub kind: Option<u8>,
    /// The [`hash`] of the rest.
    pub hash: u32,
}

impl Expansion {
    /// Of 256 tokens in ASCII; of those that are missing nothing is made.
    pub(super) fn of(strings: &[&[u8]]) -> Expansion {
        let mut text = Vec::new();
        let token = |number: usize| {
            let string = strings.get(number).copied().unwrap_or_default();
            let start = text.len() as u32;
            text.extend_from_slice(string);
            Token::of(string, start)
        };
        Expansion { tokens: Box::new(std::array::from_fn(token)), text }
    }

    /// The first of a name's tokens that has characters, and what stands behind it.
    fn split<'n>(&self, name: &'n [u8]) -> Option<(&Token, &'n [u8])> {
        let empty = |&&token: &&u8| self.tokens[usize::from(token)].length == 0;
        let (first, rest) = name[name.iter().take_while(empty).count()..].split_first()?;
        Some((&self.tokens[usize::from(*first)], rest))
    }

    fn text(&self, token: &Token) -> &[u8] {
        let start = token.start as usize;
        &self.text[start..start + usize::from(token.length)]
    }

    /// What a name of these tokens would be.
    pub(super) fn measure(&self, name: &[u8]) -> Measured {
        // The type stands before all others.
        let Some((first, rest)) = self.split(name) else { return Measured { length: 0, kind: None, hash: 0 } };
        let (mut length, mut hash) = (usize::from(first.length), first.rest);
        for &token in rest {
            let token = &self.tokens[usize::from(token)];
            length += usize::from(token.length);
            hash = next(hash, token.factor, token.hash);
        }
        Measured { length, kind: Some(first.short[0]), hash: finished(hash) }
    }
}
