//! The plan: ordered writes, and which of them are guesses.

use std::sync::Arc;

use super::decision::Decision;
use super::forms::{NULL_TRAMPOLINE, RET5, UNLOCK, WARN, ZERO, ZERO_DATA16};
use super::guess::{Forms, Guess};
use super::passes::Pass;
use super::stretches::Stretches;
use crate::error::{Error, Result};
use crate::insn::{CALL, JMP, RET};

/// One write of one pass, or a row it passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where, as linked.
    pub address: u64,
    /// The row of that pass's table which asks for it.
    pub row: u32,
    /// The pass that writes.
    pub pass: Pass,
    /// What was decided, and why.
    pub decision: Decision,
    start: u32,
    len: u16,
}

/// So many writes, one after the other, of which is known where the first begins and the last ends.
const BLOCK: usize = 64;

/// The ordered writes of a boot.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    writes: Vec<Write>,
    /// The lowest address and the highest end of each [`BLOCK`] of them: a pass writes in the order of its table, which
    /// nearly always is that of addresses.
    blocks: Vec<(u64, u64)>,
    // All bytes written, one run after the other: a plan has tens of thousands of writes of a few bytes each.
    arena: Vec<u8>,
    guesses: Vec<Guess>,
    by_pass: Vec<(Pass, usize)>,
    /// What the plan is of, where it is not of all code.
    pub(super) within: Option<Arc<Stretches>>,
}

impl Plan {
    /// An empty plan with room for this many writes of this many bytes each.
    pub fn with_capacity(writes: usize, bytes_each: usize) -> Plan {
        let arena = Vec::with_capacity(writes.saturating_mul(bytes_each));
        let blocks = Vec::with_capacity(writes.div_ceil(BLOCK));
        Plan { writes: Vec::with_capacity(writes), blocks, arena, ..Plan::default() }
    }

    /// Adds a write of these bytes; of none, where a row is passed over.
    pub fn push(&mut self, address: u64, pass: Pass, row: u32, bytes: &[u8], decision: Decision) {
        let (start, len) = (self.arena.len() as u32, bytes.len() as u16);
        self.arena.extend_from_slice(bytes);
        let end = touched(address, bytes.len());
        match self.blocks.last_mut().filter(|_| !self.writes.len().is_multiple_of(BLOCK)) {
            Some((low, high)) => (*low, *high) = (address.min(*low), end.max(*high)),
            None => self.blocks.push((address, end)),
        }
        self.writes.push(Write { address, row, pass, decision, start, len });
        if len > 0 {
            // Writes of one pass follow each other.
            match self.by_pass.iter_mut().rev().find(|(other, _)| *other == pass) {
                Some((_, writes)) => *writes += 1,
                None => self.by_pass.push((pass, 1)),
            }
        }
    }

    /// All writes, in the order the kernel makes them.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// How many writes of each pass change something, in the order of their first.
    pub fn by_pass(&self) -> &[(Pass, usize)] {
        &self.by_pass
    }

    /// The writes that touch addresses from `low` up to but not including `high`, in order. A row that changed nothing has
    /// no bytes: it is at its address.
    pub fn touching(&self, low: u64, high: u64) -> impl Iterator<Item = &Write> {
        let touches = move |from: u64, to: u64| from < high && to > low;
        let blocks = self.blocks.iter().zip(self.writes.chunks(BLOCK));
        let writes = blocks.filter(move |(block, _)| touches(block.0, block.1)).flat_map(|(_, writes)| writes);
        writes.filter(move |write| touches(write.address, touched(write.address, write.len.into())))
    }

    /// The writes at addresses in these stretches, in order; of the guesses none.
    pub(super) fn part(&self, within: &Stretches) -> Plan {
        let mut part = Plan::default();
        for (&(low, high), writes) in self.blocks.iter().zip(self.writes.chunks(BLOCK)) {
            if within.touching(low, high).is_some() {
                for write in writes.iter().filter(|write| within.has(write.address)) {
                    part.push(write.address, write.pass, write.row, self.bytes(write), write.decision);
                }
            }
        }
        part
    }

    /// The bytes of a write of this plan.
    pub fn bytes(&self, write: &Write) -> &[u8] {
        let start = write.start as usize;
        &self.arena[start..start + usize::from(write.len)]
    }

    /// What the plan can only guess: the writes hold the guess.
    pub fn guesses(&self) -> &[Guess] {
        &self.guesses
    }

    /// Notes bytes as a guess.
    pub(super) fn guess(&mut self, bytes: Guess) {
        self.guesses.push(bytes);
    }

    /// The forms of bytes that are one of these two, which are as long as each other.
    pub(super) fn either(&mut self, first: &[u8], second: &[u8]) -> Forms {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(first);
        self.arena.extend_from_slice(second);
        Forms::Either(start..self.arena.len() as u32)
    }

    /// Sorts guesses by address. No two may overlap: each would be judged by the other's forms.
    pub(super) fn sort_guesses(&mut self) -> Result<()> {
        self.guesses.sort_by_key(|bytes| bytes.address);
        for (first, second) in self.guesses.iter().zip(self.guesses.iter().skip(1)) {
            if second.address - first.address < first.len.into() {
                let why = format!("overlaps {} row {} at {:#x}", first.pass.name(), first.row, first.address);
                let error = Error::table(why).in_section(second.pass.name());
                return Err(error.at_row(second.row as usize).at_address(second.address));
            }
        }
        Ok(())
    }
}

/// Where what a write touches ends.
fn touched(address: u64, len: usize) -> u64 {
    address.saturating_add(len.max(1) as u64)
}

impl Plan {
    /// The forms that undetermined bytes may take, in hex, `??` where a byte may be any.
    pub fn patterns(&self, which: &Guess) -> Vec<String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let any = |known: &[u8], len: usize| hex(known) + &"??".repeat(len - known.len());
        let len = usize::from(which.len);
        match &which.forms {
            Forms::Either(range) => {
                let both = &self.arena[range.start as usize..range.end as usize];
                both.chunks(len.max(1)).map(hex).collect()
            }
            Forms::StaticCall => {
                let nops: [&[u8]; 4] = [
                    b"\x0f\x1f\x44\x00\x00",
                    b"\x66\x66\x66\x66\x90",
                    b"\x3e\x8d\x74\x26\x00",
                    b"\x3e\x8d\x44\x20\x00",
                ];
                let fixed = [&ZERO[..], &ZERO_DATA16, &WARN, &UNLOCK].into_iter().chain(nops);
                std::iter::once(any(&[CALL], len)).chain(fixed.map(hex)).collect()
            }
            Forms::StaticTail { short_ret: false } => vec![any(&[JMP], len), hex(&RET5), hex(&NULL_TRAMPOLINE)],
            Forms::StaticTail { short_ret: true } => vec![any(&[JMP], len), any(&[RET], len)],
            Forms::StaticCondition | Forms::Thunk { .. } | Forms::Hash | Forms::Constant(_) => vec![any(&[], len)],
        }
    }

    /// Whether these bytes are one of the forms that undetermined ones may take. `function` tells of an address whether a
    /// function begins there.
    pub fn admits(&self, which: &Guess, found: &[u8], function: impl Fn(u64) -> bool) -> bool {
        let target = |displacement: [u8; 4]| {
            let next = which.address.wrapping_add(which.len.into());
            next.wrapping_add(i32::from_le_bytes(displacement) as u64)
        };
        match (&which.forms, found) {
            (Forms::Either(range), _) => {
                let both = &self.arena[range.start as usize..range.end as usize];
                let (jump, nop) = both.split_at(both.len() / 2);
                found == jump || found == nop
            }
            (Forms::StaticCall, [CALL, a, b, c, d]) | (Forms::StaticTail { .. }, [JMP, a, b, c, d]) => {
                function(target([*a, *b, *c, *d]))
            }
            (Forms::StaticCall, _) => {
                [ZERO, ZERO_DATA16, WARN, UNLOCK].iter().any(|form| found == form)
                    || matches!(
                        found,
                        [0x0f, 0x1f, 0x44, 0, 0] | [0x66, 0x66, 0x66, 0x66, 0x90] | [0x3e, 0x8d, _, 0x20 | 0x26, 0]
                    )
            }
            (Forms::StaticTail { short_ret }, _) => {
                found == RET5 || found == NULL_TRAMPOLINE || (*short_ret && found.first() == Some(&RET))
            }
            (Forms::StaticCondition, [a, b, c, d]) => function(target([*a, *b, *c, *d])),
            (Forms::Thunk { offset, .. }, [a, b, c, d]) => target([*a, *b, *c, *d]) & 0xfff == u64::from(*offset),
            (Forms::Constant(_) | Forms::Hash, _) => found.len() == usize::from(which.len),
            _ => false,
        }
    }
}
