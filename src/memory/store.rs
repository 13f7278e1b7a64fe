//! Where the bytes of a dump are: a file that is read where needed and never mapped or slurped, or bytes of the caller's.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};

use super::space::Extent;
use crate::error::{Error, Result};
use crate::image::Given;

/// So many holes of a file are counted.
const MOST_HOLES: usize = 1024;

/// The bytes of a dump.
#[derive(Debug)]
pub(super) enum Store {
    /// A file and its length. Reading at offsets needs no memory, and a file that is cut while it is read gives an error.
    File(File, u64),
    /// Bytes of the caller's.
    Bytes(Given),
    /// Pieces of another, by where they belong; what none of them covers is 0.
    Pieces(Arc<Store>, Vec<Extent>, u64),
}

impl Store {
    /// Opens a file; a pipe cannot be read at offsets and is refused.
    pub fn open(path: &Path) -> Result<Store> {
        let file = File::open(path).map_err(|error| Error::io(&error))?;
        let metadata = file.metadata().map_err(|error| Error::io(&error))?;
        if metadata.is_dir() {
            return Err(Error::new(crate::ErrorKind::Io, "is a directory"));
        }
        if !metadata.is_file() {
            return Err(Error::new(
                crate::ErrorKind::Io,
                "is no file: memory is read at offsets, which a pipe has not",
            ));
        }
        Ok(Store::File(file, metadata.len()))
    }

    /// `/proc/kcore`, which has a length that says nothing: it ends where its headers say.
    pub fn open_endless(path: &Path) -> Result<Store> {
        Ok(Store::File(File::open(path).map_err(|error| Error::io(&error))?, u64::MAX))
    }

    /// Pieces of another, by address; none overlaps.
    pub fn pieces(of: Arc<Store>, pieces: Vec<Extent>) -> Store {
        let len = pieces.last().map_or(0, |last| last.address + last.size);
        Store::Pieces(of, pieces, len)
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self {
            Store::Pieces(_, _, len) => *len,
            Store::File(_, len) => *len,
            Store::Bytes(bytes) => bytes.as_slice().len() as u64,
        }
    }

    /// Reads at an offset; how many bytes there were, fewer than asked for only at the end.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Store::Pieces(of, pieces, len) => {
                let n = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
                let buffer = &mut buffer[..n];
                buffer.fill(0);
                let end = offset.saturating_add(n as u64);
                let from = pieces.partition_point(|piece| piece.address + piece.size <= offset);
                for piece in pieces.get(from..).unwrap_or_default().iter().take_while(|piece| piece.address < end) {
                    let (start, stop) = (piece.address.max(offset), (piece.address + piece.size).min(end));
                    let part = &mut buffer[(start - offset) as usize..(stop - offset) as usize];
                    let read = of.read(piece.offset + (start - piece.address), part)?;
                    if read < part.len() {
                        return Ok((start - offset) as usize + read);
                    }
                }
                Ok(n)
            }
            Store::Bytes(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.as_slice().get(at..)).unwrap_or_default();
                let n = rest.len().min(buffer.len());
                buffer[..n].copy_from_slice(&rest[..n]);
                Ok(n)
            }
            Store::File(file, _) => {
                let mut done = 0;
                while done < buffer.len() {
                    let at = offset.saturating_add(done as u64);
                    match file.read_at(&mut buffer[done..], at) {
                        Ok(0) => break,
                        Ok(n) => done += n,
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(Error::io(&error).at_offset(at)),
                    }
                }
                Ok(done)
            }
        }
    }

    /// The first offset from this one on at which there may be anything but zeros: what a file never had written takes no
    /// place on its disk, and is passed over. The length, where nothing follows.
    pub fn data(&self, offset: u64) -> u64 {
        match self {
            Store::Bytes(_) => offset,
            Store::File(file, len) => match seek(file, SeekFrom::Data(offset)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => offset.max(*len),
                // A file system that does not know its holes.
                Err(_) => offset,
            },
            Store::Pieces(of, pieces, len) => {
                let from = pieces.partition_point(|piece| piece.address + piece.size <= offset);
                let written = pieces.get(from..).unwrap_or_default().iter().find_map(|piece| {
                    let start = offset.saturating_sub(piece.address);
                    let data = of.data(piece.offset + start) - piece.offset;
                    (data < piece.size).then_some(piece.address + data)
                });
                written.unwrap_or(offset.max(*len))
            }
        }
    }

    /// How many bytes of a file are holes; of a file in very many pieces, of its beginning.
    pub fn holes(&self) -> u64 {
        let Store::File(file, len) = self else { return 0 };
        let (mut at, mut holes) = (0, 0);
        for _ in 0..MOST_HOLES {
            let data = self.data(at);
            holes += data - at;
            match seek(file, SeekFrom::Hole(data)) {
                Ok(hole) if hole > data && hole < *len => at = hole,
                _ => break,
            }
        }
        holes
    }

    /// This much at an offset, where it is: only bytes of the caller's are in this process.
    pub fn lent(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let Store::Bytes(bytes) = self else { return None };
        bytes.as_slice().get(usize::try_from(offset).ok()?..)?.get(..len)
    }

    /// Reads exactly this much, or says that the file ends.
    pub fn read_exactly(&self, offset: u64, len: usize, what: &str) -> Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        if self.read(offset, &mut buffer)? < len {
            let reason = format!("is truncated: {what} needs {len} bytes, the file has {}", self.len());
            return Err(Error::memory(reason).at_offset(offset));
        }
        Ok(buffer)
    }
}
