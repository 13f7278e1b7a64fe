//! The legacy lz4 frame: a magic, then blocks of a length and data, each up to 8 MiB unpacked. Blocks know nothing of
//! each other, and nothing marks the end (`doc/lz4_Frame_format.md` of lz4; `lib/decompress_unlz4.c`).

use super::codec::Compression;
use crate::error::Result;
use crate::image::source::UnpackBuffer;

/// First bytes of a frame.
const MAGIC: [u8; 4] = 0x184c_2102u32.to_le_bytes();

/// What a block unpacks to, except the last (`LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE`).
const BLOCK: usize = 8 << 20;

/// The longest a packed block can be (`LZ4_COMPRESSBOUND`).
const MAX_PACKED: usize = BLOCK + BLOCK / 255 + 16;

pub(super) fn unpack(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    let mut at = MAGIC.len();
    loop {
        let rest = input.get(at..).unwrap_or_default();
        // Exactly four bytes left are no block, as that would have data: they are the appended size.
        let Some((length, data @ [_, ..])) = rest.split_first_chunk::<4>() else { return Ok(at.min(input.len())) };
        let length = u32::from_le_bytes(*length) as usize;
        if length as u32 == u32::from_le_bytes(MAGIC) {
            // Frames may be concatenated: another magic starts the next one.
            at = at.saturating_add(4);
            continue;
        }
        // The size that the kernel's build appends: longer than any block can be, or just what was unpacked.
        if length > MAX_PACKED || length == memory.len() {
            return Ok(at);
        }
        let Some(block) = data.get(..length) else { return Err(Compression::Lz4.truncated(input.len())) };
        // No header says what a block unpacks to. The room left is enough where the size of the whole was known.
        let room = memory.room().clamp(1, BLOCK);
        let mut result = lz4_flex::block::decompress_into(block, memory.spare_exactly(room)?);
        if result.is_err() && room < BLOCK {
            result = lz4_flex::block::decompress_into(block, memory.spare_exactly(BLOCK)?);
        }
        let written = result.map_err(|error| Compression::Lz4.corrupt(at, error))?;
        memory.advance(written);
        at = at.saturating_add(4).saturating_add(length);
    }
}
