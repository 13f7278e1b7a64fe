//! Text that was being written when memory was taken, as it will be.
//!
//! Where the kernel's own list has an instruction that is to be written ([`crate::memory::pokes`]), memory may have what
//! was there before, an `int3` instead of its first byte, or that with all behind it written already. What the kernel is
//! about to write is judged like all other text. What is replaced by it has to be what such a site may hold: a nop, the
//! bytes it was built with, a branch to a function, within one, or to code that was made for who is registered; so a list that
//! somebody made up hides nothing else. Behind an `int3` a call may have gone anywhere: nobody runs it.

use super::loaded::Text;
use crate::error::Result;
use crate::image::{Bits, Image};
use crate::insn::{CALL, CALL_LEN, INT3, JMP, JMP_SHORT, NOP_TABLES, NopTable, RET, step};
use crate::memory::Poke;

impl Text<'_> {
    /// Puts in what is to be written; the addresses at which that was not there yet. `made` is where code was made for
    /// tracers and BPF programs, as if the kernel had not slid.
    ///
    /// # Errors
    /// Symbols of the image that cannot be read.
    pub fn finish(&mut self, image: &Image, pokes: &[Poke], made: &[u64]) -> Result<Vec<u64>> {
        let Some(section) = image.section(".text") else { return Ok(Vec::new()) };
        let symbols = image.symbols()?;
        let place = |address: u64| symbols.and_then(|symbols| symbols.at(address));
        let mut finished = Vec::new();
        for poke in pokes {
            let Some(at) = poke.address.checked_sub(section.address).and_then(|at| usize::try_from(at).ok()) else {
                continue;
            };
            let range = at..at.saturating_add(poke.bytes.len());
            let end = poke.address.saturating_add(poke.bytes.len() as u64);
            let gap = self.unread.partition_point(|gap| gap.end <= poke.address);
            if self.unread.get(gap).is_some_and(|gap| gap.start < end) {
                continue;
            }
            let Some(held) = self.bytes.get(range.clone()).filter(|&held| held != poke.bytes) else { continue };
            let mut before = held.to_vec();
            if let [first @ INT3, tail @ ..] = &mut before[..] {
                *first = poke.old;
                if tail == &poke.bytes[1..] {
                    before.clone_from(&poke.bytes);
                }
            }
            let stopped = held[0] == INT3 && before[0] == CALL && before.len() == CALL_LEN;
            let built = image.read(poke.address, before.len()) == Some(&before);
            let before = Before { bits: image.bits(), address: poke.address, code: &before, made };
            if before.code == poke.bytes || stopped || built || before.is_legal(place) {
                self.bytes.to_mut()[range].copy_from_slice(&poke.bytes);
                finished.push(poke.address);
            }
        }
        Ok(finished)
    }
}

/// What stands where something else is to be written.
struct Before<'a> {
    bits: Bits,
    address: u64,
    code: &'a [u8],
    made: &'a [u64],
}

impl Before<'_> {
    /// Whether a site that is written while CPUs run it may hold that. `place` names an address: the symbol, and how far
    /// behind it.
    fn is_legal<'s>(&self, place: impl Fn(u64) -> Option<(&'s str, u64)>) -> bool {
        let code = self.code;
        let nop = |table: &&NopTable| {
            let mut nops = vec![0; code.len()];
            table.fill(&mut nops);
            table.atomic5 == code || nops == code
        };
        if NOP_TABLES.iter().any(nop) {
            return true;
        }
        let Some(step) = step(self.bits, code) else { return false };
        let Some((at, len)) = step.branch() else {
            // A tail call of nothing is padded with int3.
            return code[0] == RET && code[1..].iter().all(|&byte| byte == INT3);
        };
        let relative = match code.get(at..at + len) {
            Some(&[short]) => i64::from(short as i8),
            Some(&[a, b, c, d]) => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => return false,
        };
        let goes = self.address.wrapping_add(step.len as u64).wrapping_add(relative as u64) & self.bits.max_address();
        let padded = code[step.len..].iter().all(|&byte| byte == INT3);
        let (here, there) = (place(self.address), place(goes));
        let begins = there.is_some_and(|(_, behind)| behind == 0) || self.made.contains(&goes);
        // What is seldom run of a function lies elsewhere.
        let function = |name: &'s str| name.split_once(".cold").map_or(name, |(function, _)| function);
        let same = here.zip(there).is_some_and(|((here, _), (there, _))| function(here) == function(there));
        let legal = matches!(code[0], CALL | JMP | 0x0f) && begins || matches!(code[0], JMP | JMP_SHORT) && same;
        step.prefixes == 0 && padded && legal
    }
}
