//! The compressions a kernel may be packed with: one file a format, all of them `(input, memory) → bytes consumed`.

mod bzip2;
mod codec;
mod gzip;
mod lz4;
mod lzo;
mod xz;
mod zstd;

pub use codec::Compression;

use super::source::UnpackBuffer;
use crate::error::Result;

impl Compression {
    /// The compression whose stream these bytes begin, from the magic.
    pub fn detect(bytes: &[u8]) -> Option<Compression> {
        // Patterns, so that a search which asks at every offset of a file is decided by the first byte.
        Some(match *bytes {
            // RFC 1952: magic, then method 8, the only one ever defined.
            [0x1f, 0x8b, 8, ..] => Compression::Gzip,
            // The block size, then the first block's magic (pi in BCD).
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Compression::Bzip2,
            [0x5d, ..] if xz::begins_lzma(bytes) => Compression::Lzma,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x89, ..] if bytes.starts_with(&lzo::MAGIC) => Compression::Lzo,
            // 0x184C2102 and 0xFD2FB528, little-endian.
            [0x02, 0x21, 0x4c, 0x18, ..] => Compression::Lz4,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => return None,
        })
    }

    /// Whether a stream of this kind that starts here runs its data through the x86 branch filter first.
    pub(in crate::image) fn has_bcj(self, stream: &[u8]) -> bool {
        self == Compression::Xz && xz::has_x86_filter(stream)
    }

    /// The unpacked size that a whole payload declares: gzip keeps it in its own last four bytes, behind the others the
    /// kernel's build appends it (`size_append` in `scripts/Makefile.lib`). It may be wrong.
    pub(in crate::image) fn declared_size(self, payload: &[u8]) -> Option<usize> {
        let last = || Some(u64::from(u32::from_le_bytes(*payload.last_chunk()?)));
        let size = match self {
            Compression::Zstd => zstd::content_size(payload).or_else(last),
            _ => last(),
        };
        usize::try_from(size?).ok()
    }

    /// Unpacks the stream at the start of `input` to the end of `memory`; returns how much of `input` it took.
    pub(in crate::image) fn unpack(self, input: &[u8], memory: &mut UnpackBuffer) -> Result<usize> {
        match self {
            Compression::Gzip => gzip::unpack(input, memory),
            Compression::Bzip2 => bzip2::unpack(input, memory),
            Compression::Lzma => xz::unpack_lzma(input, memory),
            Compression::Xz => xz::unpack_xz(input, memory),
            Compression::Lzo => lzo::unpack(input, memory),
            Compression::Lz4 => lz4::unpack(input, memory),
            Compression::Zstd => zstd::unpack(input, memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magics_tell_the_formats_apart() {
        assert_eq!(Compression::detect(&[0x1f, 0x8b, 8, 0]), Some(Compression::Gzip));
        assert_eq!(Compression::detect(b"BZh91AY&SY"), Some(Compression::Bzip2));
        assert_eq!(Compression::detect(b"BZh9 not bzip2"), None);
        assert_eq!(Compression::detect(&[0xfd, b'7', b'z', b'X', b'Z', 0]), Some(Compression::Xz));
        assert_eq!(Compression::detect(&[0x02, 0x21, 0x4c, 0x18]), Some(Compression::Lz4));
        assert_eq!(Compression::detect(&[0x28, 0xb5, 0x2f, 0xfd]), Some(Compression::Zstd));
        assert_eq!(Compression::detect(b"\x89LZO\0\r\n\x1a\n"), Some(Compression::Lzo));
        assert_eq!(Compression::detect(b""), None);
        assert_eq!(Compression::detect(b"\x7fELF"), None);
    }
}
