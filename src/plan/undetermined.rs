//! Bytes that nothing in the image and the machine's description settles, and what they may be.
//!
//! A static key may be flipped by user space, a static call by a driver, ITS thunks and run-time constants are wherever the
//! kernel's allocator put them. The plan's writes hold a first guess; here is what else is legal.

use std::ops::Range;

use super::jump_labels;
use super::returns::RET5;
use super::static_calls::{self, UNLOCK, WARN, ZERO};
use super::{Pass, Plan, Run};
use crate::error::{Error, Result};
use crate::insn::{CALL, INT3, JMP, NOP, RET};

/// A trampoline without target, as 5.10 was built at first.
const NULL_TRAMPOLINE: [u8; 5] = [RET, INT3, NOP, NOP, NOP];

/// What undetermined bytes may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forms {
    /// One of two, each as long as the bytes; both lie one behind the other.
    Either(Range<u32>),
    /// A call of any function, or one of the forms without a call.
    StaticCall,
    /// A jump to any function, or a `ret`.
    StaticTail,
    /// The displacement of a conditional jump to any function.
    StaticCondition,
    /// The displacement of a branch to this offset of some page: ITS thunks fill pages in table order.
    Thunk {
        /// Which page: one number, one address.
        page: u16,
        /// Offset in it.
        offset: u16,
    },
    /// A number: the same at all sites of this constant, by its place among the tables.
    Constant(u16),
}

/// Bytes that the plan can only guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undetermined {
    /// Where.
    pub address: u64,
    /// How many.
    pub len: u8,
    /// The pass that wrote the guess, or left the bytes as built.
    pub pass: Pass,
    /// Its row.
    pub row: u32,
    /// What they may be.
    pub forms: Forms,
}

/// Notes what this run could only guess, by address. No two of these may overlap: each would be judged by the other's forms.
pub(super) fn mark(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    for (row, label) in (0..).zip(&tables.jump_labels) {
        if !jump_labels::state(run, label.key).certain {
            let (jump, nop) = jump_labels::forms(run, label);
            let len = usize::from(label.len);
            let start = run.plan.arena.len() as u32;
            run.plan.arena.extend_from_slice(&jump[..len]);
            run.plan.arena.extend_from_slice(&nop[..len]);
            let forms = Forms::Either(start..run.plan.arena.len() as u32);
            run.plan.undetermined.push(Undetermined {
                address: label.address,
                len: label.len,
                pass: Pass::JumpLabels,
                row,
                forms,
            });
        }
    }
    for (row, site) in (0..).zip(&tables.static_calls) {
        if !static_calls::function(run, site.key).certain {
            let conditional = site.tail && run.memory.from(site.address).first() == Some(&0x0f);
            let (address, len, forms) = match (site.tail, conditional) {
                (_, true) => (site.address + 2, 4, Forms::StaticCondition),
                (true, _) => (site.address, 5, Forms::StaticTail),
                (false, _) => (site.address, 5, Forms::StaticCall),
            };
            run.plan.undetermined.push(Undetermined { address, len, pass: Pass::StaticCalls, row, forms });
        }
    }
    for (row, trampoline) in (0..).zip(&tables.trampolines) {
        if !trampoline.key.is_some_and(|key| static_calls::function(run, key).certain) {
            let forms = Forms::StaticTail;
            run.plan.undetermined.push(Undetermined {
                address: trampoline.address,
                len: 5,
                pass: Pass::Trampolines,
                row,
                forms,
            });
        }
    }
    for (index, constant) in (0..).zip(&tables.constants) {
        if !run.boot.constants.get(&constant.table.section).is_some_and(|known| known.certain) {
            for (row, address) in constant.table.rows() {
                let forms = Forms::Constant(index);
                run.plan.undetermined.push(Undetermined {
                    address,
                    len: constant.width,
                    pass: Pass::RuntimeConst,
                    row,
                    forms,
                });
            }
        }
    }
    run.plan.undetermined.sort_by_key(|bytes| bytes.address);
    for (first, second) in run.plan.undetermined.iter().zip(run.plan.undetermined.iter().skip(1)) {
        if second.address - first.address < first.len.into() {
            let why = format!("overlaps {} row {} at {:#x}", first.pass.name(), first.row, first.address);
            let error = Error::table(why).in_section(second.pass.name());
            return Err(error.at_row(second.row as usize).at_address(second.address));
        }
    }
    Ok(())
}

impl Plan {
    /// The forms that undetermined bytes may take, in hex, `??` where a byte may be any.
    pub fn patterns(&self, which: &Undetermined) -> Vec<String> {
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
                let fixed = [&ZERO[..], &WARN, &UNLOCK].into_iter().chain(nops);
                std::iter::once(any(&[CALL], len)).chain(fixed.map(hex)).collect()
            }
            Forms::StaticTail => vec![any(&[JMP], len), hex(&RET5), hex(&NULL_TRAMPOLINE)],
            Forms::StaticCondition | Forms::Thunk { .. } | Forms::Constant(_) => vec![any(&[], len)],
        }
    }

    /// Whether these bytes are one of the forms that undetermined ones may take. `function` tells of an address whether a
    /// function begins there.
    pub fn admits(&self, which: &Undetermined, found: &[u8], function: impl Fn(u64) -> bool) -> bool {
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
            (Forms::StaticCall, [CALL, a, b, c, d]) | (Forms::StaticTail, [JMP, a, b, c, d]) => {
                function(target([*a, *b, *c, *d]))
            }
            (Forms::StaticCall, _) => {
                [ZERO, WARN, UNLOCK].iter().any(|form| found == form)
                    || matches!(
                        found,
                        [0x0f, 0x1f, 0x44, 0, 0] | [0x66, 0x66, 0x66, 0x66, 0x90] | [0x3e, 0x8d, _, 0x20 | 0x26, 0]
                    )
            }
            (Forms::StaticTail, _) => found == RET5 || found == NULL_TRAMPOLINE,
            (Forms::StaticCondition, [a, b, c, d]) => function(target([*a, *b, *c, *d])),
            (Forms::Thunk { offset, .. }, [a, b, c, d]) => target([*a, *b, *c, *d]) & 0xfff == u64::from(*offset),
            (Forms::Constant(_), _) => found.len() == usize::from(which.len),
            _ => false,
        }
    }
}
