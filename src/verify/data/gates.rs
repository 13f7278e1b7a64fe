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
//! | from 32 on, others | the stub of the vector in `irq_entries_start` or `spurious_entries_start`; where no table lists the vector, entry code that the kernel gives it with `alloc_intr_gate()` (`GIVEN`) |
//!
//! Where the registers of CPUs have another table than `idt_table`, that one is in use: `idt_register`. Each CPU has that of the
//! image, in a mapping of its own for most (`CPU_ENTRY_AREA_RO_IDT`, `FIX_RO_IDT`), or one that is named alike for a while:
//! `bringup_idt_table`, up to 5.8 `debug_idt_table`, up to 4.13 `trace_idt_table`.
//!
//! Where most vectors from 32 on have a gate, all have: `idt_setup_apic_and_irq_gates()`. Under Xen PV none has.
//!
//! Where kallsyms lists functions alone (`CONFIG_KALLSYMS_ALL=n`), the code that fills the table has its address, and those of
//! the tables.

use std::collections::BTreeSet;
use std::ops::Range;

use super::heard::{Disagreement, Heard};
use super::pointers::is_code;
use crate::error::Result;
use crate::image::kallsyms::Symbols;
use crate::image::{Image, code_addresses};
use crate::memory::{InterruptTable, Location, Memory, Words, interrupt_tables};
use crate::numbers::u32_at;

/// The tables of `arch/x86/kernel/idt.c`.
const TABLES: [&str; 7] = ["def_idts", "early_idts", "apic_idts", "early_pf_idts", "ia32_idt", "ist_idts", "dbg_idts"];
/// What has their addresses, and that of `idt_table`.
const SETUP: [&str; 5] = [
    "idt_setup_early_traps",
    "idt_setup_traps",
    "idt_setup_apic_and_irq_gates",
    "idt_setup_early_pf",
    "idt_setup_ist_traps",
];
const VECTORS: u64 = 256;
/// `SPURIOUS_APIC_VECTOR`: up to 5.2 those that nobody asked for go where it goes, if they are behind the first of the APIC's
/// that the tables list (f8a8fe61fec8, 5.3 and stable: to stubs of their own).
const SPURIOUS_APIC: u64 = 0xff;
/// `IA32_SYSCALL_VECTOR`: what tables list behind it is the APIC's.
const SYSTEM_CALL: u64 = 0x80;
/// What the kernel gives vectors that no table lists: `HYPERVISOR_CALLBACK_VECTOR`, `HYPERV_REENLIGHTENMENT_VECTOR` and
/// `HYPERV_STIMER0_VECTOR` (arch/x86/include/asm/irq_vectors.h), of which there are no more up to 7.3.
const GIVEN: [(u64, &[&str]); 3] = [
    (
        0xf3,
        &[
            "xen_hvm_callback_vector",
            "hyperv_callback_vector",
            "acrn_hv_callback_vector",
            "asm_sysvec_xen_hvm_callback",
            "asm_sysvec_hyperv_callback",
            "asm_sysvec_acrn_hv_callback",
            "asm_sysvec_kvm_asyncpf_interrupt",
        ],
    ),
    (0xee, &["hyperv_reenlightenment_vector", "asm_sysvec_hyperv_reenlightenment"]),
    (0xed, &["hv_stimer0_callback_vector", "asm_sysvec_hyperv_stimer0"]),
];
/// What the names of entry code for vectors of the system's are like: up to 5.7, and since then.
const SYSTEM: (&str, &str) = ("_vector", "asm_sysvec_");
/// What the type of a gate says of one that goes to a task, and has no target (`TSKG`, i386).
const TASK: u16 = 5;
/// `X86_TRAP_PF`, and where guests of KVM have it go.
const PAGE_FAULT: u64 = 14;
const ASYNC_PAGE_FAULT: &str = "async_page_fault";
/// Where stubs begin, of interrupts and of those that nobody asked for.
const INTERRUPTS: &str = "irq_entries_start";
const SPURIOUS: &str = "spurious_entries_start";
/// `FIRST_EXTERNAL_VECTOR`.
const FIRST_EXTERNAL: u64 = 32;
/// A present interrupt gate of the kernel's.
const INTERRUPT: u16 = 0x8e00;
/// Bytes of a stub: `.align 8` of `irq_entries_start`, and 16 with `endbr64`; of early handlers 9 and 13.
const STUBS: std::ops::RangeInclusive<u64> = 8..=16;

/// How the names of all tables end that CPUs use.
const NAMED_ALIKE: &str = "_idt_table";
/// The table begins on a page of its own.
const PAGE: u64 = 4096;

/// What a gate says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Gate {
    target: u64,
    /// All but the target: the bits, the segment above them, above these what is reserved.
    rest: u64,
}

/// One that nobody wrote.
const ABSENT: Gate = Gate { target: 0, rest: 0 };

impl Gate {
    fn new(target: u64, bits: u16, segment: u16, reserved: u32) -> Gate {
        Gate { target, rest: u64::from(bits) | u64::from(segment) << 16 | u64::from(reserved) << 32 }
    }

    fn bits(self) -> u16 {
        self.rest as u16
    }
}

/// Stubs of one length, a vector after another.
#[derive(Clone, Copy)]
struct Stubs {
    start: u64,
    size: u64,
    first: u64,
}

impl Stubs {
    /// Those that begin at a symbol, of which the first vector is one of these: as most gates have it.
    fn of(symbols: &Symbols, name: &str, firsts: Range<u64>, gates: &[(u64, Gate)]) -> Option<Stubs> {
        let start = symbols.address_of(name)?;
        let legal =
            |stubs: &Stubs| gates.iter().filter(|(vector, gate)| stubs.of_vector(*vector) == Some(gate.target)).count();
        let all = firsts.flat_map(|first| STUBS.map(move |size| Stubs { start, size, first }));
        all.max_by_key(legal).filter(|stubs| legal(stubs) > 0)
    }

    fn of_vector(&self, vector: u64) -> Option<u64> {
        Some(self.start.wrapping_add(self.size * vector.checked_sub(self.first)?))
    }
}

/// Holds each gate to what may be there, and the registers that say where gates are to the table; below Xen PV these are
/// Xen's.
pub(super) fn judge(
    words: &Words<'_>,
    (memory, found, image): (&Memory, &Location, &Image),
    below_xen: bool,
    heard: &mut Heard,
) -> Result<()> {
    let Some(symbols) = image.symbols()? else { return Ok(()) };
    let held = SETUP.iter().map(|name| code_addresses(image, symbols, name)).collect::<Result<Vec<_>>>()?;
    let held: BTreeSet<u64> = held.into_iter().flatten().collect();
    let listed = listed(image, symbols, &held);
    let Some(table) = table(image, symbols, &held).filter(|_| !listed.is_empty()) else {
        heard.unheard.push("idt: nothing in the image tells where idt_table and def_idts are".to_owned());
        return Ok(());
    };
    let word = image.bits().word();
    let mut bytes = vec![0; VECTORS as usize * 2 * word];
    if !words.bytes(table, &mut bytes)? {
        heard.unheard.push("idt: could not be read".to_owned());
        return Ok(());
    }
    let gates: Vec<(u64, Gate)> = (0..).zip(bytes.chunks_exact(2 * word).map(|bytes| gate(bytes, words))).collect();
    let external = &gates[FIRST_EXTERNAL as usize..];
    let all_have = 2 * external.iter().filter(|(_, gate)| gate.target != 0).count() > external.len();
    let interrupts = Stubs::of(symbols, INTERRUPTS, FIRST_EXTERNAL..FIRST_EXTERNAL + 1, external);
    let spurious = Stubs::of(symbols, SPURIOUS, FIRST_EXTERNAL..VECTORS, external);
    let early = Stubs::of(symbols, "early_idt_handler_array", 0..1, &gates[..FIRST_EXTERNAL as usize]);
    let of_vector = |stubs: Option<Stubs>, vector| stubs.and_then(|stubs| stubs.of_vector(vector));
    let ordinary = listed.iter().map(|(_, gate)| gate.rest).find(|&rest| rest as u16 == INTERRUPT);
    let first_of_apic = listed.iter().map(|&(vector, _)| vector).filter(|&vector| vector > SYSTEM_CALL).min();
    let shared = listed.iter().find(|(vector, _)| *vector == SPURIOUS_APIC).map(|(_, gate)| gate.target);
    let shared = shared.filter(|_| symbols.address_of(SPURIOUS).is_none());
    for &(vector, gate) in &gates {
        let mut rows = listed.iter().filter(|(of, _)| *of == vector).map(|(_, gate)| *gate);
        let first = rows.clone().next();
        let absent = if vector < FIRST_EXTERNAL { first.is_none() } else { !all_have };
        if gate == ABSENT && absent || rows.any(|row| row == gate) {
            continue;
        }
        let plain = gate.bits() == INTERRUPT && ordinary.is_none_or(|rest| rest == gate.rest);
        // kvm_apf_trap_init(), up to 5.7.
        let awaited = vector == PAGE_FAULT && symbols.at(gate.target) == Some((ASYNC_PAGE_FAULT, 0));
        let stub = if vector < FIRST_EXTERNAL {
            first.is_none() && of_vector(early, vector) == Some(gate.target)
        } else {
            [interrupts, spurious].iter().any(|&stubs| of_vector(stubs, vector) == Some(gate.target))
        };
        let of_apic = first_of_apic.is_some_and(|first_of_apic| vector > first_of_apic);
        let unasked = of_apic && first.is_none() && shared == Some(gate.target);
        let given = || {
            vector >= FIRST_EXTERNAL
                && first.is_none()
                && listed.iter().all(|(_, row)| row.target != gate.target)
                && entry(image, symbols, gate.target)
                && is_given(symbols, vector, gate.target)
        };
        if plain && (awaited || stub || unasked || given()) {
            continue;
        }
        let stub = || of_vector(interrupts, vector).unwrap_or(0);
        let expected = first.map_or_else(stub, |first| first.target);
        let none = absent && gate.target == 0;
        let same = none || expected == gate.target;
        let rest = if none { 0 } else { first.map(|first| first.rest).or(ordinary).unwrap_or(INTERRUPT.into()) };
        heard.disagreements.push(Disagreement {
            what: if same { "gate_bits" } else { "gate" },
            address: table.wrapping_add(vector * 2 * word as u64),
            which: vector,
            expected: if same { rest } else { expected },
            found: if same { gate.rest } else { gate.target },
        });
    }
    heard.counts.push(("gate", VECTORS));
    if !below_xen {
        registers(interrupt_tables(memory, found, image)?, table, (image, symbols), heard);
    }
    Ok(())
}

/// Holds the registers of CPUs to where the table is.
fn registers(tables: Vec<InterruptTable>, table: u64, (image, symbols): (&Image, &Symbols), heard: &mut Heard) {
    heard.counts.extend((!tables.is_empty()).then_some(("idt_register", tables.len() as u64)));
    for InterruptTable { cpu, base, lies } in tables {
        let named = |address| symbols.at(address).is_some_and(|(name, at)| at == 0 && name.ends_with(NAMED_ALIKE));
        if lies != Some(table) && !lies.is_some_and(named) {
            let (which, found) = (cpu as u64, lies.filter(|&lies| image.section_at(lies).is_some()).unwrap_or(base));
            heard.disagreements.push(Disagreement {
                what: "idt_register",
                address: table,
                which,
                expected: table,
                found,
            });
        }
    }
}

/// A gate of the table, its target as linked.
fn gate(bytes: &[u8], words: &Words<'_>) -> Gate {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let [high, reserved] = [8, 12].map(|at| u32_at(bytes, at).unwrap_or(0));
    let target = u64::from(high) << 32 | u64::from(half(6)) << 16 | u64::from(half(0));
    // On i386 the bits stand where they do on x86-64.
    Gate::new(words.linked(target), half(4), half(2), reserved)
}

/// Where the table is: by its name, or the one page in `.bss` (`__page_aligned_bss`) of which the code that fills it has the
/// address.
fn table(image: &Image, symbols: &Symbols, held: &BTreeSet<u64>) -> Option<u64> {
    if let Some(table) = symbols.address_of("idt_table") {
        return Some(table);
    }
    let page = |address: u64| {
        let section = image.section_at(address);
        address.is_multiple_of(PAGE) && section.is_some_and(|s| s.writable && !s.executable && s.name == ".bss")
    };
    let mut pages = held.iter().filter(|&&address| page(address));
    pages.next().filter(|_| pages.next().is_none()).copied()
}

/// The rows of the tables: each ends where a row makes no sense, or another symbol begins. Where no table has a name, each
/// address in what is freed after boot that rows begin at is of one.
fn listed(image: &Image, symbols: &Symbols, held: &BTreeSet<u64>) -> Vec<(u64, Gate)> {
    let word = image.bits().word();
    let (at, row) = if word == 8 { (16, 24) } else { (12, 16) };
    let mut found = Vec::new();
    let freed = |address: &&u64| image.section_at(**address).is_some_and(|section| section.name.starts_with(".init"));
    let mut tables: Vec<u64> = TABLES.iter().filter_map(|table| symbols.address_of(table)).collect();
    if tables.is_empty() {
        tables = held.iter().filter(freed).copied().collect();
    }
    for start in tables {
        for place in (0..VECTORS).map(|at| start.wrapping_add(at * row)) {
            if place != start && symbols.at(place).is_some_and(|(_, offset)| offset == 0) {
                break;
            }
            let Some(bytes) = image.read(place, row as usize) else { break };
            let number = |at: usize, size: usize| {
                bytes[at..at + size].iter().rev().fold(0, |number: u64, &byte| number << 8 | u64::from(byte))
            };
            let (vector, segment, bits, target) = (number(0, 4), number(4, 4), number(8, 2) as u16, number(at, word));
            let present = bits & 0x8000 != 0 && segment != 0 && segment <= 0xffff;
            let goes = is_code(image, target) || target == 0 && bits >> 8 & 0x1f == TASK;
            if vector >= VECTORS || !present || !goes {
                break;
            }
            found.push((vector, Gate::new(target, bits, segment as u16, 0)));
        }
    }
    found
}

/// Whether the kernel gives a vector that no table lists this entry code; of code that is not known, what is named as that of
/// the system's vectors may be given to any.
fn is_given(symbols: &Symbols, vector: u64, target: u64) -> bool {
    let known = GIVEN.iter().find(|(_, names)| names.iter().any(|name| symbols.address_of(name) == Some(target)));
    let system = |(name, _): (&str, u64)| name.ends_with(SYSTEM.0) || name.starts_with(SYSTEM.1);
    known.map_or_else(|| symbols.at(target).is_some_and(system), |&(of, _)| of == vector)
}

/// Whether entry code begins there.
fn entry(image: &Image, symbols: &Symbols, target: u64) -> bool {
    let within = |start: &str, end: &str| {
        symbols
            .address_of(start)
            .zip(symbols.address_of(end))
            .is_some_and(|(start, end)| (start..end).contains(&target))
    };
    let entry =
        within("__entry_text_start", "__entry_text_end") || within("__irqentry_text_start", "__irqentry_text_end");
    let begins = symbols.at(target).is_some_and(|(_, offset)| offset == 0);
    entry && begins && is_code(image, target)
}
