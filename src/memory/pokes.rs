//! What a kernel that was stopped was about to write to its text: its own list of it.
//!
//! `text_poke_bp_batch()` (arch/x86/kernel/alternative.c; `smp_text_poke_batch_finish()` since 6.16) changes up to 256
//! instructions at a time: `int3` over the first byte of each, then what is behind it, then the first byte. Whoever comes to
//! such an `int3` meanwhile is sent on by the list; `text_poke_queue()` fills it.
//!
//! | kernel | the list | in use while |
//! |---|---|---|
//! | 5.10 to 6.0 | what `bp_desc` points to | that is so |
//! | 6.1 to 6.15 (efd608fa7403, and stable releases before) | `bp_desc` | `refs`, or `bp_refs` of each CPU, is not 0 |
//! | since 6.16 | `text_poke_array` | it has entries |
//! | 5.10 to 6.15, queued | `tp_vec`, `tp_vec_nr` | it has entries |
//!
//! Where the members are, BTF says; without it nothing is read. Of entries that are no such the bytes that are judged decide.

use super::location::Location;
use super::mapped::Mapped;
use super::members::Members;
use super::read::Memory;
use super::words::Words;
use crate::error::Result;
use crate::image::Image;
use crate::image::kallsyms::Symbols;
use crate::numbers::i32_at;

/// `TP_VEC_MAX`, a page of them, and more.
const MOST: u64 = 1024;
/// The longest instruction that is written so: a conditional jump, which is kept without its first byte.
const LONGEST: usize = 6;

/// An instruction that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poke {
    /// Where, as linked.
    pub address: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The first byte before, where `int3` may stand now.
    pub old: u8,
}

/// What the kernel was writing, or had queued, by address.
///
/// # Errors
/// Memory that cannot be read.
pub fn pokes(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<Poke>> {
    // Types are looked through once a kernel, and not at all where memory is text alone.
    let Ok(words) = Words::new(memory, found, image) else { return Ok(Vec::new()) };
    let (Some(symbols), Some(btf)) = (image.symbols()?, image.btf()?) else { return Ok(Vec::new()) };
    let members = Members { btf: Some(btf), word: words.width() };
    let mut reader = Lists { words, symbols, members, memory, found, image, mapped: None, pokes: Vec::new() };
    reader.lists()?;
    let mut pokes = reader.pokes;
    pokes.sort_by_key(|poke| poke.address);
    pokes.dedup_by_key(|poke| poke.address);
    Ok(pokes)
}

struct Lists<'a> {
    words: Words<'a>,
    symbols: &'a Symbols,
    members: Members<'a>,
    memory: &'a Memory,
    found: &'a Location,
    image: &'a Image,
    /// Memory where it runs, once it is asked for.
    mapped: Option<Mapped<'a>>,
    pokes: Vec<Poke>,
}

impl Lists<'_> {
    fn lists(&mut self) -> Result<()> {
        let named = |name: &str| self.symbols.address_of(name);
        let array = named("text_poke_array").map(|array| self.runs(array));
        let queued = named("tp_vec").zip(named("tp_vec_nr"));
        if let Some(array) = array {
            self.described(array, "smp_text_poke_array", "smp_text_poke_loc")?;
        }
        if let Some(at) = self.description()? {
            self.described(at, "bp_patching_desc", "text_poke_loc")?;
        }
        if let Some((vector, count)) = queued
            && let Some(count) = self.words.int(count)?
        {
            self.entries(self.runs(vector), count, "text_poke_loc")?;
        }
        Ok(())
    }

    /// Where the description is of what is being written, if anything is.
    fn description(&mut self) -> Result<Option<u64>> {
        let Some(symbol) = self.symbols.address_of("bp_desc") else { return Ok(None) };
        let word = self.words.width() as u64;
        if self.symbols.at(symbol + word).is_none_or(|(name, _)| name != "bp_desc") {
            let pointed = self.words.pointer(symbol)?.filter(|&at| at != 0);
            return Ok(pointed.map(|at| self.runs(at)));
        }
        let used = match self.members.offset("bp_patching_desc", "refs") {
            Ok(refs) => self.words.int(symbol + refs)?,
            Err(_) => self.of_first_cpu("bp_refs")?,
        };
        Ok(used.filter(|&used| used > 0).map(|_| self.runs(symbol)))
    }

    /// A number of the first CPU's: since 6.15 its symbol lies in the image and moves with it.
    fn of_first_cpu(&mut self, name: &str) -> Result<Option<i32>> {
        let (Some(symbol), Some(offsets)) =
            (self.symbols.address_of(name), self.symbols.address_of("__per_cpu_offset"))
        else {
            return Ok(None);
        };
        let lowest = self.image.section(".text").map_or(0, |section| section.address);
        let symbol = if symbol < lowest { symbol } else { self.runs(symbol) };
        match self.pointer(self.runs(offsets))? {
            Some(offset) => self.int(symbol.wrapping_add(offset)),
            None => Ok(None),
        }
    }

    /// Where it runs.
    fn runs(&self, address: u64) -> u64 {
        self.words.runs(address)
    }

    /// A list that a structure describes.
    fn described(&mut self, at: u64, structure: &str, entry: &str) -> Result<()> {
        let member = |name: &str| self.members.offset(structure, name).ok();
        let (Some(vector), Some(count)) = (member("vec"), member("nr_entries")) else { return Ok(()) };
        let Some(count) = self.int(at.wrapping_add(count))?.filter(|&count| count > 0) else { return Ok(()) };
        let vector = at.wrapping_add(vector);
        // The array itself, or a pointer to it.
        let first = if structure == "smp_text_poke_array" { Some(vector) } else { self.pointer(vector)? };
        first.map_or(Ok(()), |first| self.entries(first, count, entry))
    }

    fn entries(&mut self, first: u64, count: i32, entry: &str) -> Result<()> {
        let member = |name: &str| self.members.offset(entry, name).ok().map(|at| at as usize);
        let size = self.members.btf.as_ref().and_then(|btf| btf.size_of(btf.find_struct(entry)?).ok());
        let (Some(place), Some(opcode), Some(text), Some(old), len, Some(size)) =
            (member("rel_addr"), member("opcode"), member("text"), member("old"), member("len"), size)
        else {
            return Ok(());
        };
        let Some(start) = self.symbols.address_of("_stext") else { return Ok(()) };
        for number in 0..u64::try_from(count).unwrap_or(0).min(MOST) {
            let mut bytes = vec![0; size.min(64)];
            if !self.read(first.wrapping_add(number * size as u64), &mut bytes)? {
                return Ok(());
            }
            let byte = |at: usize| bytes.get(at).copied();
            let (Some(offset), Some(opcode), Some(old)) = (i32_at(&bytes, place), byte(opcode), byte(old)) else {
                return Ok(());
            };
            // Since 5.13 its length is kept; before, the opcode told (`text_opcode_size()`).
            let len = match (len, opcode) {
                (Some(len), _) => byte(len).unwrap_or(0).into(),
                (None, 0xe8 | 0xe9) => 5,
                (None, 0xeb) => 2,
                (None, _) => 1,
            };
            let kept = if len == LONGEST { LONGEST - 1 } else { len };
            let Some(kept) = bytes.get(text..text.saturating_add(kept)).filter(|_| (1..=LONGEST).contains(&len)) else {
                continue;
            };
            let instruction = if len == LONGEST { [&[0x0f], kept].concat() } else { kept.to_vec() };
            let address = start.wrapping_add(i64::from(offset) as u64) & self.image.bits().max_address();
            self.pokes.push(Poke { address, bytes: instruction, old });
        }
        Ok(())
    }

    /// Fills the buffer from where it runs; whether all of it is there.
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        if self.mapped.is_none() {
            let Ok(mapped) = Mapped::new(self.memory, self.found, self.image) else { return Ok(false) };
            self.mapped = Some(mapped);
        }
        self.mapped.as_ref().map_or(Ok(false), |mapped| mapped.read(address, buffer))
    }

    fn int(&mut self, address: u64) -> Result<Option<i32>> {
        let mut bytes = [0; 4];
        Ok(self.read(address, &mut bytes)?.then(|| i32::from_le_bytes(bytes)))
    }

    fn pointer(&mut self, address: u64) -> Result<Option<u64>> {
        let (mut bytes, word) = ([0; 8], self.words.width());
        Ok(self.read(address, &mut bytes[..word])?.then(|| u64::from_le_bytes(bytes)))
    }
}
