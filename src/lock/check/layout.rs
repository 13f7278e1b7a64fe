//! Where each thing of a state lies: a word for the memory that all share, and a word for each thread.
//!
//! | thread word | bits |
//! |---|---|
//! | point: the step it stands before | as many as there are steps |
//! | blocked in the kernel, owns the lock | 1 each |
//! | standing: 1 gave the lock up, 2 and another gave it up since | 2, where touching is promised not to happen and a step might |
//! | rank in the queue, from 1; 0 outside | 3, where order is promised |
//! | overtaken since it starved, from 1 | 3, where a bound is promised |
//! | acquisitions so far | as many as are below the bound, where there is one |
//! | threads still to be looked at, and the one picked, from 1; the same as kept by a handler | threads, 3 each |
//! | registers, then the thread's own memory | as declared |
//! | stores in the buffer, and each with place and value, the oldest lowest | 3, and as many as can be |

use super::bounds::MAX_THREADS;
use super::program::{Declared, Program, step_of, var_of};
use crate::error::{Error, Result};

/// Some bits of a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub shift: u32,
    pub mask: u64,
}

impl Field {
    #[inline]
    pub fn get(self, word: u64) -> u64 {
        (word >> self.shift) & self.mask
    }

    #[inline]
    pub fn set(self, word: &mut u64, value: u64) {
        *word = (*word & !(self.mask << self.shift)) | ((value & self.mask) << self.shift);
    }

    /// The same field, this many bits further up.
    #[inline]
    pub fn up(self, bits: u32) -> Field {
        Field { shift: self.shift + bits, mask: self.mask }
    }
}

/// Takes fields from a word, one after the other.
#[derive(Debug, Default)]
struct Room {
    used: u32,
}

impl Room {
    fn take(&mut self, bits: u32) -> Field {
        let field = Field { shift: self.used.min(63), mask: (1 << bits) - 1 };
        self.used += bits;
        field
    }
}

/// A buffered store: which of [`Program::stored`], and the value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub place: Field,
    pub value: Field,
    pub bits: u32,
}

/// The layout of the states of one program.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub point: Field,
    pub blocked: Field,
    pub owns: Field,
    pub standing: Field,
    pub rank: Field,
    pub overtaken: Field,
    pub count: Field,
    pub left: Field,
    pub picked: Field,
    /// Both, as kept for later.
    pub kept: (Field, Field),
    pub regs: Vec<Field>,
    /// Each variable's field: of its first element, in the word it lies in.
    pub vars: Vec<Field>,
    pub stores: Field,
    /// The oldest store; the next is [`Entry::bits`] further up.
    pub entry: Entry,
    pub thread_bits: u32,
    pub memory_bits: u32,
    /// Steps, as ops of the program; a point is an index into this.
    pub points: Vec<usize>,
    /// The point of each op that is a step.
    pub point_of: Vec<usize>,
    /// For each point, whether it begins an acquisition.
    pub idle: Vec<bool>,
    /// For each point, what of a thread's word means something there.
    pub live: Vec<u64>,
    /// For each point, the lowest bit of each live register that holds a ticket; and of own memory that does.
    pub tickets: Vec<u64>,
    /// The bits of memory by which a slot says that it begins another epoch.
    pub epochs: u64,
    /// The lowest bit of each ticket in memory.
    pub memory_tickets: u64,
    /// Bits of a ticket.
    pub ticket_bits: u32,
    /// Which of [`Program::stored`] hold tickets.
    pub stored_tickets: Vec<bool>,
    /// Bits that name other threads.
    pub naming: u64,
}

fn bits_for(values: usize) -> u32 {
    usize::BITS - values.saturating_sub(1).leading_zeros()
}

impl Layout {
    pub fn new(program: &Program, threads: usize, acquisitions: Option<u8>) -> Result<Layout> {
        let points: Vec<usize> = (0..program.ops.len()).filter(|&at| step_of(&program.ops[at]).is_some()).collect();
        let mut point_of = vec![0; program.ops.len()];
        for (point, &op) in points.iter().enumerate() {
            point_of[op] = point;
        }
        let promised = |yes: bool, bits: u32| if yes { bits } else { 0 };
        let names_threads = program.uses_picks || program.uses_membarrier;
        let (mut thread, mut memory) = (Room::default(), Room::default());
        let point = thread.take(bits_for(points.len()));
        let blocked = thread.take(promised(program.uses_futex, 1));
        let owns = thread.take(1);
        let standing = thread.take(promised(program.promises.no_touch && program.touches, 2));
        let rank = thread.take(promised(program.promises.fifo, bits_for(threads + 1)));
        let overtaken = thread.take(promised(program.promises.overtakers.is_some(), 3));
        let count = thread.take(acquisitions.map_or(0, |most| bits_for(usize::from(most))));
        let left = thread.take(promised(names_threads, threads as u32));
        let picked = thread.take(promised(program.uses_picks, bits_for(threads + 1)));
        let kept_left = thread.take(promised(program.keeps_picks, threads as u32));
        let kept_picked = thread.take(promised(program.keeps_picks, bits_for(threads + 1)));
        let regs: Vec<Field> = program.regs.iter().map(|reg| thread.take(reg.bits)).collect();
        let place = |var: &Declared| if var.own { thread.take(var.bits) } else { memory.take_all(var) };
        let vars: Vec<Field> = program.vars.iter().map(place).collect();
        let stores = thread.take(bits_for(program.buffer + 1));
        let widest = program.stored.iter().map(|&at| program.vars[var_of(at).0].bits).max().unwrap_or(0);
        let place_bits = bits_for(program.stored.len());
        let first = thread.take(0).shift;
        let entry = Entry {
            place: Field { shift: first, mask: (1 << place_bits) - 1 },
            value: Field { shift: first + place_bits, mask: (1 << widest) - 1 },
            bits: place_bits + widest,
        };
        thread.take(entry.bits * program.buffer as u32);
        if thread.used > 64 || memory.used > 64 || program.regs.len() > 29 {
            return Err(Error::lock(format!(
                "the state of this protocol does not fit: {} bits a thread and {} of memory, of 64 each",
                thread.used, memory.used
            )));
        }
        let tickets_of = |declared: &[Declared]| declared.iter().filter(|d| d.ticket).map(|d| d.bits).max();
        let ticket_bits = tickets_of(&program.vars).max(tickets_of(&program.regs)).unwrap_or(0);
        let all = if thread.used == 64 { u64::MAX } else { (1 << thread.used) - 1 };
        let mut live = Vec::new();
        let mut tickets = Vec::new();
        for &op in &points {
            let (mut kept, mut rotated) = (all, 0);
            for (reg, field) in regs.iter().enumerate() {
                if program.live[op] & (1 << reg) == 0 {
                    kept &= !(field.mask << field.shift);
                } else if program.regs[reg].ticket {
                    rotated |= 1 << field.shift;
                }
            }
            if program.live[op] & super::program::LEFT == 0 {
                kept &= !(left.mask << left.shift);
            }
            if program.live[op] & super::program::PICKED == 0 {
                kept &= !(picked.mask << picked.shift);
            }
            if program.live[op] & super::program::KEPT == 0 {
                kept &= !(kept_left.mask << kept_left.shift | kept_picked.mask << kept_picked.shift);
            }
            for (var, field) in program.vars.iter().zip(&vars).filter(|(var, _)| var.own && var.ticket) {
                debug_assert_eq!(var.bits, ticket_bits);
                rotated |= 1 << field.shift;
            }
            live.push(kept);
            tickets.push(rotated);
        }
        let shared_tickets = program.vars.iter().zip(&vars).filter(|(var, _)| var.ticket && !var.own);
        Ok(Layout {
            naming: [left, picked, kept_left, kept_picked].iter().fold(0, |bits, f| bits | (f.mask << f.shift)),
            epochs: epochs(program, &vars),
            memory_tickets: shared_tickets.fold(0, |bits, (_, field)| bits | (1 << field.shift)),
            stored_tickets: program.stored.iter().map(|&at| program.vars[var_of(at).0].ticket).collect(),
            thread_bits: thread.used,
            memory_bits: memory.used,
            point,
            blocked,
            owns,
            standing,
            rank,
            overtaken,
            count,
            left,
            picked,
            kept: (kept_left, kept_picked),
            regs,
            vars,
            stores,
            entry,
            idle: points.iter().map(|&op| program.idle[op]).collect(),
            points,
            point_of,
            live,
            tickets,
            ticket_bits,
        })
    }

    /// 64-bit words of a packed state.
    pub fn words(&self, threads: usize) -> usize {
        debug_assert!(threads <= MAX_THREADS);
        (self.memory_bits as usize + threads * self.thread_bits as usize).div_ceil(64).max(1)
    }
}

/// Bit 1 of each slot that registers hold epochs of.
fn epochs(program: &Program, vars: &[Field]) -> u64 {
    let arrays = program.epochs.iter().map(|(_, of)| var_of(*of).0);
    arrays.fold(0, |bits, var| {
        let slots = 0..program.vars[var].len as u32;
        slots.fold(bits, |bits, slot| bits | (2 << (vars[var].shift + slot * program.vars[var].bits)))
    })
}

impl Room {
    /// All elements of a shared variable; the field is the first's.
    fn take_all(&mut self, var: &Declared) -> Field {
        let first = self.take(var.bits);
        self.used += var.bits * (var.len as u32 - 1);
        first
    }
}
