//! The interrupt descriptor table: where interrupts and exceptions go, what the image's own tables put there.
//!
//! ```c
//! struct idt_data {            /* arch/x86/include/asm/desc_defs.h, since 4.14 (dc20b2d52653) */
//!         unsigned int vector, segment;
//!         struct idt_bits bits;    /* 16 bits */
//!         const void *addr;
//! };
//! struct gate_struct { u16 offset_low, segment; struct idt_bits bits; u16 offset_middle; u32 offset_high, reserved; };
//! ```
//!
//! | vectors | go to |
//! |---|---|
//! | that `def_idts`, `apic_idts` … of arch/x86/kernel/idt.c list | what they list; a page fault in a guest of KVM to `async_page_fault` |
//! | below 32, others | `early_idt_handler_array`, freed since |
//! | from 32 on, others | the stub of the vector in `irq_entries_start` or `spurious_entries_start`; entry code that a driver of the kernel's gave `alloc_intr_gate()` |

use super::heard::{Disagreement, Heard};
use super::pointers::is_code;
use crate::error::Result;
use crate::image::Image;
use crate::image::kallsyms::Symbols;
use crate::memory::Words;
use crate::numbers::u32_at;

/// The tables of `arch/x86/kernel/idt.c`.
const TABLES: [&str; 7] = ["def_idts", "early_idts", "apic_idts", "early_pf_idts", "ia32_idt", "ist_idts", "dbg_idts"];
const VECTORS: u64 = 256;
/// `X86_TRAP_PF`, and where guests of KVM have it go.
const PAGE_FAULT: u64 = 14;
const ASYNC_PAGE_FAULT: &str = "async_page_fault";
/// `FIRST_EXTERNAL_VECTOR`.
const FIRST_EXTERNAL: u64 = 32;
/// A present interrupt gate of the kernel's.
const INTERRUPT: u16 = 0x8e00;
/// Bytes of a stub: `.align 8` of `irq_entries_start`, and 16 with `endbr64`; of early handlers 9 and 13.
const STUBS: std::ops::RangeInclusive<u64> = 8..=16;

/// What a gate says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Gate {
    target: u64,
    segment: u16,
    bits: u16,
}

/// Holds each gate to what may be there.
pub(super) fn judge(words: &Words<'_>, image: &Image, heard: &mut Heard) -> Result<()> {
    let Some(symbols) = image.symbols()? else { return Ok(()) };
    let (Some(table), Some(_)) = (symbols.address_of("idt_table"), symbols.address_of("def_idts")) else {
        heard.unheard.push("idt: the image does not name idt_table and def_idts".to_owned());
        return Ok(());
    };
    let word = image.bits().word();
    let mut bytes = vec![0; VECTORS as usize * 2 * word];
    if !words.bytes(table, &mut bytes)? {
        heard.unheard.push("idt: could not be read".to_owned());
        return Ok(());
    }
    let listed = listed(image, symbols);
    let gates: Vec<(u64, Gate)> = (0..).zip(bytes.chunks_exact(2 * word).map(|bytes| gate(bytes, words))).collect();
    let stub = stubs(symbols, &gates);
    for (vector, gate) in gates {
        let mut listed = listed.iter().filter(|(of, _)| *of == vector).map(|(_, gate)| *gate);
        let first = listed.clone().next();
        if gate.target == 0 && (first.is_none() || vector >= FIRST_EXTERNAL) || listed.any(|listed| listed == gate) {
            continue;
        }
        let legal = gate.bits == INTERRUPT && elsewhere(image, symbols, vector, gate.target);
        // kvm_apf_trap_init(), up to 5.7.
        let awaited = symbols.at(gate.target) == Some((ASYNC_PAGE_FAULT, 0)) && gate.bits == INTERRUPT;
        if vector == PAGE_FAULT && awaited {
            continue;
        }
        if first.is_some_and(|first| vector < FIRST_EXTERNAL || first.target == gate.target) || !legal {
            let stub = || {
                stub.zip(vector.checked_sub(FIRST_EXTERNAL))
                    .map_or(0, |((start, size), at)| start.wrapping_add(size * at))
            };
            let expected = first.map_or_else(stub, |first| first.target);
            let same = expected == gate.target;
            heard.disagreements.push(Disagreement {
                what: if same { "gate_bits" } else { "gate" },
                address: table.wrapping_add(vector * 2 * word as u64),
                which: vector,
                expected: if same { first.map_or(INTERRUPT, |first| first.bits).into() } else { expected },
                found: if same { gate.bits.into() } else { gate.target },
            });
        }
    }
    heard.counts.push(("gate", VECTORS));
    Ok(())
}

/// Where the stubs of interrupts begin, and how long one is: as most gates have it.
fn stubs(symbols: &Symbols, gates: &[(u64, Gate)]) -> Option<(u64, u64)> {
    let start = symbols.address_of("irq_entries_start")?;
    let there = |size: u64| {
        let stub = |&(vector, gate): &(u64, Gate)| {
            vector.checked_sub(FIRST_EXTERNAL).is_some_and(|at| gate.target == start.wrapping_add(size * at))
        };
        gates.iter().filter(|&gate| stub(gate)).count()
    };
    STUBS.max_by_key(|&size| there(size)).filter(|&size| there(size) > 1).map(|size| (start, size))
}

/// A gate of the table, its target as linked.
fn gate(bytes: &[u8], words: &Words<'_>) -> Gate {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let high = u32_at(bytes, 8).unwrap_or(0);
    let target = u64::from(high) << 32 | u64::from(half(6)) << 16 | u64::from(half(0));
    // On i386 the bits stand where they do on x86-64.
    Gate { target: words.linked(target), segment: half(2), bits: half(4) }
}

/// The rows of the tables: each ends where a row makes no sense, or another symbol begins.
fn listed(image: &Image, symbols: &Symbols) -> Vec<(u64, Gate)> {
    let word = image.bits().word();
    let (at, row) = if word == 8 { (16, 24) } else { (12, 16) };
    let mut found = Vec::new();
    for table in TABLES {
        let Some(start) = symbols.address_of(table) else { continue };
        for place in (0..VECTORS).map(|at| start.wrapping_add(at * row)) {
            if place != start && symbols.at(place).is_some_and(|(_, offset)| offset == 0) {
                break;
            }
            let Some(bytes) = image.read(place, row as usize) else { break };
            let number = |at: usize, size: usize| {
                bytes[at..at + size].iter().rev().fold(0, |number: u64, &byte| number << 8 | u64::from(byte))
            };
            let (vector, segment, target) = (number(0, 4), number(4, 4), number(at, word));
            if vector >= VECTORS || segment > 0xffff || !is_code(image, target) {
                break;
            }
            found.push((vector, Gate { target, segment: segment as u16, bits: number(8, 2) as u16 }));
        }
    }
    found
}

/// Whether a vector that no table lists may go there.
fn elsewhere(image: &Image, symbols: &Symbols, vector: u64, target: u64) -> bool {
    let stub = |name: &str, number: u64| {
        let offset = symbols.address_of(name).and_then(|start| target.checked_sub(start));
        offset.is_some_and(|offset| STUBS.clone().any(|size| offset == number * size))
    };
    if vector < FIRST_EXTERNAL {
        return stub("early_idt_handler_array", vector);
    }
    let spurious = (0..=vector - FIRST_EXTERNAL).any(|number| stub("spurious_entries_start", number));
    let within = |start: &str, end: &str| {
        symbols
            .address_of(start)
            .zip(symbols.address_of(end))
            .is_some_and(|(start, end)| (start..end).contains(&target))
    };
    let entry =
        within("__entry_text_start", "__entry_text_end") || within("__irqentry_text_start", "__irqentry_text_end");
    let begins = symbols.at(target).is_some_and(|(_, offset)| offset == 0);
    stub("irq_entries_start", vector - FIRST_EXTERNAL) || spurious || entry && begins && is_code(image, target)
}
