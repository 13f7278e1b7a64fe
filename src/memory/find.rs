//! Finds an image in memory: where it lies, and how far it slid.
//!
//! A kernel lies at few places: at a multiple of 2 MiB in physical memory (`CONFIG_PHYSICAL_ALIGN` on x86-64 is a multiple
//! of that, and Debian's on i386), at a multiple of that from where it was linked in virtual memory. At each, a few bytes
//! are compared. Only where that finds nothing, memory is gone through for the kernel's banner, which finds kernels that
//! lie elsewhere, and tells what is there instead.

use super::identify;
use super::kaslr::{self, Votes};
use super::kind::MemoryKind;
use super::location::Location;
use super::pagetables;
use super::read::{Memory, Place, Progress};
use super::search::{Score, Search};
use super::signatures::Signatures;
use crate::error::{Error, Result};
use crate::image::{Bits, ContainerKind, Image};

/// What a kernel's place is a multiple of.
const ALIGN: u64 = 2 << 20;
/// What it is a multiple of on i386 at least (`CONFIG_PHYSICAL_ALIGN`).
const SMALL_ALIGN: u64 = 0x2000;
/// How far kernels slide: `KERNEL_IMAGE_SIZE` of x86-64, more than that of i386.
const FARTHEST: u64 = 1 << 30;
/// How far below where it was linked a kernel of i386 may run: `CONFIG_PHYSICAL_START` is rarely more. Up to 3.10 it runs where
/// its loader put it (arch/x86/boot/compressed/head_32.S), and many put it at 1 MiB.
const LOWEST: u64 = 16 << 20;
/// How many places that hold the image are looked at closely: copies of a kernel's file are data like any other.
const MAX_COPIES: usize = 16;
/// How many places are tried between two reports of progress.
const REPORT: u64 = 1024;

impl Memory {
    /// Finds where an image lies in this memory, and how far it slid. `progress` is noted where that takes long.
    ///
    /// The error says what is there instead: another kernel, another build of the same release, noise, nothing.
    pub fn find(&self, image: &Image, progress: Progress<'_>) -> Result<Location> {
        find(self, image, progress).map_err(|error| error.in_file(&self.name))
    }
}

fn find(memory: &Memory, image: &Image, progress: Progress<'_>) -> Result<Location> {
    let Some(text) = image.section(".text").filter(|section| section.bits_present && section.size > 0) else {
        return Err(Error::memory(format!("{} has no .text to look for", image.name())));
    };
    let search = Search { memory, image, signatures: Signatures::new(image), text: text.address..text.end() };
    if search.signatures.rodata.is_empty() && search.signatures.text.is_empty() {
        return Err(Error::memory(format!("{} has nothing to be known by", image.name())));
    }
    if memory.kind == MemoryKind::Plain && memory.physical.size() == text.size {
        return search.raw_text();
    }
    let places = match memory.kind {
        MemoryKind::Live => search.virtual_places(progress)?,
        _ if memory.physical.size() == 0 => search.virtual_places(progress)?,
        _ => match search.physical_places(progress)? {
            none if none.is_empty() && memory.virtual_.size() > 0 => search.virtual_places(progress)?,
            places => places,
        },
    };
    let places = match places.as_slice() {
        [] => vec![identify::sweep(&search, progress)?],
        _ => places,
    };
    search.judge(&places)
}

impl Search<'_> {
    /// The places in physical memory that hold the image.
    fn physical_places(&self, progress: Progress<'_>) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let (mut done, total) = (0, self.memory.physical.size());
        let mut tried = 0u64;
        let (below, above) = self.signatures.reach(self.text.start);
        for extent in self.memory.physical.extents() {
            let phase = self.text.start % ALIGN;
            let Some(first) = extent.address.saturating_sub(phase).checked_next_multiple_of(ALIGN) else { break };
            let end = extent.address.saturating_add(extent.size);
            let mut at = first.saturating_add(phase);
            while at < end && places.len() < MAX_COPIES {
                tried += 1;
                if tried.is_multiple_of(REPORT) {
                    progress(done + at.saturating_sub(extent.address), total)?;
                }
                let place = Place::Physical(at.wrapping_sub(self.text.start));
                // Where the image lies there is something of it, and holes of a sparse file are zeros.
                let written = self.memory.written(extent, at.saturating_sub(below).max(extent.address));
                let away = written.saturating_sub(at.saturating_add(above)) / ALIGN;
                if away == 0 && self.is_at(place)? {
                    places.push(place);
                }
                let Some(next) = at.checked_add(away.max(1) * ALIGN) else { break };
                at = next;
            }
            done += extent.size;
        }
        Ok(places)
    }

    /// The place in virtual memory that holds the image: what VMCOREINFO says, or one that it can slide to.
    fn virtual_places(&self, progress: Progress<'_>) -> Result<Vec<Place>> {
        let noted = self.memory.notes.vmcoreinfo.as_ref().and_then(|info| info.slide());
        let limit = match self.image.bits() {
            Bits::B64 => FARTHEST,
            Bits::B32 => FARTHEST.min(u64::from(u32::MAX) - self.text.end.min(u64::from(u32::MAX))),
        };
        let near = (0..limit).step_by(ALIGN as usize);
        let between = match self.image.bits() {
            Bits::B64 => 0..0,
            Bits::B32 => 0..limit,
        };
        let below = match self.image.bits() {
            Bits::B64 => 0..0,
            Bits::B32 => SMALL_ALIGN..LOWEST,
        };
        let below = below.step_by(SMALL_ALIGN as usize).map(u64::wrapping_neg);
        let slides = noted.into_iter().chain(near).chain(below).chain(between.step_by(SMALL_ALIGN as usize));
        for (tried, slide) in (0u64..).zip(slides) {
            if tried.is_multiple_of(REPORT) {
                progress(slide.min(limit), limit)?;
            }
            if self.is_at(Place::Virtual(slide))? {
                return Ok(vec![Place::Virtual(slide)]);
            }
        }
        Ok(Vec::new())
    }

    /// The memory is as long as the image's text, and nothing else.
    fn raw_text(&self) -> Result<Location> {
        let score = self.score(Place::Text)?;
        if !(self.signatures.text.is_empty() || score.accepts())
            && let Some(other) = identify::raw_text(self, score)?
        {
            return Err(other);
        }
        let votes = kaslr::votes(self, Place::Text)?;
        let slide = votes.map_or(0, |votes| votes.slide);
        let mut how = vec![format!("as long as .text; {}", described(score))];
        how.extend(votes.map(|votes| votes.to_string()));
        Ok(Location { slide, physical: None, how, place: Place::Text })
    }

    /// Of the places that hold the image, the one where it runs.
    fn judge(&self, places: &[Place]) -> Result<Location> {
        let mut best: Option<(bool, usize, Location)> = None;
        let (mut trouble, mut run) = (None, 0);
        for &place in places {
            match self.slid(place) {
                Ok((mapped, found)) => {
                    run += usize::from(mapped);
                    let same = self.score(place)?.same();
                    if best.as_ref().is_none_or(|(m, s, _)| (mapped, same) > (*m, *s)) {
                        best = Some((mapped, same, found));
                    }
                }
                Err(error) => {
                    trouble.get_or_insert(error);
                }
            }
        }
        match (best, trouble) {
            (Some((_, _, mut found)), _) => {
                self.check_end(&found)?;
                let copies = places.len();
                if copies > 1 && run == 1 {
                    found.how.push(format!("{copies} copies of the image are in memory; this one runs"));
                } else if copies > 1 {
                    // Each copy has page tables of its own.
                    found.how.push(format!(
                        "{copies} copies of the image are in memory, and nothing tells which of them runs: one of those that \
                         are most like the file; the registers of the CPUs would tell (QEMU's dump-guest-memory has them)"
                    ));
                }
                Ok(found)
            }
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::memory("holds no kernel")),
        }
    }

    /// Refuses memory without headers that ends in the middle of the text: nothing else would say that it is truncated.
    fn check_end(&self, found: &Location) -> Result<()> {
        let end = found.physical.map(|address| address.saturating_add(self.text.end - self.text.start));
        let size = self.memory.physical.size();
        match end {
            Some(end) if self.memory.kind == MemoryKind::Plain && end > size => Err(Error::memory(format!(
                "is truncated: .text, found at physical {:#x}, ends at {end:#x}, the file at {size:#x}",
                found.physical.unwrap_or_default()
            ))),
            _ => Ok(()),
        }
    }

    /// How far the image at a place slid, by all that tells; and whether page tables map it there.
    fn slid(&self, place: Place) -> Result<(bool, Location)> {
        identify::check_build(self, place)?;
        let mut how = self.memory.remarks.clone();
        how.push(format!("{}: {}", self.at(place), described(self.score(place)?)));
        let votes = kaslr::votes(self, place)?;
        let noted = self.memory.notes.vmcoreinfo.as_ref().and_then(|info| info.slide());
        let seen = match place {
            Place::Virtual(slide) => Some(slide),
            _ => None,
        };
        let mapped = |slide: u64| match place {
            Place::Physical(delta) => pagetables::confirms(self, delta, slide),
            _ => Ok(None),
        };
        let slide = match (votes, seen.or(noted)) {
            (Some(Votes { slide, .. }), Some(other)) if slide != other => {
                let who = if seen.is_some() { "its place in virtual memory" } else { "VMCOREINFO" };
                let reason = format!("its relocated addresses slid by {slide:#x}, but {who} says {other:#x}");
                return Err(Error::memory(reason));
            }
            (Some(votes), _) => votes.slide,
            (None, Some(slide)) => slide,
            (None, None) => match place {
                Place::Physical(delta) => match pagetables::search(self, delta, ALIGN, FARTHEST)? {
                    Some(slide) => slide,
                    None if self.stays()? => {
                        how.push("its bzImage has no relocations: its addresses are as linked".to_owned());
                        0
                    }
                    None => {
                        return Err(Error::memory(format!(
                            "cannot tell how far the kernel slid: {} does not say where its absolute addresses are, and \
                             no page table was found; give the bzImage (vmlinuz) it was booted from",
                            self.image.name()
                        )));
                    }
                },
                _ => 0,
            },
        };
        if slide != 0 && votes.is_none() && self.image.relocations()?.is_none() {
            return Err(Error::memory(format!(
                "the kernel slid by {slide:#x}, and {} does not say where its absolute addresses are: give the bzImage \
                 (vmlinuz) it was booted from",
                self.image.name()
            )));
        }
        how.extend(votes.map(|votes| votes.to_string()));
        if noted == Some(slide) {
            how.push("VMCOREINFO says the same".to_owned());
        }
        let confirmed = mapped(slide)?;
        how.extend(confirmed.as_ref().cloned());
        let physical = match place {
            Place::Physical(delta) => Some(self.text.start.wrapping_add(delta)),
            _ => None,
        };
        Ok((confirmed.is_some(), Location { slide, physical, how, place }))
    }

    /// Whether the kernel cannot slide: what moves it, `handle_relocations()` of arch/x86/boot/compressed/misc.c, needs the
    /// relocations that follow it in its bzImage.
    fn stays(&self) -> Result<bool> {
        Ok(self.image.container().kind == ContainerKind::BzImage && self.image.relocations()?.is_none())
    }

    fn at(&self, place: Place) -> String {
        let address = |delta: u64| self.text.start.wrapping_add(delta);
        match place {
            Place::Text => ".text alone".to_owned(),
            Place::Physical(delta) => format!(".text at physical {:#x}", address(delta)),
            Place::Virtual(delta) => format!(".text at {:#x}", address(delta)),
        }
    }
}

fn described(Score { rodata, text }: Score) -> String {
    let part = |(same, read): (usize, usize), name: &str| format!("{same} of {read} places of {name} as built");
    match (rodata.1, text.1) {
        (0, _) => part(text, ".text"),
        (_, 0) => part(rodata, ".rodata"),
        _ => format!("{}, {}", part(rodata, ".rodata"), part(text, ".text")),
    }
}
