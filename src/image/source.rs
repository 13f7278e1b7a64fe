//! Where the bytes of an image live: mapped, owned, or unpacked into memory of our own.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::error::{Error, Result};

/// The largest image that is unpacked or read from a pipe. A kernel without debug information is some 60 MB; the
/// bound keeps a compression bomb from taking the machine's memory. A mapped ELF file costs no memory and has no bound.
pub const MAX_IMAGE: usize = 1 << 30;

/// Room kept beyond the expected size, so that a decoder finds its end of stream without the memory having to grow.
const SLACK: usize = 4096;

/// How much a decoder is asked for at a time: what fits the second-level cache, so that the filters and checksums which run
/// over each part again find it there, and so that [`UnpackBuffer`] sees early what comes out.
const CHUNK: usize = 256 << 10;

/// Size of a huge page on x86-64.
const HUGE_PAGE: usize = 2 << 20;

/// What a read from a pipe starts with.
const PIPE_START: usize = 1 << 20;

/// How many bytes of a stream are told by for [`Worth`]: a boot sector and the header behind it.
const FIRST: usize = 0x400;

/// How much of a stream is worth reading, by the first bytes of it; beyond [`MAX_IMAGE`] nothing is read.
pub(super) type Worth = fn(&[u8]) -> usize;

/// The bytes of an image, wherever they live.
#[derive(Debug)]
pub(super) enum Source {
    /// A file, mapped.
    Mapped(Mmap),
    /// Bytes handed over, or lent, by the caller.
    Given(Given),
    /// Bytes unpacked, or read from a pipe.
    UnpackBuffer(UnpackBuffer),
}

/// Bytes of the caller's, whoever keeps them: a vector, or memory that a program in another language lends.
pub struct Given(Box<dyn AsRef<[u8]> + Send + Sync>);

impl Given {
    /// These bytes; what they are kept in is dropped with this.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Given {
        Given(Box::new(bytes))
    }

    /// All of them.
    pub fn as_slice(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_slice().len())
    }
}

impl Source {
    /// Bytes of the caller's.
    pub fn given(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Source {
        Source::Given(Given::new(bytes))
    }

    /// Maps the file at `path`; what cannot be mapped (a pipe, a device, a file of /proc or of some network) is read, as by
    /// [`Source::read`].
    pub fn open(path: &Path, worth: Worth) -> Result<Source> {
        let io = |error: std::io::Error| Error::io(&error);
        let mut file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(Error::new(crate::ErrorKind::Io, "is a directory"));
        }
        if !metadata.is_file() {
            return Source::read(&mut file, worth);
        }
        // SAFETY: nobody may write to the file or truncate it, which nothing on Linux forbids. Every range is checked anew
        // and no byte is trusted because it was valid before: a file that changes gives errors or wrong answers, and one
        // that is truncated ends the process with SIGBUS, as in `ld` and `git`. (A copy would cost a thousand times as much.)
        match unsafe { MmapOptions::new().map_copy_read_only(&file) } {
            Ok(map) if !map.is_empty() => Ok(Source::Mapped(map)),
            Ok(_) => Source::read(&mut file, worth),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
                Source::read(&mut file, worth)
            }
            Err(error) => Err(io(error)),
        }
    }

    /// Reads all there is, up to [`MAX_IMAGE`]; a stream may have no end, so that `worth` of its first bytes says how
    /// much of it is read.
    pub fn read(reader: &mut dyn Read, worth: Worth) -> Result<Source> {
        let mut memory = UnpackBuffer::with_capacity(PIPE_START, MAX_IMAGE, |_| Ok(()))?;
        let mut most = None;
        while most.is_none_or(|most| memory.len() < most) {
            if most.is_none() && memory.len() >= FIRST {
                most = Some(worth(memory.as_slice()));
            }
            match reader.read(memory.spare()?) {
                Ok(0) => break,
                Ok(n) => memory.advance(n),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(&error)),
            }
        }
        memory.finish()?;
        Ok(Source::UnpackBuffer(memory))
    }

    /// All bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Source::Mapped(map) => map,
            Source::Given(bytes) => bytes.as_slice(),
            Source::UnpackBuffer(memory) => memory.as_slice(),
        }
    }
}

/// Bytes that grow as they are written, in anonymous memory advised to be huge pages.
///
/// Page faults are a large part of what unpacking a kernel costs: 66 MB are 16,000 faults with small pages and 32 with
/// huge ones. Capacity is address space only, no page exists before a decoder writes to it.
#[derive(Debug)]
pub(super) struct UnpackBuffer {
    map: MmapMut,
    len: usize,
    limit: usize,
    check: fn(&[u8]) -> Result<()>,
    checked: bool,
}

impl UnpackBuffer {
    /// Memory for about `expected` bytes that refuses to hold more than `limit`. `check` gets to see the first bytes once
    /// there are some, before more is asked for: a stream of the wrong content is not unpacked to its end.
    pub fn with_capacity(expected: usize, limit: usize, check: fn(&[u8]) -> Result<()>) -> Result<UnpackBuffer> {
        let capacity = expected.min(limit).saturating_add(SLACK);
        Ok(UnpackBuffer { map: map(capacity)?, len: 0, limit, check, checked: false })
    }

    /// The room to write into next: not empty, not large. Call [`UnpackBuffer::advance`] with how much was written.
    pub fn spare(&mut self) -> Result<&mut [u8]> {
        self.reserve(1)?;
        let n = self.room().min(CHUNK);
        Ok(&mut self.map[self.len..][..n])
    }

    /// Room for exactly `n` more bytes.
    pub fn spare_exactly(&mut self, n: usize) -> Result<&mut [u8]> {
        self.reserve(n)?;
        Ok(&mut self.map[self.len..][..n])
    }

    /// How much fits without growing.
    pub fn room(&self) -> usize {
        self.map.len().min(self.limit.saturating_add(SLACK)).saturating_sub(self.len)
    }

    /// Nothing more will be written: checks what was.
    pub fn finish(&mut self) -> Result<()> {
        self.reserve(0)?;
        if self.checked { Ok(()) } else { (self.check)(&[]) }
    }

    /// The first `n` bytes of the room were written.
    pub fn advance(&mut self, n: usize) {
        self.len = self.len.saturating_add(n).min(self.map.len());
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.map[..self.len]
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.len
    }

    fn reserve(&mut self, n: usize) -> Result<()> {
        if !self.checked && self.len > 0 {
            self.checked = true;
            (self.check)(self.as_slice())?;
        }
        // A decoder that is done still asks for room to learn that it is, hence the one byte beyond the limit.
        let wanted = self.len.saturating_add(n);
        if wanted > self.limit.saturating_add(SLACK) || self.len > self.limit {
            return Err(Error::image(format!("is larger than {} bytes", self.limit)));
        }
        if wanted > self.map.len() {
            let doubled = self.map.len().saturating_mul(2).min(self.limit.saturating_add(SLACK));
            let mut grown = map(wanted.max(doubled))?;
            grown[..self.len].copy_from_slice(self.as_slice());
            self.map = grown;
        }
        Ok(())
    }
}

/// Anonymous memory for this many bytes, in huge pages where the kernel has some.
pub(super) fn map(capacity: usize) -> Result<MmapMut> {
    // Whole huge pages: since 6.12 the kernel aligns only such a mapping to huge pages.
    let capacity = capacity.checked_next_multiple_of(HUGE_PAGE).unwrap_or(capacity);
    let map = MmapOptions::new().len(capacity).no_reserve_swap().map_anon().map_err(|error| Error::io(&error))?;
    // Only advice: a kernel without huge pages refuses it, and small pages do the same job more slowly.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_and_keeps_its_bytes() {
        let mut memory = UnpackBuffer::with_capacity(0, 1 << 20, |_| Ok(())).unwrap();
        for i in 0..100u8 {
            memory.spare_exactly(1000).unwrap().fill(i);
            memory.advance(1000);
        }
        assert_eq!(memory.len(), 100_000);
        assert!(memory.as_slice().iter().enumerate().all(|(i, &b)| usize::from(b) == i / 1000));
    }

    fn fill(memory: &mut UnpackBuffer) -> Error {
        loop {
            match memory.spare() {
                Ok(spare) => {
                    let n = spare.len();
                    memory.advance(n);
                }
                Err(error) => return error,
            }
        }
    }

    #[test]
    fn memory_refuses_more_than_its_limit() {
        for limit in [10, 10_000, 3_000_000] {
            let mut memory = UnpackBuffer::with_capacity(10, limit, |_| Ok(())).unwrap();
            assert_eq!(fill(&mut memory).to_string(), format!("is larger than {limit} bytes"));
            assert!(memory.len() <= limit + SLACK);
            assert!(memory.spare_exactly(usize::MAX).is_err());
        }
    }

    #[test]
    fn memory_sees_early_that_its_content_is_wrong() {
        let mut memory = UnpackBuffer::with_capacity(1 << 30, 1 << 30, |_| Err(Error::image("wrong"))).unwrap();
        assert_eq!(fill(&mut memory).to_string(), "wrong");
        assert_eq!(memory.len(), CHUNK);
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let source = Source::read(&mut bytes.as_slice(), |_| usize::MAX).unwrap();
        assert_eq!(source.as_slice(), bytes);
    }

    #[test]
    fn of_a_stream_without_end_as_much_is_read_as_it_is_worth() {
        const WORTH: usize = 1 << 20;
        let worth = |first: &[u8]| if first.len() >= FIRST { WORTH } else { 0 };
        let source = Source::read(&mut std::io::repeat(7), worth).unwrap();
        assert!((WORTH..WORTH + CHUNK).contains(&source.as_slice().len()), "{}", source.as_slice().len());
    }

    #[test]
    fn what_cannot_be_mapped_is_read() {
        // Files of /proc have no length, and most cannot be mapped.
        let source = Source::open(Path::new("/proc/self/maps"), |_| usize::MAX).unwrap();
        assert!(!source.as_slice().is_empty());
    }

    #[test]
    fn a_directory_is_no_image() {
        let error = Source::open(Path::new("/"), |_| usize::MAX).unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (crate::ErrorKind::Io, "is a directory"));
    }
}
