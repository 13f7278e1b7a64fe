//! What memory holds where it does not hold the kernel asked for.

use memchr::memmem;

use super::histogram::{Histogram, NOISE};
use super::read::{CHUNK, Place, Progress, Source};
use super::search::{Score, Search};
use crate::error::{Error, Result};
use crate::image::banner::is_whole;
use crate::image::text;
use crate::numbers::u32_at;

/// What every kernel's banner begins with.
const BANNER: &[u8] = b"Linux version ";
/// More than any banner.
const MAX_BANNER: usize = 1024;
/// How many different banners are kept.
const MAX_BANNERS: usize = 16;
/// How many places are looked at closely.
const MAX_TRIED: usize = 64;
/// What a kernel's place is a multiple of, wherever it is.
const PAGE: u64 = 4096;

/// Goes through all of memory for the kernel's banner: the image's own may lie where kernels do not, and another tells what
/// is there. The error says what that is.
pub(super) fn sweep(search: &Search<'_>, progress: Progress<'_>) -> Result<Place> {
    let memory = search.memory;
    let ours = search.image.banner();
    let linked = ours.and_then(|banner| address_of(search, banner.as_bytes()));
    let finder = memmem::Finder::new(BANNER);
    let mut banners: Vec<String> = Vec::new();
    let mut histogram = Histogram::default();
    let mut buffer = vec![0; CHUNK + MAX_BANNER];
    let (mut done, total) = (0, memory.physical.size());
    let mut tried = 0;
    for extent in memory.physical.extents() {
        let mut at = 0;
        while at < extent.size {
            progress(done + at, total)?;
            let written = memory.written(extent, extent.address + at) - extent.address;
            if written >= extent.size {
                break;
            }
            if written >= at + CHUNK as u64 {
                at = written - written % PAGE;
                continue;
            }
            let n = buffer.len().min(usize::try_from(extent.size - at).unwrap_or(usize::MAX));
            let part = &mut buffer[..n];
            let address = extent.address + at;
            memory.read_physical(address, part)?;
            histogram.add(&part[..n.min(PAGE as usize)]);
            for start in finder.find_iter(part).take_while(|&start| start < CHUNK) {
                let Some(banner) = banner(&part[start..]) else { continue };
                if ours == Some(banner)
                    && let Some(linked) = linked
                    && tried < MAX_TRIED
                {
                    tried += 1;
                    let delta = (address + start as u64).wrapping_sub(linked);
                    if delta.is_multiple_of(PAGE) && search.is_at(Place::Physical(delta))? {
                        return Ok(Place::Physical(delta));
                    }
                }
                // A kernel's weak banner is no other build's.
                let says = is_whole(banner) || ours == Some(banner);
                if says && banners.len() < MAX_BANNERS && !banners.iter().any(|known| known == banner) {
                    banners.push(banner.to_owned());
                }
            }
            at += CHUNK as u64;
        }
        done += extent.size;
    }
    Err(missing(search, &banners, &histogram))
}

/// Says what memory holds, by the banners in it.
fn missing(search: &Search<'_>, banners: &[String], histogram: &Histogram) -> Error {
    let image = search.image;
    let release = image.release().unwrap_or("an image without a banner");
    let of =
        |banner: &str| banner.strip_prefix("Linux version ").and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    if search.memory.physical.size() == 0 {
        let mut reason = format!("{release} is at none of the addresses it can slide to");
        if let Source::Reader(reader) = &search.memory.source
            && let Some(complaint) = reader.complaint()
        {
            reason.push_str(&format!("; the reader says: {complaint}"));
        }
        return Error::memory(reason);
    }
    if image.banner().is_some_and(|ours| banners.iter().any(|banner| banner == ours)) {
        return Error::memory(format!(
            "has the banner of {release}, but its code and constants nowhere: memory is incomplete, or is of another build"
        ));
    }
    if let Some(other) = banners.iter().find(|banner| of(banner).as_deref() == image.release()) {
        return Error::memory(another_build(release, other, image.banner()));
    }
    if !banners.is_empty() {
        let mut others: Vec<String> = banners.iter().filter_map(|banner| of(banner)).collect();
        others.dedup();
        return Error::memory(format!("is of another kernel: it has {}, not {release}", others.join(", ")));
    }
    let bits = histogram.bits();
    Error::memory(if bits > NOISE {
        format!("is encrypted, compressed or noise: {bits:.2} bits of information a byte, and no kernel")
    } else if histogram.is_zero() {
        "holds nothing but zeros".to_owned()
    } else {
        format!("holds no Linux kernel: {release} is at no place it can be, and no banner of another was found")
    })
}

fn another_build(release: &str, found: &str, ours: Option<&str>) -> String {
    // The end of a banner says when it was built, and by Debian which version it is.
    let tail = |banner: &str| banner.find('#').map_or(banner, |at| &banner[at..]).to_owned();
    let ours = ours.map_or_else(|| "without a banner".to_owned(), tail);
    format!("is of another build of {release}: it has {}, the image is {ours}", tail(found))
}

/// Refuses a place that holds another build: its own banner, or its build ID, is there and is another.
pub(super) fn check_build(search: &Search<'_>, place: Place) -> Result<()> {
    let image = search.image;
    let release = image.release().unwrap_or("this kernel");
    if let Some(ours) = image.banner()
        && let Some(address) = address_of(search, ours.as_bytes())
    {
        let mut bytes = vec![0; MAX_BANNER];
        let unread = search.memory.fill(place, search.text.start, address, &mut bytes)?;
        if unread.first().is_none_or(|gap| gap.start > address)
            && let Some(found) = banner(&bytes)
            && found != ours
        {
            return Err(Error::memory(another_build(release, found, Some(ours))));
        }
    }
    if let Some(notes) = image.section(".notes")
        && let Some(ours) = build_id(image.section_bytes(notes))
    {
        let mut bytes = vec![0; image.section_bytes(notes).len()];
        let unread = search.memory.fill(place, search.text.start, notes.address, &mut bytes)?;
        if unread.is_empty() && build_id(&bytes).is_some_and(|found| found != ours) {
            let found: String = build_id(&bytes).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(Error::memory(format!("is of another build of {release}: its build ID is {found}")));
        }
    }
    Ok(())
}

/// Of fewer places than these in its text that no site is near, an image is not known again: every one may be rewritten.
const DECISIVE: usize = 8;

/// Says what a file is that is as long as the image's text, but is not it; nothing where too few places tell.
pub(super) fn raw_text(search: &Search<'_>, score: Score) -> Result<Option<Error>> {
    let mut histogram = Histogram::default();
    let mut page = vec![0; PAGE as usize];
    for address in search.text.clone().step_by(CHUNK / 8) {
        let page = &mut page[..PAGE.min(search.text.end - address) as usize];
        let unread = search.memory.fill(Place::Text, search.text.start, address, page)?;
        if unread.is_empty() {
            histogram.add(page);
        }
    }
    let bits = histogram.bits();
    let release = search.image.release().unwrap_or("this kernel");
    let (same, read) = score.text;
    Ok(if histogram.is_zero() {
        Some(Error::memory("holds nothing but zeros"))
    } else if bits > NOISE {
        Some(Error::memory(format!("is encrypted, compressed or noise: {bits:.2} bits of information a byte")))
    } else if read >= DECISIVE {
        let what = format!("is not the text of {release}, or of another build of it");
        Some(Error::memory(format!("{what}: {same} of {read} places are as built")))
    } else {
        None
    })
}

/// The banner at the start of bytes: text up to its line end, as `linux_banner` has it.
fn banner(bytes: &[u8]) -> Option<&str> {
    let bytes = &bytes[..bytes.len().min(MAX_BANNER)];
    let end = memchr::memchr2(0, b'\n', bytes)?;
    // The kernel's log has it without a line end; only the constant itself counts.
    (bytes.get(end) == Some(&b'\n') && bytes.get(end + 1) == Some(&0)).then_some(())?;
    let text = text::of(bytes[..end].trim_ascii_end())?;
    let rest = text.strip_prefix("Linux version ")?;
    (rest.starts_with(|c: char| c.is_ascii_digit()) && text.contains(" (") && text.contains('#')).then_some(text)
}

/// Where the image has these bytes, in its constants.
fn address_of(search: &Search<'_>, bytes: &[u8]) -> Option<u64> {
    let rodata = search.image.section(".rodata")?;
    Some(rodata.address + memmem::find(search.image.section_bytes(rodata), bytes)? as u64)
}

/// The GNU build ID among notes.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let word = |at: usize| u32_at(notes, at).map(|word| word as usize);
        let (name, size, kind) = (word(0)?, word(4)?, word(8)?);
        let start = name.checked_next_multiple_of(4)?.checked_add(12)?;
        let description = notes.get(start..)?.get(..size)?;
        if kind == 3 && notes.get(12..)?.starts_with(b"GNU\0") {
            return Some(description);
        }
        notes = notes.get(start.checked_add(size.checked_next_multiple_of(4)?)?..)?;
    }
}
