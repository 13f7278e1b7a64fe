//! Where the bytes of an image live: mapped, owned, or unpacked into memory of our own.

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

/// What a read from a pipe starts with.
const PIPE_START: usize = 1 << 20;

/// The bytes of an image, wherever they live.
#[derive(Debug)]
pub(super) enum Source {
    /// A file, mapped.
    Mapped(Mmap),
    /// Bytes handed over by the caller.
    Owned(Vec<u8>),
    /// Bytes unpacked, or read from a pipe.
    Memory(Memory),
}

impl Source {
    /// Maps the file at `path`; what cannot be mapped (a pipe, a character device) is read.
    pub fn open(path: &Path) -> Result<Source> {
        let io = |error: std::io::Error| Error::io(&error);
        let mut file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(Error::new(crate::ErrorKind::Io, "is a directory"));
        }
        if !metadata.is_file() {
            return Source::read(&mut file);
        }
        // SAFETY: the slice is only sound while nobody writes to or truncates the file. We cannot forbid that: mandatory
        // locks do not exist on Linux, and reading 66 MB instead costs a thousand times as much. The pages are mapped
        // private and read-only, nothing in this crate keeps references that outlive the map or trusts a byte because
        // an earlier read of it was valid: ranges are checked on every access, so a file changed under us gives
        // errors or wrong answers, and one truncated under us ends the process with SIGBUS, as it does in `ld` or `git`.
        let map = unsafe { MmapOptions::new().map_copy_read_only(&file) }.map_err(io)?;
        Ok(Source::Mapped(map))
    }

    /// Reads all there is, up to [`MAX_IMAGE`].
    pub fn read(reader: &mut dyn Read) -> Result<Source> {
        let mut memory = Memory::with_capacity(PIPE_START, MAX_IMAGE)?;
        loop {
            match reader.read(memory.spare()?) {
                Ok(0) => return Ok(Source::Memory(memory)),
                Ok(n) => memory.advance(n),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(&error)),
            }
        }
    }

    /// All bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Source::Mapped(map) => map,
            Source::Owned(bytes) => bytes,
            Source::Memory(memory) => memory.as_slice(),
        }
    }
}

/// Bytes that grow as they are written, in anonymous memory advised to be huge pages.
///
/// Page faults are a large part of what unpacking a kernel costs: 66 MB are 16,000 faults with small pages and 32 with
/// huge ones. Capacity is address space only, no page exists before a decoder writes to it.
#[derive(Debug)]
pub(super) struct Memory {
    map: MmapMut,
    len: usize,
    limit: usize,
}

impl Memory {
    /// Memory for about `expected` bytes that refuses to hold more than `limit`.
    pub fn with_capacity(expected: usize, limit: usize) -> Result<Memory> {
        let capacity = expected.min(limit).saturating_add(SLACK);
        Ok(Memory { map: map(capacity)?, len: 0, limit })
    }

    /// The room to write into next: never empty. Call [`Memory::advance`] with how much was written.
    pub fn spare(&mut self) -> Result<&mut [u8]> {
        self.reserve(1)?;
        Ok(&mut self.map[self.len..])
    }

    /// Room for at least `n` more bytes.
    pub fn spare_at_least(&mut self, n: usize) -> Result<&mut [u8]> {
        self.reserve(n)?;
        Ok(&mut self.map[self.len..])
    }

    /// How much fits without growing.
    pub fn room(&self) -> usize {
        self.map.len().saturating_sub(self.len)
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
        // A decoder that is done still asks for room to learn that it is, hence the one byte beyond the limit.
        let wanted = self.len.saturating_add(n);
        if wanted > self.limit.saturating_add(SLACK) || self.len > self.limit {
            return Err(Error::image(format!("is larger than {} bytes unpacked", self.limit)));
        }
        if wanted > self.map.len() {
            let capacity = wanted.max(self.map.len().saturating_mul(2)).min(self.limit.saturating_add(SLACK));
            let mut grown = map(capacity)?;
            grown[..self.len].copy_from_slice(self.as_slice());
            self.map = grown;
        }
        Ok(())
    }
}

fn map(capacity: usize) -> Result<MmapMut> {
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
        let mut memory = Memory::with_capacity(0, 1 << 20).unwrap();
        for i in 0..100u8 {
            let spare = memory.spare_at_least(1000).unwrap();
            spare[..1000].fill(i);
            memory.advance(1000);
        }
        assert_eq!(memory.len(), 100_000);
        assert!(memory.as_slice().iter().enumerate().all(|(i, &b)| usize::from(b) == i / 1000));
    }

    #[test]
    fn memory_refuses_more_than_its_limit() {
        let mut memory = Memory::with_capacity(10, 10_000).unwrap();
        let error = loop {
            match memory.spare() {
                Ok(spare) => {
                    let n = spare.len();
                    memory.advance(n);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), "is larger than 10000 bytes unpacked");
        assert!(memory.len() <= 10_000 + SLACK);
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let source = Source::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(source.as_slice(), bytes);
    }
}
