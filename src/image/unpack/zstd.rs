//! Zstandard (RFC 8878), by libzstd.

use ::zstd::zstd_safe::{self, DCtx, InBuffer, OutBuffer};

use super::codec::Compression;
use crate::error::Result;
use crate::image::source::UnpackBuffer;

/// The unpacked size in the header of the frame at the start of `input`, where it has one.
pub(super) fn content_size(input: &[u8]) -> Option<u64> {
    zstd_safe::get_frame_content_size(input).ok().flatten()
}

pub(super) fn unpack(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    // In one go into one buffer, matches are copied from the output itself. The stream decoder keeps a window of its own (128
    // MiB for a kernel), small pages again, and copies everything once more: half as fast. It is for frames whose size
    // nobody knows. (Frames packed through a pipe, as kernels are, do not say; then the room is the declared size.)
    let size = content_size(input).and_then(|size| usize::try_from(size).ok()).unwrap_or(memory.room());
    if let Ok(length) = zstd_safe::find_frame_compressed_size(input)
        && let Some(frame) = input.get(..length)
        && size <= memory.room()
        && let Ok(written) = DCtx::create().decompress(memory.spare_exactly(size)?, frame)
    {
        memory.advance(written);
        return Ok(length);
    }
    stream(input, memory)
}

fn stream(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    let mut context = DCtx::create();
    let mut source = InBuffer::around(input);
    loop {
        let mut room = OutBuffer::around(memory.spare()?);
        let before = source.pos();
        let result = context.decompress_stream(&mut room, &mut source);
        let written = room.pos();
        memory.advance(written);
        match result {
            // "Zero: a frame is completely decoded and fully flushed."
            Ok(0) => return Ok(source.pos()),
            Ok(_) if written == 0 && source.pos() == before => return Err(Compression::Zstd.truncated(before)),
            Ok(_) => {}
            Err(code) => return Err(Compression::Zstd.corrupt(source.pos(), zstd_safe::get_error_name(code))),
        }
    }
}
