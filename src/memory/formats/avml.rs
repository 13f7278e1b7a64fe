//! AVML's compressed format, version 2: before each block of physical memory a header as LiME's, then the block as a framed
//! Snappy stream, then the length of that stream (AVML's `src/image.rs`). Blocks of zeros are left out.
//!
//! A framed stream is chunks of at most 64 KiB, each packed by itself behind a byte that says how and three for its length;
//! where each begins is noted when the dump is opened, and a chunk is unpacked when something in it is asked for.

use std::io::Read;
use std::sync::Arc;

use super::dump::{Content, Dump, Opened};
use super::notes::Notes;
use crate::error::{Error, Result};
use crate::memory::frames::Frames;
use crate::memory::kind::MemoryKind;
use crate::memory::pages::{Cache, Pages};
use crate::memory::space::{Extent, Space};
use crate::memory::store::Store;
use crate::numbers::u64_at;

const MAGIC: [u8; 4] = *b"AVML";
const HEADER: u64 = 32;
/// The chunk that every framed stream begins with (Snappy's `framing_format.txt`).
const STREAM: &[u8; 10] = b"\xff\x06\x00\x00sNaPpY";
const COMPRESSED: u8 = 0;
const UNCOMPRESSED: u8 = 1;
/// Bytes of a chunk, unpacked, at most.
const CHUNK: u64 = 1 << 16;
/// Bytes of a chunk, packed, at most: with its checksum.
const PACKED: u64 = 4 + 32 + CHUNK + CHUNK / 6;
/// More chunks than 16 TiB of memory have.
const MAX_CHUNKS: usize = 1 << 28;
/// How many chunks are kept unpacked.
const CACHED: usize = 16;

/// A chunk of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    /// The physical address of its first byte.
    address: u64,
    /// Where its header is in the file.
    offset: u64,
    /// How many bytes it has unpacked.
    size: u32,
    /// How many it has in the file behind its header.
    packed: u32,
}

struct Avml {
    store: Arc<Store>,
    /// By address; none overlaps.
    chunks: Vec<Chunk>,
    cache: Cache,
}

pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    if !dump.begins_with(&MAGIC) {
        return Ok(None);
    }
    let store = Arc::clone(&dump.store);
    let mut chunks = Vec::new();
    let mut at = 0;
    for block in 0.. {
        if at >= store.len() {
            break;
        }
        at = read_block(&store, at, &mut chunks).map_err(|error| error.in_section(&format!("block {block}")))?;
    }
    chunks.sort_by_key(|chunk: &Chunk| chunk.address);
    if let Some(pair) = chunks.windows(2).find(|pair| pair[0].address + u64::from(pair[0].size) > pair[1].address) {
        let reason = format!("memory at {:#x} is there twice", pair[1].address);
        return Err(Error::memory(reason).at_offset(pair[1].offset));
    }
    let mut extents: Vec<Extent> = Vec::new();
    for chunk in &chunks {
        let (address, size) = (chunk.address, u64::from(chunk.size));
        match extents.last_mut() {
            Some(last) if last.address + last.size == address => last.size += size,
            _ => extents.push(Extent { address, size, offset: address }),
        }
    }
    Ok(Some(Opened {
        kind: MemoryKind::Avml,
        content: Content::Pages(Box::new(Avml { store, chunks, cache: Cache::new(CACHED) })),
        physical: Space::new(extents),
        virtual_: Space::default(),
        notes: Notes::default(),
        remarks: Vec::new(),
        frames: Frames::default(),
    }))
}

/// Notes the chunks of a block; returns where the next block begins.
fn read_block(store: &Store, start: u64, chunks: &mut Vec<Chunk>) -> Result<u64> {
    let refuse = |reason: String, at: u64| Err(Error::memory(reason).at_offset(at));
    let header = store.read_exactly(start, HEADER as usize, "a block's header")?;
    let word = |at: usize| u64_at(&header, at).unwrap_or(0);
    let (version, address, last) = (word(0) >> 32, word(8), word(16));
    if !header.starts_with(&MAGIC) || version != 2 {
        return refuse("does not begin with AVML's magic and version 2".to_owned(), start);
    }
    let Some(end) = last.checked_add(1).filter(|&end| end > address) else {
        return refuse(format!("ends at {last:#x}, before it begins at {address:#x}"), start);
    };
    let (mut next, stream) = (address, start + HEADER);
    let mut at = stream;
    while next < end {
        let head = store.read_exactly(at, 4, "the header of a chunk")?;
        let packed = u64::from(u32::from_le_bytes([head[1], head[2], head[3], 0]));
        let behind = at + 4 + packed;
        if behind > store.len() {
            return refuse(format!("is truncated: a chunk of {packed} bytes leaves the file"), at);
        }
        let size = match head[0] {
            COMPRESSED => {
                let most = packed.saturating_sub(4).min(10) as usize;
                let length = store.read_exactly(at + 8, most, "the length of a chunk")?;
                snap::raw::decompress_len(&length).ok().map_or(0, |size| size as u64)
            }
            UNCOMPRESSED => packed.saturating_sub(4),
            // The stream's beginning, padding, and what readers shall skip.
            0x80..=0xff => {
                at = behind;
                continue;
            }
            kind => return refuse(format!("a chunk of kind {kind:#x}, which nothing is known of"), at),
        };
        if size == 0 || size > CHUNK || packed > PACKED || size > end - next {
            return refuse(
                format!("a chunk of {packed} bytes for {size} of memory, of which {} are left", end - next),
                at,
            );
        }
        // But for the last of a block they are whole, and so as many as memory has.
        if size < CHUNK && next + size < end || chunks.len() >= MAX_CHUNKS {
            return refuse(format!("a chunk of {size} bytes in the middle of a block"), at);
        }
        chunks.push(Chunk { address: next, offset: at, size: size as u32, packed: packed as u32 });
        (next, at) = (next + size, behind);
    }
    let length = store.read_exactly(at, 8, "the length of a block's stream")?;
    let length = u64_at(&length, 0).unwrap_or(0);
    if length != at - stream {
        return refuse(format!("a stream of {} bytes that is said to have {length}", at - stream), at);
    }
    Ok(at + 8)
}

impl Avml {
    /// Unpacks a chunk; its checksum is held to what comes out.
    fn unpack(&self, chunk: &Chunk) -> Result<Vec<u8>> {
        let what = format!("memory at {:#x}", chunk.address);
        let mut packed = STREAM.to_vec();
        packed.extend(self.store.read_exactly(chunk.offset, 4 + chunk.packed as usize, &what)?);
        let mut bytes = Vec::with_capacity(chunk.size as usize);
        let read = snap::read::FrameDecoder::new(packed.as_slice()).take(CHUNK + 1).read_to_end(&mut bytes);
        let refuse =
            |reason: String| Err(Error::memory(format!("{what} cannot be unpacked: {reason}")).at_offset(chunk.offset));
        match read {
            Ok(size) if size == chunk.size as usize => Ok(bytes),
            Ok(size) => refuse(format!("{size} bytes come out, not {}", chunk.size)),
            Err(error) => refuse(error.to_string()),
        }
    }
}

impl Pages for Avml {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<bool> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset.wrapping_add(done as u64);
            let after = self.chunks.partition_point(|chunk| chunk.address <= at);
            let Some(chunk) = after.checked_sub(1).and_then(|i| self.chunks.get(i)) else { return Ok(false) };
            let within = (at - chunk.address) as usize;
            let Some(room) = (chunk.size as usize).checked_sub(within).filter(|&room| room > 0) else {
                return Ok(false);
            };
            let Some(bytes) = self.cache.get(chunk.address, || self.unpack(chunk).map(Some))? else { return Ok(false) };
            let n = room.min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&bytes[within..within + n]);
            done += n;
        }
        Ok(true)
    }
}
