//! The container of `lzop` around LZO1X blocks. Integers are big-endian (`lib/decompress_unlzo.c` reads the same parts).

use flate2::Crc;

use super::codec::Compression;
use crate::error::{Error, Result};
use crate::image::source::UnpackBuffer;

/// First bytes of an lzop file.
pub(super) const MAGIC: [u8; 9] = *b"\x89LZO\0\r\n\x1a\n";

/// The largest block lzop itself writes is 256 KiB; its format allows 64 MiB.
const MAX_BLOCK: usize = 64 << 20;

const VERSION_WITH_LEVEL: u16 = 0x0940;
const HAS_FILTER: u32 = 0x800;
const HAS_EXTRA_FIELD: u32 = 0x40;
const ADLER32_UNPACKED: u32 = 0x1;
const ADLER32_PACKED: u32 = 0x2;
const CRC32_UNPACKED: u32 = 0x100;
const CRC32_PACKED: u32 = 0x200;

pub(super) fn unpack(input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
    let mut cursor = Cursor { input, at: MAGIC.len() };
    let flags = header(&mut cursor)?;
    loop {
        let start = cursor.at;
        let unpacked = cursor.u32()? as usize;
        if unpacked == 0 {
            return Ok(cursor.at);
        }
        let packed = cursor.u32()? as usize;
        if unpacked > MAX_BLOCK || packed > unpacked {
            return Err(Compression::Lzo.corrupt(start, format!("a block of {packed} bytes for {unpacked}")));
        }
        let sums = Checksums::read(&mut cursor, flags, packed < unpacked)?;
        let at = cursor.at;
        let data = cursor.take(packed)?;
        sums.check_packed(data).map_err(|name| Compression::Lzo.corrupt(at, format!("{name} of a packed block")))?;
        let room = memory.spare_exactly(unpacked)?;
        if packed == unpacked {
            // lzop stores what does not get smaller.
            room.copy_from_slice(data);
        } else {
            let written = lzokay::decompress::decompress(data, room)
                .map_err(|error| Compression::Lzo.corrupt(at, format!("{error:?}")))?;
            if written != unpacked {
                return Err(Compression::Lzo.corrupt(at, format!("a block of {unpacked} bytes unpacks to {written}")));
            }
        }
        sums.check_unpacked(room).map_err(|name| Compression::Lzo.corrupt(at, format!("{name} of a block")))?;
        memory.advance(unpacked);
    }
}

/// Reads the file header; returns its flags.
fn header(cursor: &mut Cursor<'_>) -> Result<u32> {
    let version = cursor.u16()?;
    cursor.take(2)?; // version of the library
    if version >= VERSION_WITH_LEVEL {
        cursor.take(2)?; // version needed
    }
    let method = cursor.u8()?;
    if !(1..=3).contains(&method) {
        return Err(Compression::Lzo.corrupt(cursor.at, format!("method {method} is unknown")));
    }
    if version >= VERSION_WITH_LEVEL {
        cursor.take(1)?; // level
    }
    let flags = cursor.u32()?;
    if flags & (HAS_FILTER | HAS_EXTRA_FIELD) != 0 {
        return Err(Error::image("lzo data with a filter or an extra field is not supported")
            .at_offset(cursor.at.saturating_sub(4) as u64));
    }
    cursor.take(8)?; // mode, mtime
    if version >= VERSION_WITH_LEVEL {
        cursor.take(4)?; // high half of mtime
    }
    let name = cursor.u8()?;
    cursor.take(usize::from(name))?;
    cursor.take(4)?; // checksum of this header
    Ok(flags)
}

/// The checksums that stand before a block. At most one of each kind is in use; lzop's default is Adler-32, unpacked.
struct Checksums {
    unpacked: [Option<u32>; 2],
    packed: [Option<u32>; 2],
}

impl Checksums {
    fn read(cursor: &mut Cursor<'_>, flags: u32, is_packed: bool) -> Result<Checksums> {
        let mut word = |flag: u32, wanted: bool| (flags & flag != 0 && wanted).then(|| cursor.u32()).transpose();
        let unpacked = [word(ADLER32_UNPACKED, true)?, word(CRC32_UNPACKED, true)?];
        // A stored block has only one pair: packed and unpacked are the same bytes.
        let packed = [word(ADLER32_PACKED, is_packed)?, word(CRC32_PACKED, is_packed)?];
        Ok(Checksums { unpacked, packed })
    }

    fn check_packed(&self, data: &[u8]) -> std::result::Result<(), &'static str> {
        check(self.packed, data)
    }

    fn check_unpacked(&self, data: &[u8]) -> std::result::Result<(), &'static str> {
        check(self.unpacked, data)
    }
}

fn check([adler, crc]: [Option<u32>; 2], data: &[u8]) -> std::result::Result<(), &'static str> {
    if adler.is_some_and(|sum| sum != adler32(data)) {
        return Err("wrong Adler-32");
    }
    if crc.is_some_and(|sum| sum != crc32(data)) {
        return Err("wrong CRC-32");
    }
    Ok(())
}

fn crc32(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

/// Adler-32 (RFC 1950, section 9).
fn adler32(data: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    let (mut a, mut b) = (1u32, 0u32);
    // 5552 is the most bytes before `b` could leave 32 bits.
    for chunk in data.chunks(5552) {
        for &byte in chunk {
            a += u32::from(byte);
            b += a;
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}

struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.saturating_add(n);
        let bytes = self.input.get(self.at..end).ok_or_else(|| Compression::Lzo.truncated(self.input.len()))?;
        self.at = end;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?.iter().copied().sum())
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from(self.u8()?) << 8 | u16::from(self.u8()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adler32_is_that_of_rfc_1950() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(&[0xff; 100_000]), 0x149a_302c);
    }
}
