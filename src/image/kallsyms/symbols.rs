//! A table of symbols: their names, as text or packed, one array sorted by address, two indexes built when first asked for.

use super::entry::{Entry, SymbolKind};
use super::packed::{self, Packed};
use super::region::{MAX_NAME, MAX_NAMES, MAX_SYMBOLS};
use crate::error::{Error, Result};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

/// What follows the name of a static that ThinLTO made global (`ModuleSummaryIndex::getGlobalNameForLocal()` of LLVM).
const PROMOTED: &str = ".llvm.";

/// The names of a table of symbols.
enum Names {
    Text(String),
    /// Those of kallsyms. They ascend by address already.
    Packed(Packed),
}

impl Default for Names {
    fn default() -> Names {
        Names::Text(String::new())
    }
}

/// Symbols by address and by name: the embedded kallsyms ([`Symbols::find`]) or an ELF symbol table
/// ([`Symbols::from_list`]).
///
/// Symbols at one address stay in the order of their source. In kallsyms that is the kernel's order of preference:
/// strong before weak, the linker's markers last, fewer leading underscores first (`compare_symbols` in
/// scripts/kallsyms.c).
#[derive(Default)]
pub struct Symbols {
    names: Names,
    entries: Vec<Entry>,
    /// Where `kallsyms_token_index` ends; 0 where the symbols are no kallsyms.
    pub(super) tables_end: u64,
    by_name: OnceLock<NameIndex>,
    /// For each address that has a symbol to name it: the index of that symbol, ascending by address.
    places: OnceLock<Vec<u32>>,
    /// Whether statics may have names that the linker made: `name.llvm.1234`.
    promotes: bool,
    /// Those, by the names they have in the source, with the lowest address of each.
    promoted: OnceLock<HashMap<String, u64>>,
}

/// The symbols by the hash of their name: (hash, number) of those of bucket `i`, ascending by number, from `first[i]` up to
/// `first[i + 1]`.
struct NameIndex {
    first: Vec<u32>,
    symbols: Vec<(u32, u32)>,
}

impl NameIndex {
    /// How many names share a bucket, about: few enough to go through them, and so many that the buckets fit a cache.
    const SHARED: usize = 32;

    /// An index of symbols whose names have these hashes.
    fn of(hashes: &[u32]) -> NameIndex {
        let buckets = (hashes.len() / NameIndex::SHARED).next_power_of_two();
        let bucket = |hash: u32| hash as usize & (buckets - 1);
        let mut first = vec![0; buckets + 1];
        for &hash in hashes {
            first[bucket(hash)] += 1;
        }
        let mut before = 0;
        for start in &mut first {
            before += std::mem::replace(start, before);
        }
        let mut symbols = vec![(0, 0); hashes.len()];
        let mut next = first.clone();
        for (symbol, &hash) in (0..).zip(hashes) {
            let place = &mut next[bucket(hash)];
            symbols[*place as usize] = (hash, symbol);
            *place += 1;
        }
        NameIndex { first, symbols }
    }

    /// Those whose names have this hash, as all equal ones have.
    fn of_hash(&self, hash: u32) -> impl Iterator<Item = usize> {
        let bucket = hash as usize & (self.first.len() - 2);
        let shared = &self.symbols[self.first[bucket] as usize..self.first[bucket + 1] as usize];
        shared.iter().filter(move |symbol| symbol.0 == hash).map(|symbol| symbol.1 as usize)
    }
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbols").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Symbols {
    fn eq(&self, other: &Symbols) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Symbols {
    /// Symbols of kallsyms, ascending by address.
    pub(super) fn packed(names: Packed, entries: Vec<Entry>) -> Symbols {
        Symbols { names: Names::Packed(names), entries, ..Symbols::default() }
    }

    /// Where `kallsyms_token_index` ends, among the kernel's constants; none where the symbols are no kallsyms.
    pub fn tables_end(&self) -> Option<u64> {
        Some(self.tables_end).filter(|&address| address != 0)
    }

    /// Symbols from a list of names, addresses and kinds, such as an ELF `.symtab`.
    ///
    /// # Errors
    /// More symbols or longer names than any kernel has ([`MAX_SYMBOLS`], [`MAX_NAME`]).
    pub fn from_list<'a>(list: impl IntoIterator<Item = (&'a str, u64, SymbolKind)>) -> Result<Symbols> {
        let (mut arena, mut entries) = (Vec::new(), Vec::new());
        for (row, (name, address, kind)) in list.into_iter().enumerate() {
            if name.len() >= MAX_NAME {
                return Err(Error::image("symbol name is longer than KSYM_NAME_LEN").at_row(row).at_address(address));
            }
            if row >= MAX_SYMBOLS || arena.len() + name.len() > MAX_NAMES {
                return Err(Error::image("more symbols than any kernel has").at_row(row).at_address(address));
            }
            entries.push(Entry { address, name: arena.len() as u32, length: name.len() as u16, kind, first: 0 });
            arena.extend_from_slice(name.as_bytes());
        }
        let text = String::from_utf8(arena).map_err(|_| Error::image("symbol name is not UTF-8"))?;
        if !entries.is_sorted_by_key(|e| e.address) {
            entries.sort_by_key(|e| e.address);
        }
        Ok(Symbols { names: Names::Text(text), entries, ..Symbols::default() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All symbols, by address.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, SymbolKind, &str)> {
        self.entries.iter().enumerate().map(|(number, e)| (e.address, e.kind, self.name(number)))
    }

    /// The addresses of all symbols, ascending.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = u64> {
        self.entries.iter().map(|entry| entry.address)
    }

    /// The addresses of those whose names begin with one of these, ascending.
    pub fn addresses_starting_with(&self, prefixes: &[&str]) -> impl Iterator<Item = u64> {
        self.numbers_starting_with(prefixes).map(|number| self.entries[number].address)
    }

    /// Those whose names begin so, by address: other names need not be expanded.
    pub fn starting_with(&self, prefix: &str) -> impl Iterator<Item = (u64, &str)> {
        self.numbers_starting_with(&[prefix]).map(|number| (self.entries[number].address, self.name(number)))
    }

    fn numbers_starting_with(&self, prefixes: &[&str]) -> impl Iterator<Item = usize> + use<> {
        let all = 0..self.entries.len();
        let found: Vec<usize> = match &self.names {
            Names::Packed(names) => {
                let wanted = names.beginning(prefixes);
                all.filter(|&number| names.begins(&self.entries[number], &wanted)).collect()
            }
            Names::Text(_) => all.filter(|&n| prefixes.iter().any(|prefix| self.name(n).starts_with(prefix))).collect(),
        };
        found.into_iter()
    }

    /// The same symbols, of a kernel that clang made. ThinLTO makes statics global that other files use once code is
    /// inlined there, and their names unique: `.llvm.` and the file's hash follow.
    pub(in crate::image) fn of_clang(self) -> Symbols {
        Symbols { promotes: true, ..self }
    }

    /// The lowest address of this name, or of what the linker made of it.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.addresses_of(name).next().or_else(|| self.promoted()?.get(name).copied())
    }

    fn promoted(&self) -> Option<&HashMap<String, u64>> {
        let listed = || {
            let own = self.iter().filter_map(|(address, _, name)| Some((name.split_once(PROMOTED)?.0, address)));
            let mut found = HashMap::new();
            own.for_each(|(name, address)| _ = found.entry(name.to_owned()).or_insert(address));
            found
        };
        self.promotes.then(|| self.promoted.get_or_init(listed))
    }

    /// All addresses of this name, ascending: the names of statics repeat.
    pub fn addresses_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = u64> + 's {
        let index = self.by_name.get_or_init(|| match &self.names {
            Names::Packed(names) => NameIndex::of(names.hashes()),
            Names::Text(_) => NameIndex::of(&self.iter().map(|(.., name)| hash(name.as_bytes())).collect::<Vec<_>>()),
        });
        let hash = if let Names::Packed(_) = self.names { packed::hash } else { hash }(name.as_bytes());
        index
            .of_hash(hash)
            .filter(move |&number| self.is_named(number, name))
            .map(|number| self.entries[number].address)
    }

    fn is_named(&self, number: usize, name: &str) -> bool {
        match &self.names {
            Names::Packed(names) => names.is(&self.entries[number], name.as_bytes()),
            Names::Text(_) => self.name(number) == name,
        }
    }

    /// The symbol that an address belongs to, and the offset into it: the nearest one at or before it that is
    /// [a place](SymbolKind::is_place). Where several have that address, a name that is not the linker's marker
    /// (`_text`, `__start_rodata`, …) is preferred, then a global one, then the first in the source's order.
    ///
    /// Sizes are not known: an address past the last symbol belongs to it.
    pub fn at(&self, address: u64) -> Option<(&str, u64)> {
        let places = self.places.get_or_init(|| self.index_places());
        let last = Cell::new(places.len());
        self.at_near(address, &last)
    }

    /// As [`Symbols::at`]. Looks first where the last one was found, and a little behind; `last` is left at this one.
    pub fn at_near(&self, address: u64, last: &Cell<usize>) -> Option<(&str, u64)> {
        self.number_near(address, last).map(|(number, offset)| (self.name(number), offset))
    }

    /// As [`Symbols::at_near`], with the number of the symbol, which [`Symbols::name`] takes.
    pub fn number_near(&self, address: u64, last: &Cell<usize>) -> Option<(usize, u64)> {
        let places = self.places.get_or_init(|| self.index_places());
        let starts = |&i: &u32| self.entries[i as usize].address <= address;
        let near = places.get(last.get()..).unwrap_or_default();
        let near = &near[..near.len().min(Symbols::NEAR)];
        let after = match near.iter().position(|place| !starts(place)) {
            Some(behind @ 1..) => last.get() + behind,
            _ => places.partition_point(starts),
        };
        let found = after.checked_sub(1)?;
        last.set(found);
        let number = *places.get(found)? as usize;
        Some((number, address - self.entries[number].address))
    }

    /// How many places behind the last one are looked at before all are searched.
    const NEAR: usize = 8;

    /// The name of a symbol by its number among all, by address. There is one of this number.
    pub fn name(&self, number: usize) -> &str {
        match &self.names {
            Names::Packed(names) => names.name(&self.entries, number),
            Names::Text(text) => {
                let Entry { name, length, .. } = self.entries[number];
                &text[name as usize..name as usize + usize::from(length)]
            }
        }
    }

    fn index_places(&self) -> Vec<u32> {
        let mut places = Vec::with_capacity(self.entries.len());
        let (mut start, mut scratch) = (0, Vec::new());
        for group in self.entries.chunk_by(|a, b| a.address == b.address) {
            let candidates = || group.iter().enumerate().filter(|(_, e)| e.kind.is_place());
            let mut is_marker_here = |i: usize, e: &Entry| match &self.names {
                Names::Packed(names) => is_marker(names.one(e, &mut scratch)),
                Names::Text(_) => is_marker(self.name(start + i)),
            };
            let best = match candidates().nth(1) {
                None => candidates().next(),
                Some(_) => candidates().min_by_key(|&(i, e)| (is_marker_here(i, e), !e.kind.is_global())),
            };
            let best = best.map(|(i, _)| i);
            places.extend(best.map(|i| (start + i) as u32));
            start += group.len();
        }
        places
    }
}

/// Whether a linker script makes a symbol of this name, to mark where something begins or ends
/// (`may_be_linker_script_provide_symbol` in scripts/kallsyms.c, and the ones of arch/x86/kernel/vmlinux.lds.S).
fn is_marker(name: &str) -> bool {
    const NAMES: [&str; 9] =
        ["_text", "_stext", "_etext", "_sinittext", "_einittext", "_sdata", "_edata", "_end", "_brk_start"];
    NAMES.contains(&name)
        || name.strip_prefix("__").is_some_and(|rest| {
            ["start_", "stop_", "end_"].iter().any(|p| rest.starts_with(p))
                || ["_start", "_stop", "_begin", "_end"].iter().any(|s| rest.ends_with(s))
        })
}

/// 32 bits that depend on every byte of a name. Equal hashes only cost time.
fn hash(name: &[u8]) -> u32 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = name.len() as u64;
    for chunk in name.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = (state.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(K);
    }
    (state >> 32) as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kind(letter: char) -> SymbolKind {
        SymbolKind::new(letter as u8).unwrap()
    }

    fn sample() -> Symbols {
        let list = [
            ("late", 0x3000, kind('t')),
            ("_text", 0x1000, kind('T')),
            ("local", 0x1000, kind('t')),
            ("startup_64", 0x1000, kind('T')),
            ("also_global", 0x1000, kind('T')),
            ("percpu", 0x1800, kind('A')),
            ("cleanup", 0x2000, kind('t')),
            ("_etext", 0x4000, kind('T')),
            ("cleanup", 0x2800, kind('t')),
        ];
        Symbols::from_list(list).unwrap()
    }

    #[test]
    fn an_address_belongs_to_the_nearest_place_before_it() {
        let symbols = sample();
        assert_eq!(symbols.at(0xfff), None);
        assert_eq!(symbols.at(0x1fff), Some(("startup_64", 0xfff)));
        assert_eq!(symbols.at(0x2000), Some(("cleanup", 0)));
        assert_eq!(symbols.at(u64::MAX), Some(("_etext", u64::MAX - 0x4000)));
    }

    #[test]
    fn a_name_may_have_several_addresses() {
        let symbols = sample();
        assert_eq!(symbols.address_of("cleanup"), Some(0x2000));
        assert_eq!(symbols.addresses_of("cleanup").collect::<Vec<_>>(), [0x2000, 0x2800]);
        assert_eq!(symbols.address_of("_etext"), Some(0x4000));
        assert_eq!(symbols.address_of("clean"), None);
        assert_eq!((symbols.len(), symbols.is_empty()), (9, false));
    }

    #[test]
    fn a_static_that_thin_lto_made_global_has_its_own_name_too() {
        let list = [
            ("kvm_guest_init.llvm.123", 0x1000, kind('t')),
            ("cleanup", 0x2000, kind('t')),
            ("cleanup.llvm.9", 0x1800, kind('t')),
            ("kvm_guest_init.llvm.45", 0x3000, kind('t')),
        ];
        let symbols = Symbols::from_list(list).unwrap();
        assert_eq!(symbols.address_of("kvm_guest_init"), None, "no compiler but clang names so");
        let symbols = symbols.of_clang();
        assert_eq!(symbols.address_of("kvm_guest_init"), Some(0x1000));
        assert_eq!(symbols.address_of("cleanup"), Some(0x2000));
        assert_eq!(symbols.address_of("cleanup.llvm.9"), Some(0x1800));
        assert_eq!((symbols.address_of("kvm_guest"), symbols.address_of("")), (None, None));
    }

    #[test]
    fn names_are_found_by_how_they_begin() {
        let symbols = sample();
        assert_eq!(symbols.starting_with("_").collect::<Vec<_>>(), [(0x1000, "_text"), (0x4000, "_etext")]);
        assert_eq!(symbols.addresses_starting_with(&["late", "clean"]).collect::<Vec<_>>(), [0x2000, 0x2800, 0x3000]);
        assert_eq!(symbols.addresses().count(), symbols.len());
    }

    #[test]
    fn an_empty_table_answers_nothing() {
        let symbols = Symbols::from_list([]).unwrap();
        assert_eq!((symbols.at(0), symbols.address_of("x"), symbols.len()), (None, None, 0));
    }

    #[test]
    fn a_name_too_long_is_an_error() {
        assert!(Symbols::from_list([("x".repeat(MAX_NAME).as_str(), 0, kind('t'))]).is_err());
    }

    #[test]
    fn the_linkers_markers_are_known_by_name() {
        for name in ["_text", "_stext", "__start_rodata", "__irqentry_text_end", "__init_begin"] {
            assert!(is_marker(name), "{name}");
        }
        for name in ["startup_64", "__x64_sys_read", "sched_text_start_hook", "_paravirt_nop", "period_start"] {
            assert!(!is_marker(name), "{name}");
        }
    }
}
