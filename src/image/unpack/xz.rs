//! xz and its ancestor `.lzma`, both by liblzma: the x86 branch filter kernels are packed with is beyond most others.

use liblzma::stream::{Action, Status, Stream};

use super::codec::Compression;
use crate::error::{Error, Result};
use crate::image::source::{MAX_IMAGE, UnpackBuffer};

/// What liblzma may allocate besides the output. Its dictionary, allocated at once, is whatever the header says: for kernels
/// that is 32 MiB up to 6.11 and 128 MiB since (`scripts/xz_wrap.sh`), for `lzma -9` it is 64 MiB.
const MAX_WORKING_MEMORY: u64 = 256 << 20;

/// Filter id of the x86 branch converter (the .xz file format, 5.3.2).
const FILTER_X86: u8 = 4;

pub(super) fn unpack_xz(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    run(Compression::Xz, Stream::new_stream_decoder(MAX_WORKING_MEMORY, 0), input, memory)
}

pub(super) fn unpack_lzma(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    run(Compression::Lzma, Stream::new_lzma_decoder(MAX_WORKING_MEMORY), input, memory)
}

fn run(
    compression: Compression,
    stream: std::result::Result<Stream, liblzma::stream::Error>,
    input: &[u8],
    memory: &mut UnpackBuffer,
) -> Result<usize> {
    let mut stream = stream.map_err(|error| compression.corrupt(0, error))?;
    let mut consumed = 0;
    loop {
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let status = stream.process(&input[consumed..], memory.spare()?, Action::Finish);
        let advanced = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(0);
        let (read, written) = (advanced(stream.total_in(), before_in), advanced(stream.total_out(), before_out));
        consumed = consumed.saturating_add(read).min(input.len());
        memory.advance(written);
        match status {
            Ok(Status::StreamEnd) => return Ok(consumed),
            // "Memory needed" is what this binding calls LZMA_BUF_ERROR: no progress was possible, and there was room.
            Ok(Status::MemNeeded) => return Err(compression.truncated(consumed)),
            Ok(_) if read == 0 && written == 0 => return Err(compression.truncated(consumed)),
            Ok(_) => {}
            Err(liblzma::stream::Error::MemLimit) => {
                let limit = MAX_WORKING_MEMORY >> 20;
                let reason = format!("{compression} data wants a dictionary of more than {limit} MiB");
                return Err(Error::image(reason).at_offset(consumed as u64));
            }
            Err(error) => return Err(compression.corrupt(consumed, error)),
        }
    }
}

/// Whether the first block of this xz stream lists the x86 filter (the .xz file format, 3.1).
pub(super) fn has_x86_filter(stream: &[u8]) -> bool {
    // Twelve bytes of stream header, then the block header: size, flags, optional sizes, then the filters.
    let mut rest = stream.get(13..).unwrap_or_default().iter().copied();
    let Some(flags) = rest.next() else { return false };
    // Integers are little-endian base 128. Filter ids of interest have one byte; the sizes are only skipped.
    let mut skip_integer = || rest.by_ref().take(9).find(|byte| byte & 0x80 == 0);
    for present in [0x40, 0x80] {
        if flags & present != 0 && skip_integer().is_none() {
            return false;
        }
    }
    // The x86 filter transforms what LZMA2 packed, so it stands first: the last filter is always the compressor.
    flags & 3 != 0 && rest.next() == Some(FILTER_X86)
}

/// Whether these bytes look like the header of a `.lzma` file. It has no magic: properties, dictionary size, then the
/// unpacked size. Kernels and `lzma -9` use the default properties 0x5d (lc 3, lp 0, pb 2).
pub(super) fn begins_lzma(bytes: &[u8]) -> bool {
    let Some((&[properties, d0, d1, d2, d3, ref size @ ..], _)) = bytes.split_first_chunk::<13>() else { return false };
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let size = u64::from_le_bytes(*size);
    // Encoders write 2^n or 2^n + 2^(n-1), and all ones for a size they did not know, as at the end of a pipe.
    let top_bits =
        dictionary.count_ones() == 1 || (dictionary.count_ones() == 2 && dictionary & (dictionary << 1) != 0);
    properties == 0x5d && dictionary >= 4096 && top_bits && (size == u64::MAX || size <= MAX_IMAGE as u64)
}
