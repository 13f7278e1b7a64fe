//! The vDSO: code that the kernel maps into every process. It lies in what is written at boot, since `init_vdso_image()` has
//! its alternatives applied where it stands (arch/x86/entry/vdso/vma.c, arch/x86/vdso/vma.c before 4.2). Nothing else writes
//! there.
//!
//! ```c
//! struct vdso_image {          /* arch/x86/include/asm/vdso.h, since 3.16 (6f121e548f83) */
//!         void *data;
//!         unsigned long size;  /* whole pages */
//!         unsigned long alt, alt_len;
//! ```
//!
//! So it is as in the file, but for the sites of its rows: each of them is as built or has a replacement, and nops behind.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rodata::{Rodata, compare};
use crate::error::Result;
use crate::image::{Image, Section};
use crate::insn::{CALL, JMP, NOP, NOP_TABLES, NopTable};
use crate::memory::{Location, Memory};
use crate::numbers::{i32_at, unsigned};

const PAGE: u64 = 4096;
/// No vDSO has more bytes, no image has more of them, and no constants have the address of one as often.
const LARGEST: u64 = 1 << 20;
const MOST: usize = 8;
const MENTIONS: usize = 16;
/// Bytes of a row, and where the length of its site is; that of the replacement follows. Since 6.3 (a6cb1ce9f8ba: flags), from
/// 4.1 to 5.17 (padding), others.
const LAYOUTS: [(usize, usize); 3] = [(14, 12), (13, 10), (12, 10)];

/// By the start and the end of a site of a vDSO: what may be copied there.
type Sites = BTreeMap<(usize, usize), Vec<Range<usize>>>;

/// Holds each vDSO of the image to the file.
pub(super) fn judge(memory: &Memory, found: &Location, image: &Image, rodata: &mut Rodata) -> Result<()> {
    let Some(section) = image.section(".rodata") else { return Ok(()) };
    let all = there(image, section, &rodata.written);
    rodata.tables.extend(all.first().map(|_| "vDSO".to_owned()));
    for (data, sites) in all {
        let Some(built) = image.read(data.start, (data.end - data.start) as usize) else { continue };
        let mut held = found.read(memory, image, data.clone())?;
        held.settle(found, image, |_| false);
        put_back(built, &mut held.bytes, &sites);
        rodata.vdso.push(data);
        compare(held, built, rodata);
    }
    Ok(())
}

/// Where they are: on a page's boundary is an ELF file, and constants say how long it is.
fn there(image: &Image, section: &Section, written: &Range<u64>) -> Vec<(Range<u64>, Sites)> {
    let word = image.bits().word();
    let constants = image.section_bytes(section);
    let first = written.start.checked_next_multiple_of(PAGE).unwrap_or(written.end);
    let pages = (first..written.end).step_by(PAGE as usize);
    let begins = |page: &u64| image.read(*page, 4).is_some_and(|head| head == b"\x7fELF");
    let mut found: Vec<(Range<u64>, Sites)> = Vec::new();
    for page in pages.filter(begins).take(MOST) {
        let address = page.to_le_bytes();
        let said = memchr::memmem::find_iter(constants, &address[..word]).filter(|at| at % word == 0);
        let mut vdso = said.take(MENTIONS).filter_map(|at| {
            let number = |n: usize| unsigned(constants.get(at + n * word..at + (n + 1) * word)?);
            let (size, alt, len) = (number(1)?, number(2)?, number(3)?);
            let end = page.checked_add(size).filter(|&end| end <= written.end)?;
            let whole = size > 0 && size.is_multiple_of(PAGE) && size <= LARGEST && alt <= size && len <= size - alt;
            let bytes = image.read(page, usize::try_from(size).ok()?).filter(|_| whole)?;
            Some((page..end, sites(bytes, alt as usize..(alt + len) as usize)?))
        });
        let behind = |(data, _): &(Range<u64>, Sites)| found.last().is_none_or(|(last, _)| last.end <= data.start);
        let next = vdso.next().filter(behind);
        found.extend(next);
    }
    found
}

/// The sites of a vDSO's rows, in the one layout that all rows obey.
fn sites(vdso: &[u8], table: Range<usize>) -> Option<Sites> {
    let mut fits = LAYOUTS.iter().filter_map(|&layout| sites_in(vdso, table.clone(), layout));
    let sites = fits.next()?;
    (fits.next().is_none() || table.is_empty()).then_some(sites)
}

fn sites_in(vdso: &[u8], table: Range<usize>, (row, lengths): (usize, usize)) -> Option<Sites> {
    if !table.len().is_multiple_of(row) {
        return None;
    }
    let mut sites = Sites::new();
    for at in table.step_by(row) {
        let place = |field: usize, len: usize| {
            let start = (at + field).checked_add_signed(i32_at(vdso, at + field)? as isize)?;
            start.checked_add(len).filter(|&end| end <= vdso.len()).map(|end| start..end)
        };
        let [len, copied] = [0, 1].map(|of| vdso.get(at + lengths + of).map(|&len| usize::from(len)));
        let (len, copied) = (len?, copied?);
        let padding = if row == 13 { usize::from(*vdso.get(at + 12)?) } else { 0 };
        if len == 0 || copied > len || padding > len {
            return None;
        }
        let site = place(0, len)?;
        let copied = if copied > 0 { place(4, copied)? } else { 0..0 };
        sites.entry((site.start, site.end)).or_default().push(copied);
    }
    Some(sites)
}

/// Puts the built bytes back at every site that holds what the kernel may have left there.
fn put_back(built: &[u8], held: &mut [u8], sites: &Sites) {
    for (&(start, end), copied) in sites {
        let (Some(was), Some(is)) = (built.get(start..end), held.get_mut(start..end)) else { continue };
        let copied = copied.iter().filter_map(|copied| moved(built, copied.clone(), start));
        if copied.chain([was.to_vec()]).any(|code| is_padded(is, &code)) {
            is.copy_from_slice(was);
        }
    }
}

/// A replacement where it is copied to: a call or jump goes where it went (`apply_relocation()`), as those of 32-bit code to
/// `sysenter` do since 7.0.
fn moved(built: &[u8], copied: Range<usize>, to: usize) -> Option<Vec<u8>> {
    let mut code = built.get(copied.clone())?.to_vec();
    if let [CALL | JMP, distance @ ..] = code.as_mut_slice()
        && let Some(distance) = distance.first_chunk_mut()
    {
        let shorter = (copied.start as i32).wrapping_sub(to as i32);
        *distance = i32::from_le_bytes(*distance).wrapping_add(shorter).to_le_bytes();
    }
    Some(code)
}

/// Whether a site holds this code, and nops behind it.
fn is_padded(site: &[u8], code: &[u8]) -> bool {
    let padded = code.iter().rposition(|&byte| byte != NOP).map_or(0, |last| last + 1);
    [code, &code[..padded]].into_iter().any(|code| is_filled(site, code))
}

fn is_filled(site: &[u8], code: &[u8]) -> bool {
    site.strip_prefix(code).is_some_and(|rest| {
        let filled = |table: &NopTable| {
            let mut nops = vec![0; rest.len()];
            table.fill(&mut nops);
            nops == rest
        };
        rest.iter().all(|&byte| byte == NOP) || NOP_TABLES.iter().any(|table| filled(table))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rdtsc` and three nops at 0, for which `lfence; rdtsc` or `rdtscp` may stand, in rows of so many bytes.
    fn vdso((row, lengths): (usize, usize)) -> (Vec<u8>, Range<usize>) {
        let mut bytes = b"\x0f\x31\x90\x90\x90\xc3\xcc\xcc\x0f\xae\xe8\x0f\x31\x0f\x01\xf9".to_vec();
        let start = bytes.len();
        for (copied, len) in [(8, 5), (13, 3)] {
            let at = bytes.len();
            let mut fields = vec![0; row];
            fields[..4].copy_from_slice(&(-(at as i32)).to_le_bytes());
            fields[4..8].copy_from_slice(&(copied - at as i32 - 4).to_le_bytes());
            fields[lengths..lengths + 2].copy_from_slice(&[5, len]);
            bytes.extend(fields);
        }
        let table = start..bytes.len();
        (bytes, table)
    }

    /// Whether memory that has these bytes at the start of a vDSO, and is as built behind them, is explained.
    fn is_explained(built: &[u8], sites: &Sites, site: &[u8]) -> bool {
        let mut held = built.to_vec();
        held[..site.len()].copy_from_slice(site);
        put_back(built, &mut held, sites);
        held == built
    }

    #[test]
    fn a_site_is_as_built_or_has_a_replacement_with_nops_behind_it() {
        for layout in LAYOUTS {
            let (built, table) = vdso(layout);
            let sites = sites(&built, table).unwrap();
            assert_eq!(sites, Sites::from([((0, 5), vec![8..13, 13..16])]), "{layout:?}");
            let legal: [&[u8]; 6] = [
                b"\x0f\x31\x90\x90\x90",
                b"\x0f\x31\x0f\x1f\x00",
                b"\x0f\xae\xe8\x0f\x31",
                b"\x0f\x01\xf9\x66\x90",
                b"\x0f\x01\xf9\x90\x90",
                b"\x0f\x31\x66\x66\x90",
            ];
            let strange: [&[u8]; 3] = [b"\xe9\x00\x10\x00\x00", b"\x0f\x31\x0f\x1f\x40", b"\x0f\x01\xf8\x66\x90"];
            for (site, expected) in legal.map(|site| (site, true)).into_iter().chain(strange.map(|site| (site, false)))
            {
                assert_eq!(is_explained(&built, &sites, site), expected, "{layout:?} {site:x?}");
            }
        }
    }

    #[test]
    fn a_call_that_is_copied_goes_where_it_went() {
        // At 0 `int $0x80` behind prefixes, at 8 a call that goes to 0x20.
        let mut built = b"\x3e\x3e\x3e\xcd\x80\xc3\xcc\xcc\xe8\x13\x00\x00\x00".to_vec();
        built.resize(0x40, 0xcc);
        let sites = Sites::from([((0, 5), vec![0..0, 8..13])]);
        for (site, expected) in [(b"\xe8\x1b\x00\x00\x00", true), (b"\xe8\x13\x00\x00\x00", false)] {
            assert_eq!(is_explained(&built, &sites, site), expected, "{site:x?}");
        }
    }

    #[test]
    fn rows_that_leave_the_vdso_are_none() {
        let (mut built, table) = vdso(LAYOUTS[2]);
        built[table.start + 3] = 0x7f;
        assert_eq!(sites(&built, table), None);
    }
}
