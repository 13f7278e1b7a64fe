//! Branches into the middle of a site. The kernel replaces a site as a whole: a jump behind its first byte would land
//! within another instruction, so no kernel may have such a branch.
//!
//! 1. Every byte inside a site, its first one excepted, is marked in a bitmap.
//! 2. Every byte of code is taken for the opcode of a direct branch where it can be one, and is a candidate where that
//!    branch would land on a marked byte. Nothing is decoded: this finds all real branches, and some thousand bytes of
//!    operands that look like one.
//! 3. Around each candidate the code is decoded, from the last address before it that starts an instruction for certain: a
//!    symbol, a site or a replacement. Only a candidate that is an instruction remains.
//!
//! Legal, and left out: branches from within the same site (its own loops and skips), and those from a replacement into the
//! site it is for, which run in the place of that site.

use super::Tables;
use super::code::Code;
use crate::image::{Bits, Image};
use crate::insn::{Sweep, Swept};

/// Bytes looked at together.
const BLOCK: usize = 64;

/// A direct branch that lands behind the first byte of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intrusion {
    /// Address of the branch.
    pub from: u64,
    /// Where it goes.
    pub to: u64,
    /// Address of the site; of several around `to` the lowest that `from` is not part of.
    pub site_address: u64,
}

/// The direct branches (`call` and `jmp`, `jcc`, `loop`, `jrcxz`; of 8 and 32 bits) anywhere in the code that land in the
/// middle of a site, by address. Sites are those of paravirt, alternatives, retpolines, returns, static calls and their
/// trampolines, and jump labels.
pub fn intrusions(image: &Image, tables: &Tables) -> Vec<Intrusion> {
    let code = Code::of(image);
    let sites = Sites::of(&code, tables);
    let inside = Inside::of(&code, &sites);
    let starts = Starts { image, sites: &sites };
    let mut found = Vec::new();
    let mut candidates = Vec::new();
    for (own, (address, bytes)) in code.ranges().enumerate() {
        candidates.clear();
        scan(image.bits(), address, bytes, |to| inside.holds(own, to), &mut candidates);
        confirm(image.bits(), address, bytes, &mut candidates, &starts, |from, to| {
            found.extend(sites.intruded(from, to).map(|site_address| Intrusion { from, to, site_address }));
        });
    }
    found
}

/// What is rewritten, as a whole.
struct Sites {
    /// Address and length of the longest row there, by address.
    rows: Vec<(u64, u8)>,
    /// Replacement, site and the replacement's length, sorted.
    replacements: Vec<(u64, u64, u8)>,
}

impl Sites {
    fn of(code: &Code<'_>, tables: &Tables) -> Sites {
        // Direct branches: five bytes, six with a condition or a prefix.
        let branch =
            |address: u64| (address, if matches!(code.from(address), Some([0x0f | 0x2e, ..])) { 6 } else { 5 });
        let alternatives = || tables.alternatives.iter().flat_map(|table| &table.rows);
        let mut rows: Vec<(u64, u8)> = Vec::new();
        rows.extend(tables.paravirt.iter().flat_map(|table| &table.sites).map(|s| (s.address, s.len)));
        rows.extend(alternatives().map(|row| (row.address, row.len)));
        rows.extend(tables.retpolines.rows().map(|(_, address)| branch(address)));
        rows.extend(tables.returns.rows().map(|(_, address)| branch(address)));
        rows.extend(tables.static_calls.iter().map(|c| branch(c.address)));
        rows.extend(tables.trampolines.iter().map(|t| (t.address, 5)));
        rows.extend(tables.jump_labels.iter().map(|l| (l.address, l.len)));
        // Tables are in order, or nearly: the stable sort makes use of that.
        rows.sort();
        rows.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = next.1;
            }
            same
        });
        let mut replacements: Vec<_> =
            alternatives().map(|row| (row.replacement, row.address, row.replacement_len)).collect();
        replacements.sort();
        Sites { rows, replacements }
    }

    /// The site that a branch between these addresses intrudes upon.
    fn intruded(&self, from: u64, to: u64) -> Option<u64> {
        let first = self.rows.partition_point(|row| row.0 < to.saturating_sub(u8::MAX.into()));
        let within = |address: u64, start: u64, len: u8| address.wrapping_sub(start) < len.into();
        let around = self.rows[first..].iter().take_while(|row| row.0 < to).filter(|row| within(to, row.0, row.1));
        around.filter(|row| !within(from, row.0, row.1)).map(|row| row.0).find(|&site| !self.replaces(from, site))
    }

    /// Whether this address is in a replacement for the site.
    fn replaces(&self, address: u64, site: u64) -> bool {
        (0..u8::MAX).any(|at| {
            let Some(start) = address.checked_sub(at.into()) else { return false };
            // The longest of several rows.
            let after = self.replacements.partition_point(|row| (row.0, row.1) <= (start, site));
            let row = after.checked_sub(1).map(|i| self.replacements[i]);
            row.is_some_and(|(replacement, of, len)| (replacement, of) == (start, site) && at < len)
        })
    }
}

/// A bit for each byte of code: whether it is inside a site, and not its first.
struct Inside {
    areas: Vec<Area>,
}

struct Area {
    start: u64,
    len: u64,
    /// Empty where no byte is inside a site.
    bits: Vec<u64>,
}

impl Inside {
    fn of(code: &Code<'_>, sites: &Sites) -> Inside {
        let area = |(start, bytes): (u64, &[u8])| Area { start, len: bytes.len() as u64, bits: Vec::new() };
        let mut inside = Inside { areas: code.ranges().map(area).collect() };
        let mut own = 0;
        for &(address, len) in &sites.rows {
            // Both are by address.
            while inside.areas.get(own).is_some_and(|area| address >= area.start.saturating_add(area.len)) {
                own += 1;
            }
            let Some(area) = inside.areas.get_mut(own).filter(|area| area.start <= address) else { continue };
            if area.bits.is_empty() {
                area.bits = vec![0; (area.len as usize).div_ceil(64)];
            }
            let at = address - area.start;
            for at in at + 1..(at + u64::from(len)).min(area.len) {
                area.bits[(at / 64) as usize] |= 1 << (at % 64);
            }
        }
        inside
    }

    /// Whether this address is inside a site. Most branches stay in their own section.
    #[inline]
    fn holds(&self, own: usize, address: u64) -> bool {
        self.areas[own].holds(address).unwrap_or_else(|| self.elsewhere(address))
    }

    fn elsewhere(&self, address: u64) -> bool {
        let after = self.areas.partition_point(|area| area.start <= address);
        after.checked_sub(1).and_then(|i| self.areas[i].holds(address)).unwrap_or(false)
    }
}

impl Area {
    /// `None` where the address is not of this section.
    #[inline]
    fn holds(&self, address: u64) -> Option<bool> {
        let at = address.wrapping_sub(self.start);
        (at < self.len).then(|| self.bits.get((at / 64) as usize).is_some_and(|word| word >> (at % 64) & 1 != 0))
    }
}

/// Bytes that would be a branch, if an instruction started there. Offsets are from the start of the section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Where its opcode is; there may be prefixes before it.
    at: usize,
    /// Where it ends.
    end: usize,
    /// Where it goes.
    to: u64,
}

/// Whether a byte is the last of a direct branch's opcode, after the byte before it.
#[inline]
fn opens(byte: u8, before: u8) -> bool {
    // jcc, loop and jrcxz, jmp of 8 bits; call and jmp of 32 bits; jcc of 32 bits.
    let short = (byte & 0xf0 == 0x70) | (byte & 0xfc == 0xe0) | (byte == 0xeb);
    short | (byte & 0xfe == 0xe8) | ((byte & 0xf0 == 0x80) & (before == 0x0f))
}

/// Every candidate of a section, in any order: a superset of the branches that land where `inside` says.
fn scan(bits: Bits, address: u64, code: &[u8], inside: impl Fn(u64) -> bool, out: &mut Vec<Candidate>) {
    let mask = match bits {
        Bits::B32 => 0xffff_ffff,
        Bits::B64 => u64::MAX,
    };
    let mut look = |opcode: usize| {
        let byte = code[opcode];
        let (end, distance) = if byte & 0xf0 == 0x70 || byte & 0xfc == 0xe0 || byte == 0xeb {
            let Some(&distance) = code.get(opcode + 1) else { return };
            (opcode + 2, i64::from(distance as i8))
        } else {
            let Some(distance) = code[opcode + 1..].first_chunk() else { return };
            (opcode + 5, i64::from(i32::from_le_bytes(*distance)))
        };
        let to = address.wrapping_add(end as u64).wrapping_add(distance as u64) & mask;
        if inside(to) {
            let at = if byte & 0xf0 == 0x80 { opcode - 1 } else { opcode };
            out.push(Candidate { at, end, to });
        }
    };
    if code.first().is_some_and(|&byte| opens(byte, 0)) {
        look(0);
    }
    // Each byte from the second on beside the one before it, in blocks the compiler makes vectors of.
    let after = code.get(1..).unwrap_or_default();
    let (blocks, _) = after.as_chunks::<BLOCK>();
    let (befores, _) = code.as_chunks::<BLOCK>();
    let mut done = 1;
    for (block, before) in blocks.iter().zip(befores) {
        let mut hits = opening(block, before);
        while hits != 0 {
            look(done + hits.trailing_zeros() as usize);
            hits &= hits - 1;
        }
        done += BLOCK;
    }
    for opcode in done..code.len() {
        if opens(code[opcode], code[opcode - 1]) {
            look(opcode);
        }
    }
}

/// A bit for each byte that [`opens`] a branch.
#[inline]
fn opening(block: &[u8; BLOCK], before: &[u8; BLOCK]) -> u64 {
    let mut flags = [0u8; BLOCK];
    for ((flag, &byte), &before) in flags.iter_mut().zip(block).zip(before) {
        *flag = u8::from(opens(byte, before));
    }
    let mut hits = 0;
    for (i, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // Eight bytes of 0 or 1 to eight bits: the product's highest byte has each where it belongs.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        hits |= bits << (8 * i);
    }
    hits
}

/// Where instructions start for certain.
struct Starts<'a> {
    image: &'a Image,
    sites: &'a Sites,
}

impl Starts<'_> {
    /// The last of them that is not behind this address.
    fn before(&self, address: u64) -> Option<u64> {
        let last = |after: usize| after.checked_sub(1);
        let rows = &self.sites.rows;
        let site = last(rows.partition_point(|row| row.0 <= address)).map(|i| rows[i].0);
        let rows = &self.sites.replacements;
        let replacement = last(rows.partition_point(|row| row.0 <= address)).map(|i| rows[i].0);
        // Without symbols there are the sites, and the start of the section.
        let symbols = self.image.symbols().ok().flatten();
        let symbol = symbols.and_then(|s| s.at(address)).map(|(_, offset)| address - offset);
        site.max(replacement).max(symbol)
    }
}

/// Calls `each` with the address and target of the candidates that are instructions, by address.
fn confirm(
    bits: Bits,
    address: u64,
    code: &[u8],
    candidates: &mut [Candidate],
    starts: &Starts<'_>,
    mut each: impl FnMut(u64, u64),
) {
    candidates.sort();
    let mut sweep = Sweep::new(bits, address, code);
    let mut last: Option<Swept> = None;
    for candidate in candidates {
        let start = starts.before(address + candidate.at as u64).and_then(|start| start.checked_sub(address));
        // A start in another section is none of this one; what was decoded on the way to the last candidate is not again.
        let start = start.map_or(0, |start| start as usize);
        if start > sweep.position() || last.is_some_and(|s| s.start < start && start < s.end) {
            sweep.seek(start);
            last = None;
        }
        while sweep.position() <= candidate.at {
            last = sweep.next();
            if last.is_none() {
                break;
            }
        }
        let Some(insn) = last else { continue };
        if insn.start <= candidate.at && insn.end == candidate.end && insn.target == Some(candidate.to) {
            each(address + insn.start as u64, candidate.to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As plain as can be: each offset, each opcode.
    fn naive(bits: Bits, address: u64, code: &[u8]) -> Vec<Candidate> {
        let mut found = Vec::new();
        for at in 0..code.len() {
            let (opcode, len) = match code[at..] {
                [0x70..=0x7f | 0xe0..=0xe3 | 0xeb, _, ..] => (1, 1),
                [0xe8 | 0xe9, _, _, _, _, ..] => (1, 4),
                [0x0f, 0x80..=0x8f, _, _, _, _, ..] => (2, 4),
                _ => continue,
            };
            let end = at + opcode + len;
            let mut distance = [if code[end - 1] >= 0x80 { 0xff } else { 0 }; 8];
            distance[..len].copy_from_slice(&code[at + opcode..end]);
            let to = address.wrapping_add(end as u64).wrapping_add(u64::from_le_bytes(distance));
            found.push(Candidate { at, end, to: if bits == Bits::B32 { to & 0xffff_ffff } else { to } });
        }
        found
    }

    fn scanned(bits: Bits, address: u64, code: &[u8], inside: impl Fn(u64) -> bool) -> Vec<Candidate> {
        let mut found = Vec::new();
        scan(bits, address, code, inside, &mut found);
        found.sort();
        found
    }

    /// Bytes with many opcodes among them, and small distances.
    fn code() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            any::<u8>(),
            prop::sample::select(vec![0x0f, 0x80, 0x84, 0x8f, 0x70, 0x7f, 0xe0, 0xe3, 0xe8, 0xe9, 0xeb, 0, 0xff, 2]),
        ];
        prop::collection::vec(byte, 0..400)
    }

    proptest! {
        #[test]
        fn the_scan_finds_what_a_naive_one_does(code in code(), wide: bool, address: u32, odd: bool) {
            let bits = if wide { Bits::B64 } else { Bits::B32 };
            let inside = |to: u64| odd || to.is_multiple_of(3);
            let mut expected = naive(bits, address.into(), &code);
            expected.retain(|c| inside(c.to));
            prop_assert_eq!(scanned(bits, address.into(), &code, inside), expected);
        }

        #[test]
        fn no_branch_of_the_decoder_escapes_the_scan(code in code(), wide: bool) {
            let (bits, address) = if wide { (Bits::B64, 0xffff_ffff_8100_0000) } else { (Bits::B32, 0xc100_0000) };
            let found = scanned(bits, address, &code, |_| true);
            for insn in Sweep::new(bits, address, &code) {
                let Some(to) = insn.target else { continue };
                // xbegin (c7 f8) branches on abort only, and with 66 a target has 16 bits: no kernel's code is there.
                if to <= 0xffff || code[insn.start..insn.end].windows(2).any(|two| two == [0xc7, 0xf8]) {
                    continue;
                }
                prop_assert!(found.iter().any(|c| c.end == insn.end && c.to == to), "{insn:x?}");
            }
        }
    }
}
