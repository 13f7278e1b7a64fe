//! What the search for an image asks of a place: how much of the image is there.

use std::ops::Range;

use super::read::{Memory, Place};
use super::signatures::{Signature, Signatures, WIDTH};
use crate::error::Result;
use crate::image::Image;

/// How much of an image is at a place: (as built, read) of the places compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Score {
    pub rodata: (usize, usize),
    pub text: (usize, usize),
}

impl Score {
    /// Whether it is this image. Constants decide where they can be read; code is rewritten at boot, mostly in part.
    pub fn accepts(self) -> bool {
        let (same, read) = self.rodata;
        if read > 0 { 4 * same >= 3 * read } else { self.text.1 > 0 && 2 * self.text.0 >= self.text.1 }
    }

    pub fn same(self) -> usize {
        self.rodata.0 + self.text.0
    }
}

/// A search for one image in one memory.
pub(super) struct Search<'a> {
    pub memory: &'a Memory,
    pub image: &'a Image,
    pub signatures: Signatures<'a>,
    pub text: Range<u64>,
}

impl Search<'_> {
    /// How much of the image is at a place.
    pub(super) fn score(&self, place: Place) -> Result<Score> {
        Ok(Score { rodata: self.same(place, &self.signatures.rodata)?, text: self.same(place, &self.signatures.text)? })
    }

    /// How many signatures are as built, and how many could be read.
    fn same(&self, place: Place, signatures: &[Signature<'_>]) -> Result<(usize, usize)> {
        let (mut same, mut read) = (0, 0);
        let mut buffer = [0; WIDTH];
        for signature in signatures {
            if self.memory.fill(place, self.text.start, signature.address, &mut buffer)?.is_empty() {
                read += 1;
                same += usize::from(buffer == signature.bytes);
            }
        }
        Ok((same, read))
    }

    /// Whether the image is at a place: a few signatures first.
    pub(super) fn is_at(&self, place: Place) -> Result<bool> {
        let mut buffer = [0; WIDTH];
        for signature in self.signatures.few() {
            let read = self.memory.fill(place, self.text.start, signature.address, &mut buffer)?.is_empty();
            if read && buffer == signature.bytes {
                return Ok(self.score(place)?.accepts());
            }
        }
        Ok(false)
    }
}
